//! The program: loads the model, listens, and speaks HTTP with whoever connects.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use muse::{Engine, EngineOptions, Error, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use super::server::Studio;
use crate::options::{StudioArgs, model_dir};

/// How long a browser may take for the head of a request, an idle connection waiting for the next one included.
const HEAD: Duration = Duration::from_secs(10);
/// How long it may take to read what fills the connection.
const READING: Duration = Duration::from_secs(30);
/// Most connections; others wait to be accepted.
const CONNECTIONS: usize = 128;

pub fn run(arguments: StudioArgs) -> Result<()> {
    let StudioArgs { model, device, dtype, threads, listen, host } = arguments;
    let options = EngineOptions { device, dtype, threads, ..EngineOptions::default() };
    let engine = Engine::load(model_dir(model.model)?, options)?;
    engine.model_hash()?; // a part of every picture: computed before the first one waits for it
    let failed =
        |action| move |source| Error::Io { path: listen.to_string().into(), action, source };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(failed("starting threads"))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(failed("listening"))?;
        let address = listener.local_addr().map_err(failed("listening"))?;
        let studio = Studio::new(engine, address, &host);
        println!("{}", studio.address());
        eprintln!("{} on {}; Ctrl-C ends it", studio.engine.name(), studio.engine.device());
        serve(listener, studio.router()).await;
        Ok(())
    })
}

/// Until Ctrl-C.
async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut end = pin!(tokio::signal::ctrl_c());
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.expect("it is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            _ = &mut end => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, perhaps: some will be given back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let connection = speak(stream, router.clone(), READING);
        tokio::spawn(async move {
            let _ = connection.await; // an error is the browser's who left
            drop(place);
        });
    }
}

/// Answers the requests of a connection, until it is closed or its other end stops listening.
async fn speak(stream: TcpStream, router: Router, reading: Duration) -> hyper::Result<()> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(reading));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let service = TowerToHyperService::new(router);
    http.serve_connection(TokioIo::new(Box::pin(stream)), service).await
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::body::{Body, Bytes};
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn who_does_not_read_is_left() {
        let endless = || async {
            let chunk = || Ok::<_, std::convert::Infallible>(Bytes::from(vec![0; 1 << 16]));
            Body::from_stream(tokio_stream::iter(std::iter::repeat_with(chunk)))
        };
        let router = Router::new().route("/", get(endless));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut reader = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        reader.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let spoken = speak(stream, router, Duration::from_millis(50));
        let spoken = tokio::time::timeout(Duration::from_secs(60), spoken).await;
        assert!(spoken.expect("the connection is closed").is_err());
    }
}

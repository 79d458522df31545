//! `muse studio`: a page on this machine that shows the engine at work.

mod guard;
mod job;
mod line;
mod server;

use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use muse::{Engine, EngineOptions, Error, Result};
use tokio::net::TcpListener;

use crate::options::{StudioArgs, model_dir};
use server::Studio;

/// How long a browser may take for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);

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
        serve(listener, studio).await;
        Ok(())
    })
}

/// Until Ctrl-C.
async fn serve(listener: TcpListener, studio: Studio) {
    let router = studio.router();
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tokio::signal::ctrl_c() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, perhaps: some will be given back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection); // an error is the browser's who left
    }
}

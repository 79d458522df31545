//! The server: a page, what it needs to know of the model, and jobs whose events are streamed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Bytes, HttpBody};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use muse::{Cancel, Engine, Error, Request};
use serde_json::json;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};

use super::guard::guard;
use super::job::{self, Event, Order};
use super::line::{Line, Place};

/// Most bytes of a job: an image and its mask.
const LARGEST: usize = 32 << 20;
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Events that a page may be behind.
const BEHIND: usize = 16;

/// What all requests share.
#[derive(Clone)]
pub struct Studio {
    pub engine: Arc<Engine>,
    pub line: Arc<Line>,
    /// One job is read at a time: its pictures may unfold to many times their files.
    reading: Arc<Semaphore>,
    /// Host headers that are answered.
    pub hosts: Arc<[String]>,
    pub listening: SocketAddr,
}

impl Studio {
    pub fn new(engine: Engine, listening: SocketAddr, names: &[String]) -> Self {
        let port = listening.port();
        let own = ["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{port}"));
        // A browser leaves out the port of its scheme.
        let named = names.iter().flat_map(|name| [name.clone(), format!("{name}:{port}")]);
        let all = own.into_iter().chain([listening.to_string()]).chain(named);
        let hosts = all.collect::<Vec<_>>().into();
        let reading = Arc::new(Semaphore::new(1));
        Studio { engine: Arc::new(engine), line: Line::new(), reading, hosts, listening }
    }

    /// Where the page is.
    pub fn address(&self) -> String {
        match self.listening.ip().is_unspecified() {
            true => format!("http://localhost:{}", self.listening.port()),
            false => format!("http://{}", self.listening),
        }
    }

    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(|| file("text/html", include_str!("page/index.html"))))
            .route("/studio.css", get(|| file("text/css", include_str!("page/studio.css"))))
            .route("/studio.js", get(|| file("text/javascript", include_str!("page/studio.js"))))
            .route("/health", get(health))
            .route("/model", get(model))
            .route("/jobs", post(run))
            .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "no such page".into()))
            .method_not_allowed_fallback(async || {
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "no such method here".into())
            })
            .layer(DefaultBodyLimit::max(LARGEST))
            .layer(middleware::from_fn_with_state(self.clone(), guard))
            .with_state(self)
    }
}

/// An answer that is none.
pub struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, message: String) -> Self {
        Refusal { status, message }
    }

    fn of(error: &Error) -> Self {
        let status = match error {
            Error::Option { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Io { .. } => StatusCode::BAD_REQUEST, // of pictures that are none
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}

async fn file(kind: &'static str, text: &'static str) -> Response {
    let kind = format!("{kind}; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Answered whatever the engine does.
async fn health(State(studio): State<Studio>) -> Response {
    Json(json!({ "status": "ok", "jobs": studio.line.len() })).into_response()
}

async fn model(State(studio): State<Studio>) -> Response {
    let engine = &studio.engine;
    Json(json!({
        "name": engine.name(),
        "stages": engine.stages(),
        "device": engine.device(),
        "dtype": engine.dtype().to_string(),
        "simulated": engine.simulated(),
        "version": env!("CARGO_PKG_VERSION"),
    }))
    .into_response()
}

/// Makes an image; the answer is a stream of its [`Event`]s. Who closes it cancels the job.
async fn run(
    State(studio): State<Studio>,
    body: axum::extract::Request,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Refusal> {
    let body = whole(body).await?;
    let order: Order = serde_json::from_slice(&body)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("the body: {error}")))?;
    drop(body);
    let preview = order.preview();
    let request = {
        let _turn = studio.reading.acquire().await.expect("it is never closed");
        tokio::task::spawn_blocking(move || order.request()).await
    };
    let wrong =
        |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the job cannot be read".into());
    let mut request = request.map_err(wrong)?.map_err(|error| Refusal::of(&error))?;
    let cancel = Cancel::default();
    request.cancel = Some(cancel.clone());
    let place = studio.line.join().ok_or_else(|| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many jobs wait; try again later".into())
    })?;
    let (sender, receiver) = mpsc::channel(BEHIND);
    tokio::spawn(serve(studio.engine.clone(), request, preview, place, sender));
    let events = ReceiverStream::new(receiver);
    let gone = CancelOnDrop(cancel);
    let events = events.map(move |event: Event| {
        let _ = &gone; // dropped with the stream
        Ok(sse::Event::default().json_data(event).expect("events are JSON"))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// The body of a request, if it comes in time and is not too large.
async fn whole(request: axum::extract::Request) -> Result<Bytes, Refusal> {
    if request.body().size_hint().lower() > LARGEST as u64 {
        // By its own word, and not read.
        let message = format!("a job of at most {} MiB was expected", LARGEST >> 20);
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let body = axum::RequestExt::extract::<Bytes, _>(request);
    let late =
        |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("no whole body in {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, body)
        .await
        .map_err(late)?
        .map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))
}

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Waits in the line, has the image made on a thread of its own, and sends what becomes of it.
async fn serve(
    engine: Arc<Engine>,
    request: Request,
    preview: bool,
    place: Place,
    events: mpsc::Sender<Event>,
) {
    let joined = Instant::now();
    let mut changes = place.changes();
    let mut told = None;
    loop {
        let ahead = place.ahead();
        if told != Some(ahead) {
            match events.try_send(Event::Queued { ahead }) {
                Ok(()) => told = Some(ahead),
                Err(TrySendError::Full(_)) => {} // nobody waits for a page that does not read
                Err(TrySendError::Closed(_)) => return,
            }
        }
        if ahead == 0 {
            break;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = events.closed() => return,
        }
    }
    let sender = events.clone();
    let work = move || job::run(&engine, &request, preview, joined, &sender);
    let done = tokio::task::spawn_blocking(work).await;
    drop(place); // the next one does not wait for this page to read
    let done = done
        .unwrap_or_else(|_| Event::Failed { error: "the engine failed; its log says why".into() });
    let _ = events.send(done).await;
}

#[cfg(test)]
mod tests {
    use muse::EngineOptions;

    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_a_page_that_does_not_read() {
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");
        let options = EngineOptions { threads: Some(1), ..EngineOptions::default() };
        let engine = Arc::new(Engine::load(model, options).unwrap());
        let mut request = Request::new("a frog");
        request.size = muse::Size::Base;
        let line = Line::new();
        let mut begin = |steps| {
            request.base.steps = Some(steps);
            let (sender, receiver) = mpsc::channel(BEHIND);
            let place = line.join().unwrap();
            tokio::spawn(serve(engine.clone(), request.clone(), false, place, sender));
            receiver
        };
        let (mut first, mut second) = (begin(BEHIND + 4), begin(1));
        let done = async {
            while let Some(event) = second.recv().await {
                if matches!(event, Event::Done { .. }) {
                    return;
                }
            }
            panic!("the second one's image was not made");
        };
        tokio::time::timeout(Duration::from_secs(600), done).await.expect("it has its turn");
        // What it missed are steps, not how it began and not the image.
        assert!(matches!(first.recv().await, Some(Event::Queued { ahead: 0 })));
        let mut seen = 0;
        while let Some(event) = first.recv().await {
            match event {
                Event::Step { .. } => seen += 1,
                Event::Done { .. } => break,
                _ => panic!("neither a step nor the image"),
            }
        }
        assert_eq!(seen, BEHIND - 1);
    }
}

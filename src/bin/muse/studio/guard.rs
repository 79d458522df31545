//! Who is answered: pages of this server only, on this machine unless it was told otherwise.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::server::{Refusal, Studio};

/// Refuses requests for other hosts, as of a name that somebody else points at this machine, and from pages of other
/// origins; and says on every answer what the page may load.
pub async fn guard(State(studio): State<Studio>, request: Request, next: Next) -> Response {
    let mut response = match check(&studio, request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

fn check(studio: &Studio, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let host = text(header::HOST).unwrap_or_default();
    if !studio.hosts.iter().any(|known| known.eq_ignore_ascii_case(&host)) {
        let own = studio.address();
        let message =
            format!("no server for the host {host:?}: open {own}, or start it with --host {host}");
        return Err(Refusal::new(StatusCode::FORBIDDEN, message));
    }
    // By whichever scheme: behind another name there may be TLS in between.
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, name)| name == host);
    if let Some(origin) = text(header::ORIGIN)
        && !own(&origin)
    {
        let message = format!("pages of {origin} may not use this server");
        return Err(Refusal::new(StatusCode::FORBIDDEN, message));
    }
    // What a form of another page can send without asking first is not JSON.
    let json =
        |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
    if method == Method::POST && !text(header::CONTENT_TYPE).is_some_and(|kind| json(&kind)) {
        let message = "expected content of the type application/json".into();
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    Ok(())
}

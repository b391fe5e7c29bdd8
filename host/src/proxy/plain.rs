//! Requests at the listener for plain HTTP beside TLS: each is led to the same place by https, except those of programs that look
//! after the proxy itself.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::{
    Shared, answer, own,
    page::{Form, Page},
    route::{Own, Route, Target},
};
use crate::exchange::{Body, ErrorKind, ExchangeId, ForwardError};

/// Below it an authority of certificates looks for what it told us to put there (RFC 8555 section 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Longest token; real ones have 43 characters.
const MAX_TOKEN: usize = 128;

/// What is asked for here.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    target: &Target,
    exchange: ExchangeId,
    form: Form,
) -> Response<Body> {
    if let Some(token) = target.path.path().strip_prefix(CHALLENGES)
        && let Some(found) = challenge(shared, token).await
    {
        return found;
    }
    match shared.names.route(target) {
        Route::Own(Own::Health) => return own::health(shared),
        Route::Own(Own::Ready) => return own::ready(shared),
        _ => {}
    }
    let Some(location) = shared.names.elsewhere(target) else {
        let detail = "this proxy doesn't serve the host that the request names";
        return answer::failure(&ForwardError::new(ErrorKind::NoSuchTunnel, detail), exchange, form);
    };
    redirect(&location, form)
}

/// RFC 9110 section 15.4.9: the method stays, unlike with 301.
fn redirect(location: &str, form: Form) -> Response<Body> {
    let page = Page {
        title: "This is reached by https",
        paragraphs: vec!["Nothing is answered without TLS here. The same by https:"],
        command: None,
        facts: vec![("Location", location)],
        json: json!({ "location": location }),
    };
    let mut response = page.respond(StatusCode::PERMANENT_REDIRECT, form);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

async fn challenge(shared: &Arc<Shared>, token: &str) -> Option<Response<Body>> {
    let challenges = shared.config.door.challenges.clone()?;
    // RFC 8555 section 8.3: of the alphabet of base64url, so that it can't be a path.
    let proper = (1..=MAX_TOKEN).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !proper {
        return None;
    }
    let token = token.to_owned();
    let found = tokio::task::spawn_blocking(move || (challenges.0)(&token)).await.ok()??;
    let mut response = Response::new(Body::full(found));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Some(response)
}

//! What an application answers, held against what an answer may be.

use http::{HeaderName, Method, StatusCode, header, response::Parts};
use http_body::Body as _;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::{exchange::hygiene, wire::MAX_HEADERS};

/// Bytes of names and values: as much as a plugin may answer with.
const MAX_HEAD: usize = 64 << 10;

/// Whether an application sees a header, and may set it. It frames its own messages, unlike a plugin.
pub(super) fn is_for_applications(name: &HeaderName) -> bool {
    hygiene::is_for_plugins(name) || matches!(*name, header::CONTENT_LENGTH | header::TRAILER)
}

/// Checks a head, and makes it fit to be forwarded. Says whether a body follows.
///
/// # Errors
/// It isn't allowed.
pub(super) fn check(head: &mut Parts, body: &HyperOutgoingBody, method: &Method) -> Result<bool, String> {
    if !(200..=599).contains(&head.status.as_u16()) {
        return Err(format!("the status {}, and an answer has one from 200 to 599", head.status.as_u16()));
    }
    if head.headers.len() > MAX_HEADERS {
        return Err(format!("{} headers, and an answer has at most {MAX_HEADERS}", head.headers.len()));
    }
    let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MAX_HEAD {
        return Err(format!("{bytes} bytes of headers, and an answer has at most {MAX_HEAD}"));
    }
    if let Some(name) = head.headers.keys().find(|name| !is_for_applications(name)) {
        return Err(format!("the header {name}, which is not an application's to set"));
    }
    // RFC 9110 section 8.6.
    if head.status == StatusCode::NO_CONTENT {
        hygiene::retain(&mut head.headers, |name| *name != header::CONTENT_LENGTH);
    }
    // RFC 9110 section 6.4.1.
    if *method == Method::HEAD || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(false);
    }
    let length = head.headers.get(header::CONTENT_LENGTH);
    if body.is_end_stream() && length.is_some_and(|length| length != "0") {
        return Err("a content-length, and no body".to_owned());
    }
    Ok(true)
}

//! What a gRPC client is told when there is no answer from beyond the proxy.
//!
//! Owns the two header fields and their mapping from statuses of HTTP (gRPC's `http-grpc-status-mapping`). The rest of the answer
//! stays as it is for everybody else.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What a message is written without: all but visible ASCII and the space, and the sign that begins an escape.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// Whether a request is a call of gRPC.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = kind.strip_prefix(b"application/grpc");
    // gRPC-Web has answers of another form.
    rest.is_some_and(|rest| rest.first().is_none_or(|next| b"+; ".contains(next)))
}

/// Adds what the client's library turns into an error: a code, and a sentence.
pub(super) fn tell(headers: &mut HeaderMap, status: StatusCode, sentence: &str) {
    headers.insert(STATUS, HeaderValue::from(code(status)));
    if let Ok(message) = HeaderValue::from_str(&utf8_percent_encode(sentence, ESCAPED).to_string()) {
        headers.insert(MESSAGE, message);
    }
}

fn code(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 | 431 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_content_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_call(&headers), expected, "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn the_sentence_is_escaped_and_the_code_is_that_of_the_mapping() {
        let mut headers = HeaderMap::new();
        tell(&mut headers, StatusCode::SERVICE_UNAVAILABLE, "100 % \u{e4}\n");
        assert_eq!(headers["grpc-status"], "14");
        assert_eq!(headers["grpc-message"], "100 %25 %C3%A4%0A");
    }
}

//! Requests whose head hyper can't read, or was kept from reading: it answers those by itself, with a status and nothing else, and
//! ends the connection. Puts an answer in the place of that one that says what was wrong.
//!
//! Owns what hyper's answer looks like (hyper 1.12, `proto/h1/role.rs`, `on_error`: 400, 414 or 431, without a body).
//! Must not know when it is hyper that speaks; `interim` does.

use bytes::Bytes;
use http::{StatusCode, header};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

use super::{answer, interim::put_field, strict::Violation};
use crate::exchange::ExchangeId;

/// The whole answer in the place of hyper's; `None` if this isn't one of hyper's.
///
/// `refusal` is why hyper wasn't given the head.
pub(super) fn instead(hypers: &[u8], refusal: Option<Violation>, exchange: ExchangeId) -> Option<Bytes> {
    let head = std::str::from_utf8(hypers).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let first = lines.next()?;
    let (version, rest) = first.split_once(' ')?;
    let status: StatusCode = rest.get(..3)?.parse().ok().filter(StatusCode::is_client_error)?;
    if !version.starts_with("HTTP/1.") {
        return None;
    }
    let response = match refusal {
        Some(violation) => answer::refused(violation, exchange),
        None => answer::unreadable(status, exchange),
    };
    let mut bytes = Vec::with_capacity(1024);
    bytes.extend_from_slice(format!("{version} {}\r\n", response.status()).as_bytes());
    // RFC 9110 section 6.6.1: hyper has a clock, and so its answer has a date.
    if let Some(date) = lines.find(|line| line.starts_with("date: ")) {
        bytes.extend_from_slice(date.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    for (name, value) in response.headers() {
        put_field(&mut bytes, name, value);
    }
    // Where the next request would begin is as unknown as what this one says (RFC 9112 section 9.3).
    put_field(&mut bytes, &header::CONNECTION, &header::HeaderValue::from_static("close"));
    put_field(&mut bytes, &header::CONTENT_LENGTH, &response.body().len().into());
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(response.body().as_bytes());
    Some(bytes.into())
}

/// What hyper would say to a head that doesn't end in time, if it said anything.
pub(super) fn late() -> String {
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    let date = date.map_or_else(|_| String::new(), |date| format!("date: {date}\r\n"));
    format!("HTTP/1.1 408 Request Timeout\r\n{date}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ExchangeId = ExchangeId(0xab);

    fn text(hypers: &str) -> Option<String> {
        instead(hypers.as_bytes(), None, ID).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn says_all_that_other_errors_say() {
        for (status, code) in [
            ("400 Bad Request", "bad-request"),
            ("414 URI Too Long", "request-head-too-large"),
            ("431 Request Header Fields Too Large", "request-head-too-large"),
        ] {
            let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
            let hypers = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n{date}\r\n");
            let answer = text(&hypers).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n{date}")), "{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            for line in [
                format!("tunnel-error: {code}"),
                "tunnel-request-id: 00000000000000ab".to_owned(),
                "connection: close".to_owned(),
                format!("content-length: {}", body.len()),
            ] {
                assert_eq!(head.lines().filter(|has| **has == line).count(), 1, "{line} in {head}");
            }
            assert!(body.contains("What happened: ") && body.contains("00000000000000ab"), "{body}");
        }
    }

    #[test]
    fn leaves_alone_what_hyper_does_not_say_by_itself() {
        for other in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\n\r\nbody",
            "SSH/2.0 400 Bad Request\r\n\r\n",
            "HTTP/1.1 4\r\n\r\n",
            "",
        ] {
            assert_eq!(text(other), None, "{other}");
        }
    }
}

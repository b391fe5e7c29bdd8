//! What a visitor sees when there is no answer: the one file that turns failures into statuses and sentences.
//!
//! Owns the mapping; must not know where a failure comes from.

use std::time::Duration;

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ALLOW, CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use serde_json::json;

use super::{
    page::{Form, Page},
    route::BadTarget,
    strict::Violation,
};
use crate::exchange::{Blame, Body, ErrorKind, ExchangeId, ForwardError};

/// A stable code for programs; see `ErrorKind::code`.
const TUNNEL_ERROR: &str = "tunnel-error";
/// The exchange's id, the same in the logs of proxy and client.
const TUNNEL_REQUEST_ID: &str = "tunnel-request-id";
/// What one may do instead of CONNECT.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// The answer to a failed exchange.
pub(crate) fn failure(error: &ForwardError, exchange: ExchangeId, form: Form) -> http::Response<Body> {
    let kind = error.kind();
    let mut response = page(status(kind), kind, error.detail(), exchange, form).map(Body::full);
    if let Some(wait) = retry_after(kind) {
        // Whole seconds, rounded up, so that trying then does succeed.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if kind == ErrorKind::RequestTimedOut {
        // RFC 9110 section 15.5.9: the server won't wait for the rest.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    log(error, exchange);
    response
}

/// The answer to a request whose target can't be routed.
pub(crate) fn bad_target(reason: BadTarget, exchange: ExchangeId, form: Form) -> http::Response<Body> {
    let response = page(reason.status(), ErrorKind::BadRequest, &reason.to_string(), exchange, form);
    let mut response = response.map(Body::full);
    if reason == BadTarget::Connect {
        response.headers_mut().insert(ALLOW, METHODS);
    }
    response
}

/// The answer to bytes that aren't a request. The form is always text: where a head can't be read, nobody knows what `Accept`
/// says.
pub(crate) fn refused(violation: Violation, exchange: ExchangeId) -> http::Response<String> {
    let kind = match violation {
        Violation::UnknownCoding => ErrorKind::UnknownCoding,
        Violation::TargetTooLong | Violation::HeadTooLarge => ErrorKind::RequestHeadTooLarge,
        _ => ErrorKind::BadRequest,
    };
    let detail = violation.to_string();
    let mut response = page(violation.status(), kind, &detail, exchange, Form::Text);
    if violation == Violation::Target(BadTarget::Connect) {
        response.headers_mut().insert(ALLOW, METHODS);
    }
    log(&ForwardError::new(kind, detail), exchange);
    response
}

/// The answer to an upgrade to another version of WebSocket (RFC 6455 section 4.4).
pub(crate) fn wrong_websocket_version(exchange: ExchangeId, form: Form) -> http::Response<Body> {
    let detail = "the request asks for a version of WebSocket other than 13";
    let response = page(StatusCode::UPGRADE_REQUIRED, ErrorKind::BadRequest, detail, exchange, form);
    let mut response = response.map(Body::full);
    let headers = response.headers_mut();
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    // RFC 9110 section 15.5.22: a 426 names the protocol in `Upgrade`.
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

/// The answer to a request for a host that isn't ours, on a connection that may have been opened for another (RFC 9110 section
/// 15.5.20): the visitor may try again on a new one.
pub(crate) fn misdirected(exchange: ExchangeId, form: Form) -> http::Response<Body> {
    let detail = "this proxy doesn't serve the host that the request names";
    page(StatusCode::MISDIRECTED_REQUEST, ErrorKind::NoSuchTunnel, detail, exchange, form).map(Body::full)
}

/// The answer to a request whose head can't be read, by the status that hyper found for it.
pub(crate) fn unreadable(status: StatusCode, exchange: ExchangeId) -> http::Response<String> {
    let (kind, detail) = match status {
        StatusCode::REQUEST_TIMEOUT => {
            (ErrorKind::RequestTimedOut, "the rest of the request's head didn't come in time")
        }
        StatusCode::URI_TOO_LONG => (ErrorKind::RequestHeadTooLarge, "the request's target is too long"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            (ErrorKind::RequestHeadTooLarge, "the request's head is too large, or has too many header fields")
        }
        _ => (
            ErrorKind::BadRequest,
            "the request's head isn't valid HTTP/1.1: its first line, one of its header fields, or what it says \
             of the body's length",
        ),
    };
    log(&ForwardError::new(kind, detail), exchange);
    page(status, kind, detail, exchange, Form::Text)
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::BadRequest | ErrorKind::Cancelled => StatusCode::BAD_REQUEST,
        // RFC 9112 section 6.1.
        ErrorKind::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::RefusedByPlugin => StatusCode::FORBIDDEN,
        ErrorKind::NoSuchTunnel => StatusCode::NOT_FOUND,
        ErrorKind::RequestTimedOut => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::RequestTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::RequestHeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ErrorKind::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::TunnelGone
        | ErrorKind::OriginUnreachable
        | ErrorKind::OriginFailed
        | ErrorKind::PluginFailed
        | ErrorKind::PeerBrokeProtocol
        | ErrorKind::ResponseTooLarge { .. } => StatusCode::BAD_GATEWAY,
        ErrorKind::Offline
        | ErrorKind::TooManyExchanges
        | ErrorKind::PluginBusy
        | ErrorKind::Draining
        | ErrorKind::BusAway => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
    }
}

fn retry_after(kind: ErrorKind) -> Option<Duration> {
    match kind {
        ErrorKind::TooManyRequests { retry_after } => Some(retry_after),
        // A client that only lost its connection is back within a few seconds.
        ErrorKind::Offline => Some(Duration::from_secs(5)),
        ErrorKind::TooManyExchanges | ErrorKind::PluginBusy | ErrorKind::Draining => {
            Some(Duration::from_secs(1))
        }
        // Nodes look for Redis once a second, and claims are written again at once.
        ErrorKind::BusAway => Some(Duration::from_secs(2)),
        _ => None,
    }
}

fn title(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadRequest | ErrorKind::UnknownCoding | ErrorKind::Cancelled => {
            "This request can't be served"
        }
        ErrorKind::RefusedByPlugin => "This request was refused",
        ErrorKind::NoSuchTunnel => "There is no such tunnel",
        ErrorKind::Offline => "The service is offline",
        ErrorKind::BusAway => "The service can't be reached from here",
        ErrorKind::TunnelGone => "The connection to the service was lost",
        ErrorKind::TimedOut => "The service didn't answer in time",
        ErrorKind::OriginUnreachable => "The service isn't running",
        ErrorKind::OriginFailed => "The service failed to answer",
        ErrorKind::PluginFailed => "A plugin failed",
        ErrorKind::PluginBusy => "A plugin is busy",
        ErrorKind::PeerBrokeProtocol => "The client of this tunnel failed",
        ErrorKind::RequestTimedOut => "The request didn't arrive in time",
        ErrorKind::RequestTooLarge { .. } => "The request is too large",
        ErrorKind::RequestHeadTooLarge => "The request's head is too large",
        ErrorKind::ResponseTooLarge { .. } => "The response is too large",
        ErrorKind::TooManyRequests { .. } => "Too many requests",
        ErrorKind::TooManyExchanges => "The service is busy",
        ErrorKind::Draining => "This proxy is restarting",
    }
}

fn hint(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadRequest | ErrorKind::Cancelled => "Correct the request and send it again.",
        ErrorKind::UnknownCoding => {
            "Send the body as it is or in chunks; what is compressed is announced in Content-Encoding."
        }
        ErrorKind::RefusedByPlugin => "Ask whoever publishes this service what it lets pass.",
        ErrorKind::NoSuchTunnel => {
            "Check the address. If the service is yours, start its client and use the URL that it prints."
        }
        ErrorKind::Offline => {
            "Try again in a few seconds. If the service is yours, check that its client is running and can reach \
             this proxy."
        }
        ErrorKind::TunnelGone => {
            "Whether the service has acted on the request is unknown. Try again once you know that doing it twice \
             does no harm."
        }
        ErrorKind::TimedOut => "If the service is yours, see what keeps it busy, or raise the limit.",
        ErrorKind::OriginUnreachable => {
            "If the service is yours, start it, or restart the client with the address at which it listens."
        }
        ErrorKind::OriginFailed => "If the service is yours, its own log should say more.",
        ErrorKind::PluginFailed => "Give the request id to the operator, whose log says more.",
        ErrorKind::PeerBrokeProtocol => "If the service is yours, update its client and try again.",
        ErrorKind::RequestTimedOut => "Check your connection and send the request again.",
        ErrorKind::RequestTooLarge { .. } => {
            "Send less at once, or ask the proxy's operator to raise --max-body."
        }
        ErrorKind::RequestHeadTooLarge => {
            "Send fewer or shorter header fields (in a browser: delete this site's cookies), or ask the proxy's \
             operator to raise max_headers or max_header_bytes."
        }
        ErrorKind::ResponseTooLarge { .. } => {
            "Ask the service for less at once, e.g. with a Range, or the proxy's operator to raise --max-body."
        }
        ErrorKind::TooManyRequests { .. } => {
            "Wait for as long as Retry-After says, or ask the proxy's operator to raise the rate."
        }
        ErrorKind::TooManyExchanges | ErrorKind::PluginBusy => "Try again in a moment.",
        ErrorKind::Draining => "Try again in a moment.",
        ErrorKind::BusAway => "Try again in a moment. If it lasts, tell the proxy's operator.",
    }
}

fn blame(kind: ErrorKind) -> (&'static str, &'static str) {
    match kind.blame() {
        Blame::Visitor => ("visitor", "The reason lies in the request."),
        Blame::Proxy => {
            ("proxy", "The reason lies with this proxy; the request and the service are not at fault.")
        }
        Blame::Client => (
            "client",
            "The reason lies between this proxy and the tunnel's client; the request is not at fault.",
        ),
        Blame::Origin => {
            ("origin", "The reason lies with the service behind the tunnel; the tunnel itself works.")
        }
    }
}

fn page(
    status: StatusCode,
    kind: ErrorKind,
    detail: &str,
    exchange: ExchangeId,
    form: Form,
) -> http::Response<String> {
    let message = format!("What happened: {detail}.");
    let (culprit, whose) = blame(kind);
    let id = exchange.to_string();
    let page = Page {
        title: title(kind),
        paragraphs: vec![&message, whose, hint(kind)],
        command: None,
        facts: vec![("Status", status.as_str()), ("Error", kind.code()), ("Request id", &id)],
        json: json!({
            "error": kind.code(),
            "message": detail,
            "blame": culprit,
            "hint": hint(kind),
            "request_id": id,
        }),
    };
    let mut response = page.write(status, form);
    mark(response.headers_mut(), kind.code(), exchange);
    response
}

/// Adds what programs look for in every error answer.
pub(crate) fn mark(headers: &mut HeaderMap, code: &'static str, exchange: ExchangeId) {
    headers.insert(TUNNEL_ERROR, HeaderValue::from_static(code));
    if let Ok(id) = HeaderValue::try_from(exchange.to_string()) {
        headers.insert(TUNNEL_REQUEST_ID, id);
    }
}

fn log(error: &ForwardError, exchange: ExchangeId) {
    let kind = error.kind().code();
    let cause = error.cause().map(tracing::field::display);
    // What visitors can bring about as often as they like must not fill an operator's log.
    if matches!(error.kind(), ErrorKind::PluginFailed) {
        tracing::warn!(%exchange, kind, detail = error.detail(), cause, "exchange failed");
    } else {
        tracing::debug!(%exchange, kind, detail = error.detail(), cause, "exchange failed");
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const ID: ExchangeId = ExchangeId(0xab);

    async fn text(response: http::Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn says_what_whose_fault_and_what_to_do_in_each_form() {
        let error =
            ForwardError::new(ErrorKind::OriginUnreachable, "nothing answers at <http://localhost:3000>");
        let response = failure(&error, ID, Form::Json);
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()["tunnel-error"], "origin-unreachable");
        assert_eq!(response.headers()["tunnel-request-id"], "00000000000000ab");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let json: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(json["error"], "origin-unreachable");
        assert_eq!(json["message"], "nothing answers at <http://localhost:3000>");
        assert_eq!(json["blame"], "origin");
        assert_eq!(json["request_id"], "00000000000000ab");
        assert!(json["hint"].as_str().unwrap().contains("start it"));

        let plain = text(failure(&error, ID, Form::Text)).await;
        assert!(plain.contains("nothing answers at <http://localhost:3000>"), "{plain}");
        let html = text(failure(&error, ID, Form::Html)).await;
        assert!(html.contains("nothing answers at &lt;http://localhost:3000&gt;."), "{html}");
    }

    #[test]
    fn the_private_cause_stays_private() {
        let error = ForwardError::new(ErrorKind::OriginFailed, "the service broke off").because("secret");
        let response = failure(&error, ID, Form::Json);
        assert!(!format!("{response:?}").contains("secret"));
    }

    #[test]
    fn waits_are_whole_seconds_rounded_up() {
        for (millis, seconds) in [(1, "1"), (1000, "1"), (1001, "2")] {
            let retry_after = Duration::from_millis(millis);
            let error = ForwardError::new(ErrorKind::TooManyRequests { retry_after }, "too fast");
            let response = failure(&error, ID, Form::Text);
            assert_eq!(
                (response.status().as_u16(), response.headers()["retry-after"].as_bytes()),
                (429, seconds.as_bytes())
            );
        }
    }
}

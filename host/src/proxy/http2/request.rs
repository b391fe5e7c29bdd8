//! A request as HTTP/2 brings it, made what the rest of the proxy knows: the same head as by HTTP/1.1.
//!
//! Pure. Owns pseudo-header fields and what HTTP/2 writes in another way.

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use hyper::ext::Protocol;

use crate::exchange::hygiene;

/// Why a request is refused before it is looked at any closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// More header fields than are taken.
    TooManyFields,
    /// Its length is announced more than once.
    Lengths,
}

/// Rewrites a request.
///
/// - A request that names its host in `:authority` alone gets a `Host` (RFC 9113 section 8.3.1); where there are both,
///   `route` sees to it that they agree.
/// - The crumbs of a cookie are joined, because what comes next may speak HTTP/1.1 (section 8.2.3).
/// - CONNECT with the protocol `websocket` becomes the GET that it stands for (RFC 8441 section 4).
/// - `Expect` goes: nobody here can send the interim response that it asks for, and a window says that the body is wanted.
///
/// # Errors
/// It can't be served as it is.
pub(super) fn adapt<B>(request: &mut http::Request<B>, max_headers: usize) -> Result<(), Refused> {
    if request.headers().len() > max_headers {
        return Err(Refused::TooManyFields);
    }
    if request.headers().get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Refused::Lengths);
    }
    if is_websocket(request) {
        *request.method_mut() = Method::GET;
    } else {
        request.extensions_mut().remove::<Protocol>();
    }
    if let Some(authority) = request.uri().authority()
        && !request.headers().contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(header::HOST, host);
    }
    if request.method() == Method::OPTIONS && request.uri().path() == "*" {
        // RFC 9113 section 8.3.1; with its authority, which `Host` has now, it is no target.
        let named = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        if named.as_deref().is_none_or(|named| host.is_some_and(|host| host.eq_ignore_ascii_case(named))) {
            *request.uri_mut() = Uri::from_static("*");
        }
    }
    hygiene::retain(request.headers_mut(), |name| *name != header::EXPECT);
    join_cookies(request.headers_mut());
    Ok(())
}

/// Whether a request asks for a WebSocket.
pub(in super::super) fn is_websocket<B>(request: &http::Request<B>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Each is a value already, and so is this.
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, fields: &[(&'static str, &'static str)]) -> http::Request<()> {
        let mut request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request
    }

    #[test]
    fn the_authority_becomes_the_host_and_never_replaces_one() {
        let mut named = request("GET", "http://a.example/x", &[]);
        adapt(&mut named, 10).unwrap();
        assert_eq!(named.headers()["host"], "a.example");
        let mut both = request("GET", "http://a.example/x", &[("host", "b.example")]);
        adapt(&mut both, 10).unwrap();
        assert_eq!(
            (both.headers()["host"].as_bytes(), both.uri().host()),
            (&b"b.example"[..], Some("a.example"))
        );
    }

    #[test]
    fn crumbs_are_one_cookie_in_their_order() {
        let fields = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
        let mut crumbled = request("GET", "http://a.example/", &fields);
        adapt(&mut crumbled, 10).unwrap();
        let cookies: Vec<_> = crumbled.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn only_a_websocket_is_an_upgrade() {
        let mut socket = request("CONNECT", "http://a.example/chat", &[]);
        socket.extensions_mut().insert(Protocol::from_static("websocket"));
        adapt(&mut socket, 10).unwrap();
        assert!(socket.method() == Method::GET && is_websocket(&socket));
        let mut other = request("CONNECT", "http://a.example/chat", &[]);
        other.extensions_mut().insert(Protocol::from_static("connect-udp"));
        adapt(&mut other, 10).unwrap();
        assert!(other.method() == Method::CONNECT && !is_websocket(&other));
    }

    #[test]
    fn what_is_too_much_or_has_two_meanings_is_refused() {
        let many = [("a", "1"), ("b", "2"), ("c", "3")];
        assert_eq!(adapt(&mut request("GET", "http://a.example/", &many), 2), Err(Refused::TooManyFields));
        let twice = [("content-length", "1"), ("content-length", "1")];
        assert_eq!(adapt(&mut request("PUT", "http://a.example/", &twice), 9), Err(Refused::Lengths));
    }

    #[test]
    fn the_asterisk_is_a_target_of_its_own() {
        let mut star = http::Request::options("*").body(()).unwrap();
        star.headers_mut().insert("host", HeaderValue::from_static("a.example"));
        adapt(&mut star, 10).unwrap();
        assert_eq!(star.uri(), "*");
    }
}

//! A guest's request, held against what it is granted and what may be sent at all.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, uri::Authority};
use http_body_util::Full;

use super::super::super::bindings::tunnel::plugin::http_client::{self, Error};
use crate::{exchange::hygiene, wire::MAX_HEADERS};

/// Longest URL, in bytes.
const MAX_URL: usize = 8 << 10;

/// Bytes of names and values of headers: as much as a visitor's head may have.
const MAX_HEAD: usize = 64 << 10;

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    https: bool,
    host: Host,
    port: u16,
}

/// Told apart, because an address has more than one spelling, and a name that only looks like one is a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// In lower case.
    Name(String),
}

impl Origin {
    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    /// What a grant allows. The error goes on after the grant.
    pub(super) fn granted(grant: &Uri) -> Result<Self, &'static str> {
        if !matches!(grant.path(), "" | "/") || grant.query().is_some() {
            return Err("has a path, and an origin is granted as a whole");
        }
        Self::of(grant)
    }

    fn of(url: &Uri) -> Result<Self, &'static str> {
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("doesn't begin with http:// or https://"),
        };
        let authority = url.authority().ok_or("names no host")?;
        let port = port(authority)?;
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() {
            return Err("names no host");
        }
        let host = match bare.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(bare.to_ascii_lowercase()),
        };
        Ok(Self { https, host, port: port.unwrap_or(if https { 443 } else { 80 }) })
    }
}

fn port(authority: &Authority) -> Result<Option<u16>, &'static str> {
    if authority.as_str().contains('@') {
        return Err("has a user in it");
    }
    match authority.port_u16() {
        None if authority.as_str().len() > authority.host().len() => Err("has a port that is none"),
        port => Ok(port),
    }
}

/// Makes a request of what a guest asked for.
pub(super) fn checked(
    asked: http_client::Request,
    granted: &[Origin],
    limit: usize,
) -> Result<Request<Full<Bytes>>, Error> {
    let url = url(&asked.url, granted)?;
    let method = method(&asked.method).map_err(Error::Protocol)?;
    if asked.body.len() > limit {
        let detail = format!("a body of {} bytes, and the limit is {limit} (limits.body)", asked.body.len());
        return Err(Error::Protocol(detail));
    }
    let headers = headers(asked.headers, &url, asked.body.len()).map_err(Error::Protocol)?;
    let mut request = Request::new(Full::from(asked.body));
    *request.method_mut() = method;
    *request.uri_mut() = url;
    *request.headers_mut() = headers;
    Ok(request)
}

fn url(text: &str, granted: &[Origin]) -> Result<Uri, Error> {
    let protocol = |wrong: &str| Error::Protocol(format!("the URL {:?} {wrong}", short(text)));
    if text.len() > MAX_URL {
        return Err(protocol("is too long"));
    }
    let url: Uri = text.parse().map_err(|_| protocol("can't be read"))?;
    let origin = Origin::of(&url).map_err(protocol)?;
    if granted.contains(&origin) {
        return Ok(url);
    }
    // Without the path, which may have a secret in it.
    let (scheme, host) =
        (url.scheme_str().unwrap_or_default(), url.authority().map_or("", Authority::as_str));
    Err(Error::Denied(format!(
        "{scheme}://{} isn't granted: add it to grant = {{ http = [...] }}",
        short(host)
    )))
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

fn method(method: &str) -> Result<Method, String> {
    match Method::from_bytes(method.as_bytes()) {
        // It asks for a tunnel to somewhere else (RFC 9110 section 9.3.6).
        Ok(Method::CONNECT) => Err("the method CONNECT".to_owned()),
        Ok(method) => Ok(method),
        Err(_) => Err(format!("{:?} is no method", short(method))),
    }
}

/// What frames the message is ours, as is what speaks to the next hop only: with `Transfer-Encoding` in its hand, a guest
/// could smuggle a second request in its body, to a path or with a name that the host would log as another's.
fn headers(asked: Vec<(String, Vec<u8>)>, url: &Uri, length: usize) -> Result<HeaderMap, String> {
    if asked.len() > MAX_HEADERS {
        return Err(format!("{} headers, and there may be {MAX_HEADERS}", asked.len()));
    }
    if asked.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_HEAD {
        return Err(format!("headers of more than {MAX_HEAD} bytes"));
    }
    let mut headers = HeaderMap::with_capacity(asked.len());
    for (name, value) in asked {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{:?} is no name of a header", short(&name)))?;
        let value = HeaderValue::from_bytes(&value).map_err(|_| {
            format!("the value of {name} has a byte that no header may have (CR, LF, NUL or another control character)")
        })?;
        // Authors write these two out of habit; they are said anew anyhow, so that they only have to be true.
        if name == header::HOST
            && url.authority().is_some_and(|own| value.as_bytes() == own.as_str().as_bytes())
            || name == header::CONTENT_LENGTH && value.as_bytes() == length.to_string().as_bytes()
        {
            continue;
        }
        if !hygiene::is_for_plugins(&name) {
            return Err(format!("the header {name} is not a plugin's to set"));
        }
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(url: &str) -> http_client::Request {
        let method = "GET".to_owned();
        http_client::Request { method, url: url.to_owned(), headers: vec![], body: vec![], timeout_ms: 0 }
    }

    fn origins(grants: &[&str]) -> Vec<Origin> {
        grants.iter().map(|grant| Origin::granted(&grant.parse().unwrap()).unwrap()).collect()
    }

    #[test]
    fn scheme_host_and_port_have_to_be_granted() {
        let granted = origins(&["https://idp.example.com", "http://10.0.0.1:8080/", "http://[::1]"]);
        for url in [
            "https://idp.example.com/keys?a=b",
            "HTTPS://IDP.example.com:443",
            "http://10.0.0.1:8080/x",
            "http://[0:0::1]:80/",
        ] {
            assert!(checked(ask(url), &granted, 0).is_ok(), "{url}");
        }
        for url in [
            "http://idp.example.com/",
            "https://idp.example.com:8443/",
            "https://idp.example.com./",
            "https://example.com/",
            "https://x.idp.example.com/",
            "https://idp.example.com.evil.test/",
            "http://10.0.0.1/",
            "http://10.1:8080/",
            "http://[::ffff:10.0.0.1]:8080/",
        ] {
            let error = checked(ask(url), &granted, 0).expect_err(url);
            assert!(
                matches!(&error, Error::Denied(text) if text.contains("isn't granted")),
                "{url}: {error:?}"
            );
        }
    }

    #[test]
    fn what_is_no_url_of_an_origin_is_told_so() {
        let granted = origins(&["https://idp.example.com"]);
        for url in [
            "",
            "/keys",
            "idp.example.com",
            "ftp://idp.example.com/",
            "https://user@idp.example.com/",
            "https://idp.example.com@evil.test/",
            "https://idp.example.com:99999/",
            "https://idp.example.com:/",
            "https://idp.example.com /",
            "https://idp.example.com/\r\nx: y",
            "https:///keys",
        ] {
            let error = checked(ask(url), &granted, 0).expect_err(url);
            assert!(matches!(error, Error::Protocol(_)), "{url}: {error:?}");
        }
        let long = format!("https://idp.example.com/{}", "x".repeat(MAX_URL));
        assert!(matches!(checked(ask(&long), &granted, 0), Err(Error::Protocol(_))));
    }

    #[test]
    fn a_denial_does_not_repeat_the_path() {
        let error = checked(ask("https://other.test/secret?token=1"), &[], 0).expect_err("denied");
        assert!(matches!(&error, Error::Denied(text) if !text.contains("token")), "{error:?}");
    }

    #[test]
    fn grants_are_origins() {
        for grant in ["ftp://a.test", "/a", "https://a.test/path", "https://a.test?x", "https://u@a.test"] {
            assert!(Origin::granted(&grant.parse().unwrap()).is_err(), "{grant}");
        }
    }

    fn with(headers: &[(&str, &[u8])]) -> Result<HeaderMap, Error> {
        let mut request = ask("http://a.test:81/");
        request.method = "POST".to_owned();
        request.body = b"1234".to_vec();
        request.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
        checked(request, &origins(&["http://a.test:81"]), 4).map(|request| request.headers().clone())
    }

    #[test]
    fn headers_that_are_not_a_plugins_are_refused() {
        for header in [
            ("connection", &b"close"[..]),
            ("Transfer-Encoding", b"chunked"),
            ("content-length", b"3"),
            ("host", b"other.test"),
            ("host", b"a.test"),
            ("upgrade", b"h2c"),
            ("te", b"trailers"),
            ("trailer", b"x"),
            ("keep-alive", b"1"),
            ("proxy-authorization", b"x"),
            ("expect", b"100-continue"),
            ("sec-websocket-key", b"x"),
            ("tunnel-x", b"1"),
            ("x y", b"1"),
            ("x\r\ny", b"1"),
            ("", b"1"),
            ("x", b"1\r\nhost: other.test"),
            ("x", b"1\n"),
            ("x", b"\0"),
        ] {
            assert!(matches!(with(&[header]), Err(Error::Protocol(_))), "{header:?}");
        }
        let many = vec![("a", &b"b"[..]); MAX_HEADERS + 1];
        assert!(matches!(with(&many), Err(Error::Protocol(_))));
        assert!(matches!(with(&[("a", &[b'x'; MAX_HEAD])]), Err(Error::Protocol(_))));
    }

    #[test]
    fn other_headers_pass_and_true_ones_of_ours_go() {
        let headers = with(&[
            ("Host", b"a.test:81"),
            ("Content-Length", b"4"),
            ("Authorization", b"Bearer x"),
            ("x", b"1"),
            ("X", b"\xff"),
        ]);
        let headers = headers.unwrap();
        assert_eq!(headers.len(), 3, "{headers:?}");
        assert_eq!(headers.get_all("x").iter().count(), 2);
    }

    #[test]
    fn the_method_and_the_body_are_checked() {
        let granted = origins(&["http://a.test"]);
        for method in ["CONNECT", "", "GET /x HTTP/1.1\r\n", "G\u{e9}T"] {
            let request = http_client::Request { method: method.to_owned(), ..ask("http://a.test/") };
            assert!(matches!(checked(request, &granted, 0), Err(Error::Protocol(_))), "{method:?}");
        }
        let request = http_client::Request { body: vec![0; 5], ..ask("http://a.test/") };
        assert!(matches!(checked(request, &granted, 4), Err(Error::Protocol(_))));
    }
}

//! What a user may write as a value, each parsed once: the same text means the same on the command line and in a
//! file.
//!
//! Every error is a sentence that says what to write instead. Must not know which flag or key the text came from.

use std::{
    fmt,
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use http::{
    HeaderValue, Uri,
    uri::{Authority, Scheme},
};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use crate::{client::HostHeader, proxy::Dialects};

/// What is wrong with a value, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub(super) String);

/// A value in a file, read by the rule of the command line. A bare number is taken as its text, so that
/// `target = 3000` works.
#[derive(Debug, Clone)]
pub struct Written<T>(pub T);

impl<'de, T> Deserialize<'de> for Written<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsText(PhantomData))
    }
}

struct AsText<T>(PhantomData<T>);

impl<T> de::Visitor<'_> for AsText<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Value = Written<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Written<T>, E> {
        text.parse().map(Written).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Written<T>, E> {
        self.visit_str(&number.to_string())
    }
}

/// A service to publish: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and optional port.
    pub authority: Authority,
}

impl Origin {
    fn on_port(port: u16) -> Self {
        let authority = format!("localhost:{port}").parse().expect("a name and a number");
        Self { scheme: Scheme::HTTP, authority }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::on_port(8080)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl FromStr for Origin {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match text.parse()? {
            Target::Origin(origin) => Ok(origin),
            Target::Name(name) => Err(Wrong(format!(
                "\"{name}\" is no address; write a port (3000), host:port ({name}:80) or a URL (http://{name})"
            ))),
        }
    }
}

/// What `tunnel TARGET` names: a service, or an entry of the settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A service.
    Origin(Origin),
    /// `[targets.NAME]` of the file.
    Name(String),
}

impl FromStr for Target {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse() {
                Ok(port) if port != 0 => Ok(Self::Origin(Origin::on_port(port))),
                _ => Err(Wrong(format!("{text} is no port; ports go from 1 to 65535"))),
            };
        }
        if text.contains("://") {
            let (scheme, authority) = base_url(text, &["http", "https"])?;
            return Ok(Self::Origin(Origin { scheme, authority }));
        }
        if text.contains(':') {
            let (scheme, authority) = base_url(&format!("http://{text}"), &["http"])?;
            return Ok(Self::Origin(Origin { scheme, authority }));
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(Wrong(format!(
            "\"{text}\" is no target; write a port (3000), host:port (db.lan:80), a URL (https://db.lan), or the \
             name of a target in tunnel.toml"
        )))
    }
}

/// Where the client finds the proxy: scheme and authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl(pub Uri);

impl Default for ProxyUrl {
    fn default() -> Self {
        Self(Uri::from_static("http://localhost:6519"))
    }
}

impl FromStr for ProxyUrl {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        // Clients of the original are given the endpoint with its path; the same text works here.
        let base = text.strip_suffix("/proxy/subscribe").unwrap_or(text);
        base_url(base, &["http", "https", "ws", "wss"]).map(|parts| Self(uri(parts)))
    }
}

/// How a proxy is reached from outside: scheme (`http` or `https`) and authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(pub Uri);

impl FromStr for PublicUrl {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        base_url(text, &["http", "https"]).map(|parts| Self(uri(parts)))
    }
}

fn uri((scheme, authority): (Scheme, Authority)) -> Uri {
    let parts = Uri::builder().scheme(scheme).authority(authority).path_and_query("/");
    parts.build().expect("all three parts are given")
}

/// A URL that has nothing beside scheme, host and port.
fn base_url(text: &str, schemes: &[&str]) -> Result<(Scheme, Authority), Wrong> {
    let wrong = |why: &str| Err(Wrong(format!("\"{text}\": {why}")));
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong(&format!(
            "a URL begins with a scheme; write {}://{text}",
            schemes[schemes.len().min(2) - 1]
        ));
    };
    let scheme = scheme.to_ascii_lowercase();
    if !schemes.contains(&scheme.as_str()) {
        return wrong(&format!("the scheme has to be one of: {}", schemes.join(", ")));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !matches!(path, "" | "/") {
        return wrong(&format!("it takes no path or query; write {scheme}://{authority}"));
    }
    if authority.contains('@') {
        return wrong("user names and passwords have no place in it; leave out what is before the @");
    }
    // Host names ignore case; one spelling makes them comparable (RFC 3986 section 6.2.2.1).
    let Ok(authority) = authority.to_ascii_lowercase().parse::<Authority>() else {
        return wrong("that is no host and port; write for example localhost:3000");
    };
    if authority.host().is_empty() {
        return wrong("the host is missing; write for example localhost:3000");
    }
    // `port_u16` is None both without a port and with one that isn't a number up to 65535.
    if authority.as_str() != authority.host() && matches!(authority.port_u16(), None | Some(0)) {
        return wrong("that is no port; ports go from 1 to 65535");
    }
    let scheme = scheme.parse().expect("one of the schemes listed");
    Ok((scheme, authority))
}

/// A URL that a visitor might call, with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained(pub Uri);

impl FromStr for Explained {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match text.parse::<Uri>() {
            Ok(url) if url.scheme().is_some() && url.host().is_some_and(|host| !host.is_empty()) => {
                Ok(Self(url))
            }
            _ => Err(Wrong(format!("{text:?} is no URL; write for example https://web.example.com/path"))),
        }
    }
}

/// The domain of a proxy, lower case, without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(pub String);

impl Default for Domain {
    fn default() -> Self {
        Self("localhost".to_owned())
    }
}

impl FromStr for Domain {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if let Some(rest) = name.strip_prefix("*.") {
            return Err(Wrong(format!("write the domain without \"*.\": {rest}")));
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A host name has at most 253 characters (RFC 1035 section 2.3.4); a tunnel's label and its dot take 53.
        if name.len() > 200 || !name.split('.').all(label) {
            return Err(Wrong(format!(
                "\"{text}\" is no domain; write a name alone, without scheme, port or path: tunnel.example.com"
            )));
        }
        Ok(Self(name))
    }
}

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Default for Listen {
    fn default() -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], 6519)))
    }
}

impl FromStr for Listen {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        text.parse().map(Self).map_err(|_| {
            Wrong(format!(
                "\"{text}\" is no address to listen on; write 127.0.0.1:6519 for this machine alone, 0.0.0.0:6519 \
                 or [::]:6519 for everyone; port 0 takes a free one"
            ))
        })
    }
}

/// Where programs ask for a proxy's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminListen(pub SocketAddr);

impl FromStr for AdminListen {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        text.parse().map(Self).map_err(|_| {
            Wrong(format!(
                "\"{text}\" is no address to listen on; write for example 127.0.0.1:6520; port 0 takes a free one"
            ))
        })
    }
}

/// The dialects that clients may speak, parted by commas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialectList(pub Dialects);

impl FromStr for DialectList {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        Self::of(text.split(','))
    }
}

impl DialectList {
    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, Wrong> {
        let mut dialects = Dialects { v1: false, v2: false };
        for name in names {
            match name.trim() {
                "v1" => dialects.v1 = true,
                "v2" => dialects.v2 = true,
                other => {
                    return Err(Wrong(format!(
                        "\"{other}\" is no dialect; v2 is this program's own, v1 that of the original's clients"
                    )));
                }
            }
        }
        if dialects == (Dialects { v1: false, v2: false }) {
            return Err(Wrong("no client could attach; name v2, v1 or both".to_owned()));
        }
        Ok(Self(dialects))
    }
}

impl<'de> Deserialize<'de> for DialectList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Self::of(names.iter().map(String::as_str)).map_err(de::Error::custom)
    }
}

/// A network, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let one = |_| text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(one).map(Self).map_err(|_| {
            Wrong(format!("\"{text}\" is no network; write an address (10.0.0.7) or a range (10.0.0.0/8)"))
        })
    }
}

/// A label that gives one session of a key a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLabel(pub String);

impl FromStr for SessionLabel {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if (1..=128).contains(&text.len()) && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong("a session's label has 1 to 128 bytes and no control characters".to_owned()))
    }
}

impl FromStr for HostHeader {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match text {
            "keep" => return Ok(Self::Keep),
            "origin" => return Ok(Self::Origin),
            _ => {}
        }
        match (text.parse::<Authority>(), HeaderValue::from_str(text)) {
            (Ok(authority), Ok(value)) if !authority.host().is_empty() && !text.contains('@') => {
                Ok(Self::Value(value))
            }
            _ => Err(Wrong(format!(
                "\"{text}\" is no host; write keep, origin, or a host name (app.lan:8080)"
            ))),
        }
    }
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;

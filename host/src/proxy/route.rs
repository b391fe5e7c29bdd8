//! Where a request goes: to a tunnel, or to the proxy itself. Pure functions of the request's target and the names
//! that the proxy answers to; must not know sessions or sockets.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;

use http::{
    HeaderMap, Method, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery},
};

use super::{Config, Registration, charset::Charset};
use crate::wire::TunnelName;

/// Below it, the path of the proxy's own host names the tunnel.
const BY_PATH: &str = "/proxy/request/";

/// Longest authority in bytes: a name has 253 at most, and a port five.
const MAX_AUTHORITY: usize = 300;

/// The characters of hosts, but for those of IPv6 addresses.
const NAME: Charset = Charset::alphanumeric_and(b"-._~");

/// The names by which a proxy is reached, in the form in which hosts are compared.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    domain: String,
    own: HashSet<String>,
    /// Those that tunnels have of their own.
    hostnames: Hostnames,
    base: Base,
}

/// Hostnames of tunnels that don't stand under the domain, as the rules of registration list them. Nobody else's is asked for at the
/// bus.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hostnames(Arc<ArcSwap<HashSet<TunnelName>>>);

impl Hostnames {
    fn of(rules: &Registration) -> Self {
        let hostnames = Self::default();
        hostnames.replace(rules);
        hostnames
    }

    /// Takes those of other rules.
    pub(crate) fn replace(&self, rules: &Registration) {
        let listed = rules.keys.values().flat_map(|key| key.domains.iter().cloned());
        self.0.store(Arc::new(listed.collect()));
    }

    fn find(&self, host: &str) -> Option<TunnelName> {
        let listed = self.0.load();
        if listed.is_empty() {
            return None;
        }
        host.parse().ok().filter(|name| listed.contains(name))
    }
}

/// Scheme and authority of the public URL, split for building URLs of tunnels.
#[derive(Debug, Clone)]
struct Base {
    scheme: String,
    authority: String,
    port: String,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// To a tunnel.
    Tunnel {
        /// Its name.
        name: TunnelName,
        /// Path and query for the origin.
        target: PathAndQuery,
    },
    /// To the proxy itself.
    Own(Own),
    /// To a host under the domain, or a path, that can't be a tunnel's.
    NotAName,
    /// To a host that this proxy doesn't serve.
    UnknownHost,
}

impl Route {
    /// Whether clients, or those who look after the proxy, ask for it.
    pub(crate) fn is_for_clients(&self) -> bool {
        matches!(self, Self::Own(Own::Subscribe | Own::Health | Own::Ready))
    }
}

/// What the proxy answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// The door for clients.
    Subscribe,
    /// The page that says what this is.
    Greeting,
    /// Whether the node takes exchanges.
    Health,
    /// The same, as a load balancer asks.
    Ready,
    /// Anything else.
    Other,
}

/// Whom a request names, before routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host and optional port as sent; empty only if an HTTP/1.0 visitor named none.
    pub(crate) authority: String,
    /// Path and query as sent.
    pub(crate) path: PathAndQuery,
}

/// Why a request can't be routed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// RFC 9112 section 3.2: HTTP/1.1 needs a Host.
    #[error("the request has no Host header")]
    NoHost,
    /// RFC 9112 section 3.2: two would be read differently by different programs.
    #[error("the request has more than one Host header")]
    TwoHosts,
    /// Not `host` or `host:port`.
    #[error("the request's Host header isn't a host name")]
    BadHost,
    /// Not an origin-form, an absolute-form, or `*` with OPTIONS.
    #[error("the request's target isn't a path")]
    BadPath,
    /// A visitor who says two things at once: programs on the way may each believe another one.
    #[error("the request's target names another host than its Host header")]
    OtherHost,
    /// A tunnel publishes one service and connects nowhere else.
    #[error("this is not a forward proxy: CONNECT is not offered here")]
    Connect,
}

impl BadTarget {
    /// A word for it, for programs.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::NoHost => "no-host",
            Self::TwoHosts => "two-hosts",
            Self::BadHost => "host",
            Self::BadPath => "target",
            Self::OtherHost => "other-host",
            Self::Connect => "connect",
        }
    }

    /// The status that it is answered with.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads whom a request names (RFC 9112 section 3.2 and 3.3). An absolute-form target has to name the host that `Host` names.
///
/// # Errors
/// The request has to be refused.
pub(crate) fn target(
    method: &Method,
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Target, BadTarget> {
    if method == Method::CONNECT {
        return Err(BadTarget::Connect);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(BadTarget::TwoHosts),
        (None, None) if version >= Version::HTTP_11 => return Err(BadTarget::NoHost),
        (host, None) => host,
    };
    let path = uri.path_and_query().ok_or(BadTarget::BadPath)?;
    let path = match path.as_str().as_bytes().first() {
        Some(b'/') => path.clone(),
        Some(b'*') if method == Method::OPTIONS && uri.authority().is_none() => path.clone(),
        // RFC 9112 section 3.2.1: an empty path is sent as "/".
        Some(b'?') => format!("/{}", path.as_str()).parse().map_err(|_| BadTarget::BadPath)?,
        _ => return Err(BadTarget::BadPath),
    };
    let host = host.map(|host| host.to_str().map_err(|_| BadTarget::BadHost)).transpose()?;
    let authority = match (uri.authority(), host) {
        (Some(authority), Some(host)) if !names_the_same(authority.as_str(), host, uri.scheme_str()) => {
            return Err(BadTarget::OtherHost);
        }
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host,
        (None, None) => return Ok(Target { authority: String::new(), path }),
    };
    check_authority(authority.as_bytes())?;
    Ok(Target { authority: authority.to_owned(), path })
}

/// Holds a host with an optional port against its grammar.
///
/// # Errors
/// It isn't one.
pub(crate) fn check_authority(authority: &[u8]) -> Result<(), BadTarget> {
    if authority.len() > MAX_AUTHORITY {
        return Err(BadTarget::BadHost);
    }
    if is_usual(authority) {
        return Ok(());
    }
    let authority = std::str::from_utf8(authority).map_err(|_| BadTarget::BadHost)?;
    let parsed: Authority = authority.parse().map_err(|_| BadTarget::BadHost)?;
    // RFC 9110 section 4.2.4: user information in a target is an attempt to disguise its host.
    let port = authority.rsplit_once(':').filter(|(_, port)| !port.is_empty() && !port.ends_with(']'));
    let bad_port = port.is_some() && parsed.port_u16().is_none();
    // RFC 3986 lets a name have commas, semicolons and the like, which no DNS has, and which some programs split at.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
    if parsed.host().is_empty() || !authority.bytes().all(plain) || bad_port {
        return Err(BadTarget::BadHost);
    }
    Ok(())
}

/// Whether it is a name or an IPv4 address, with a port or without: what nearly everybody sends, known at one look.
fn is_usual(authority: &[u8]) -> bool {
    let (name, port) = authority.split_at(NAME.span(authority));
    let port = match port {
        [] => return !name.is_empty(),
        // Of five digits some are too many.
        [b':', port @ ..] if (1..5).contains(&port.len()) => port,
        [b':', port @ ..] if port.len() == 5 && port[0] < b'6' => port,
        _ => return false,
    };
    !name.is_empty() && port.iter().all(u8::is_ascii_digit)
}

/// Whether two authorities lead to one host and port, by a scheme that has a port of its own.
pub(crate) fn names_the_same(one: &str, other: &str, scheme: Option<&str>) -> bool {
    let usual = if scheme == Some("https") { "443" } else { "80" };
    let port = |authority: &str| match authority[host_of(authority).len()..].trim_start_matches(':') {
        "" => usual.to_owned(),
        port => port.to_owned(),
    };
    plain(host_of(one)) == plain(host_of(other)) && port(one) == port(other)
}

impl Names {
    /// The names of a proxy that listens at `address`.
    pub(crate) fn new(config: &Config, address: SocketAddr) -> Self {
        let base = match config.public_url.as_ref().and_then(Base::of) {
            Some(base) => base,
            None => Base::by_default(&config.domain, address.port(), config.door.tls.is_some()),
        };
        let urls = config.public_url.iter().chain(&config.also_known_as);
        let mut own: HashSet<_> = urls.filter_map(Uri::host).map(plain).collect();
        own.extend(["localhost".to_owned(), config.domain.clone()]);
        let hostnames = Hostnames::of(&config.registration);
        Self { domain: config.domain.clone(), own, hostnames, base }
    }

    /// The tunnel that a host names, by the same rules as [`route`](Self::route).
    pub(crate) fn tunnel_of(&self, host: &str) -> Option<TunnelName> {
        let target = Target { authority: host.to_owned(), path: PathAndQuery::from_static("/") };
        match self.route(&target) {
            Route::Tunnel { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The tunnel that an authority stands for whatever the path is, and whatever rules come: one whose name is its label under the
    /// domain.
    pub(crate) fn lasting(&self, authority: &str) -> Option<TunnelName> {
        labelled(self.label_of(&plain(host_of(authority)))?)
    }

    /// What stands before the domain. A host of our own may well stand under it too, e.g. `proxy.example.com`.
    fn label_of<'h>(&self, host: &'h str) -> Option<&'h str> {
        let label = host.strip_suffix(&self.domain)?.strip_suffix('.')?;
        (!self.own.contains(host)).then_some(label)
    }

    /// Decides where a request goes. Case, port and a trailing dot of the host don't matter.
    pub(crate) fn route(&self, target: &Target) -> Route {
        let host = plain(host_of(&target.authority));
        if let Some(label) = self.label_of(&host) {
            return match labelled(label) {
                Some(name) => Route::Tunnel { name, target: target.path.clone() },
                None => Route::NotAName,
            };
        }
        if self.is_own(&host) {
            return self.own(&target.path);
        }
        match self.hostnames.find(&host) {
            Some(name) => Route::Tunnel { name, target: target.path.clone() },
            None => Route::UnknownHost,
        }
    }

    /// The names that tunnels have beyond the domain.
    pub(crate) fn hostnames(&self) -> &Hostnames {
        &self.hostnames
    }

    /// A wanted name in the form in which it is known: one that was written out under the domain is its label.
    pub(crate) fn shortest(&self, name: TunnelName) -> Option<TunnelName> {
        let label = name.as_str().strip_suffix(&self.domain).and_then(|rest| rest.strip_suffix('.'));
        match label {
            // What is left may look like a key's name, which nobody chooses.
            Some(label) => label.parse().ok().filter(TunnelName::is_chosen),
            None => Some(name),
        }
    }

    /// How the proxy is reached from outside; no slash at the end.
    pub(crate) fn public_url(&self) -> String {
        format!("{}://{}", self.base.scheme, self.base.authority)
    }

    /// The URL by which visitors reach a tunnel; no slash at the end.
    pub(crate) fn public_url_of(&self, name: &TunnelName) -> String {
        let Base { scheme, authority, port } = &self.base;
        // No name stands under an address, but a path does.
        if is_address(&self.domain) && !name.is_hostname() {
            return format!("{scheme}://{authority}{BY_PATH}{name}");
        }
        format!("{scheme}://{}{port}", name.hostname(&self.domain))
    }

    /// The host name of a tunnel. None stands under an address.
    pub(crate) fn hostname_of(&self, name: &TunnelName) -> Option<String> {
        (name.is_hostname() || !is_address(&self.domain)).then(|| name.hostname(&self.domain))
    }

    fn own(&self, path: &PathAndQuery) -> Route {
        match own(path) {
            Route::Tunnel { name, .. }
                if name.is_hostname() && self.hostnames.find(name.as_str()).is_none() =>
            {
                Route::NotAName
            }
            route => route,
        }
    }

    /// The same place by the public URL's scheme and port; none for a host that isn't ours. Of the request nothing is taken over
    /// but a host name that was found to be ours, and what it asks for there: else a redirect could lead anywhere.
    pub(crate) fn elsewhere(&self, target: &Target) -> Option<String> {
        let Base { scheme, authority, port } = &self.base;
        // As it was sent: behind the proxy's own host a tunnel may be named by the path.
        let path = Some(target.path.as_str()).filter(|path| path.starts_with('/')).unwrap_or("/");
        let host = plain(host_of(&target.authority));
        match self.route(target) {
            Route::NotAName | Route::UnknownHost => None,
            _ if host.is_empty() || is_address(&host) => Some(format!("{scheme}://{authority}{path}")),
            _ => Some(format!("{scheme}://{host}{port}{path}")),
        }
    }

    fn is_own(&self, host: &str) -> bool {
        host.is_empty() || is_address(host) || self.own.contains(host)
    }
}

impl Base {
    fn by_default(domain: &str, port: u16, tls: bool) -> Self {
        let scheme = if tls { "https" } else { "http" }.to_owned();
        let port = if tls && port == 443 { String::new() } else { format!(":{port}") };
        // An IPv6 address as the domain needs its brackets.
        let authority =
            if domain.contains(':') { format!("[{domain}]{port}") } else { format!("{domain}{port}") };
        Self { scheme, authority, port }
    }

    fn of(url: &Uri) -> Option<Self> {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(Self { scheme: url.scheme_str()?.to_owned(), authority: url.authority()?.to_string(), port })
    }
}

fn labelled(label: &str) -> Option<TunnelName> {
    label.parse().ok().filter(|name: &TunnelName| !name.is_hostname())
}

fn own(path: &PathAndQuery) -> Route {
    if let Some(rest) = path.as_str().strip_prefix(BY_PATH) {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (label, rest) = rest.split_at(end);
        let Ok(name) = label.parse() else { return Route::NotAName };
        let target = if rest.starts_with('/') { rest.parse() } else { format!("/{rest}").parse() };
        return match target {
            Ok(target) => Route::Tunnel { name, target },
            Err(_) => Route::Own(Own::Other),
        };
    }
    Route::Own(match path.path() {
        "/" => Own::Greeting,
        "/healthz" => Own::Health,
        "/readyz" => Own::Ready,
        "/proxy/subscribe" => Own::Subscribe,
        _ => Own::Other,
    })
}

/// The host of an authority that parses, without its port.
fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        // In `[::1]` the last colon stands before the bracket.
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// Lower case, without a trailing dot or brackets.
fn plain(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.to_ascii_lowercase()
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests;

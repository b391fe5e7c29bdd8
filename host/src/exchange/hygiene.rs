//! Which headers may pass from one hop to the next, and what the proxy says about a visitor.
//!
//! Pure functions over header maps. Owns the lists and their order: what belongs to one hop is taken off first,
//! and only then is anything set, so that `Connection: X-Forwarded-Host` can't take off what we set (the class of
//! CVE-2024-45410). Must not know sockets or settings.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;

use super::{RequestKind, Scheme};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How a request came in, as far as the connection shows it.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The scheme of the connection.
    pub scheme: Scheme,
    /// Host and optional port that the request names.
    pub authority: &'a str,
    /// Peers whose word about their own visitors is taken.
    pub trusted: &'a [IpNet],
}

/// Who the visitor is and how they came, after asking trusted proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    /// Their address; port 0 if only a trusted proxy knows it and doesn't say.
    pub address: SocketAddr,
    /// The scheme that they used.
    pub scheme: Scheme,
}

/// Makes a visitor's request headers fit to be forwarded: takes off `Host`, hop-by-hop headers (RFC 9110
/// section 7.6.1), our reserved prefix and every claim about forwarding; then sets `X-Forwarded-For`, `-Host`,
/// `-Proto` and `Forwarded` (RFC 7239) to what was established here.
///
/// A trusted peer, such as a web server in front, is asked before its claims come off. It may well pass on what a
/// visitor made up, so its word is taken for two things only, and only where it must have written them itself:
///
/// - `X-Forwarded-For`, from the right to the first address that isn't a trusted proxy's. A server in front appends
///   to this list, or sets it; what stands further left is the visitor's own invention, and goes.
/// - `X-Forwarded-Proto`, its last value. Nothing else can show how the visitor came; a server in front that doesn't
///   set it lets visitors choose between `http` and `https`.
///
/// What is not asked is not believed: the host is the one by which the request was routed, never `X-Forwarded-Host`
/// (else a visitor chooses the links that a service writes into mails that reset passwords); `Forwarded` is made
/// anew from the addresses above; `X-Real-IP` and the rest of the family (`-Port`, `-Prefix`, ...), which nothing
/// here can check, go.
///
/// The order of names, and of the values of one name, stays. `alone` is what is said by this arrival alone.
pub fn request(
    headers: &mut HeaderMap,
    kind: RequestKind,
    arrival: &Arrival<'_>,
    alone: &Description,
) -> Visitor {
    let trusted = is_trusted(arrival.trusted, arrival.peer.ip());
    let trailers = wants_trailers(headers);
    let named = Named::of(headers);
    // Before anything comes off: `Connection: X-Forwarded-For`, passed on from a visitor, would make them the peer.
    let way = if trusted { Way::believed(headers, arrival) } else { Way::direct(arrival) };
    retain(headers, |name| {
        *name != header::HOST
            && passes_request(name)
            && !named.has(name)
            && (kind != RequestKind::WebSocket || !is_handshake(name))
            && !claims_forwarding(name)
            && !is_alias(name)
    });
    if trailers {
        // The one transfer coding a hop may ask of the next; gRPC servers insist on it (RFC 9110 section 10.1.4).
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if trusted {
        Description::by(arrival, &way).put(headers);
    } else {
        alone.put(headers);
    }
    way.visitor
}

/// Who somebody is and how they came, by the same rules as [`request`]; nothing is changed.
pub fn visitor(headers: &HeaderMap, arrival: &Arrival<'_>) -> Visitor {
    let trusted = is_trusted(arrival.trusted, arrival.peer.ip());
    if trusted { Way::believed(headers, arrival).visitor } else { Way::direct(arrival).visitor }
}

/// Makes an origin's response headers, interim or final, fit to be forwarded.
pub fn response(headers: &mut HeaderMap) {
    let named = Named::of(headers);
    // RFC 9112 section 6.3: beside `Transfer-Encoding` a length means nothing.
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    retain(headers, |name| {
        passes_response(name) && !named.has(name) && !(chunked && *name == header::CONTENT_LENGTH)
    });
}

/// Makes the response headers of an accepted upgrade fit to be forwarded: as [`response`], and without what each
/// hop of a WebSocket negotiates for itself.
pub fn upgrade_response(headers: &mut HeaderMap) {
    response(headers);
    retain(headers, |name| !is_handshake(name) && !is_framing(name));
}

/// Makes trailers of either direction fit to be forwarded: nothing of one hop, no framing, no routing (RFC 9110
/// section 6.5.1), no claim about forwarding, which nobody would check again after the head.
pub fn trailers(headers: &mut HeaderMap) {
    let named = Named::of(headers);
    let stays = |name: &HeaderName| {
        passes_request(name)
            && passes_response(name)
            && !named.has(name)
            && !is_framing(name)
            && !claims_forwarding(name)
            && !is_alias(name)
            && *name != header::HOST
    };
    retain(headers, stays);
}

/// Keeps the headers for which `stays` holds, in order. (`HeaderMap::remove` moves the last entry into the gap.)
pub fn retain(headers: &mut HeaderMap, stays: impl Fn(&HeaderName) -> bool) {
    if headers.keys().all(&stays) {
        return;
    }
    let mut kept = HeaderMap::with_capacity(headers.len() + 5);
    let mut current: Option<HeaderName> = None;
    for (name, value) in std::mem::take(headers) {
        if let Some(name) = name {
            current = stays(&name).then_some(name);
        }
        if let Some(name) = &current {
            kept.append(name.clone(), value);
        }
    }
    *headers = kept;
}

/// The names that the `Connection` header lists.
struct Named(Vec<HeaderName>);

impl Named {
    fn of(headers: &HeaderMap) -> Self {
        let options = tokens(headers, &header::CONNECTION);
        // The usual two name no header, or one that goes anyway.
        let options = options.filter(|option| {
            !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close")
        });
        Self(options.filter_map(|option| HeaderName::from_bytes(option).ok()).collect())
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.0.contains(name)
    }
}

/// Whether a comma-separated list holds a token, in either case.
pub fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

/// What `Content-Length` announces, in bytes, where it announces anything at all: nothing that could be relied on.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the sender of a request waits for a word before it sends the body (RFC 9110 section 10.1.1).
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The members of a comma-separated list over all its lines, trimmed.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

fn passes_request(name: &HeaderName) -> bool {
    // RFC 9110 section 11.7.2: credentials for a proxy are for the next one, and a gateway's origin isn't one.
    !is_hop_by_hop(name) && *name != header::PROXY_AUTHORIZATION && !is_reserved(name)
}

fn passes_response(name: &HeaderName) -> bool {
    // RFC 9110 section 11.7.1 and 11.7.3: these speak to the next client on the way back, which is us.
    !is_hop_by_hop(name)
        && *name != header::PROXY_AUTHENTICATE
        && name.as_str() != "proxy-authentication-info"
        && !is_reserved(name)
}

/// RFC 9110 section 7.6.1. `Trailer` isn't among them: it describes trailers that do pass.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, header::CONNECTION | header::TE | header::TRANSFER_ENCODING | header::UPGRADE)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Names in which only the programs of a tunnel may speak.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    name.len() > 6 && name.starts_with(b"tunnel") && matches!(name[6], b'-' | b'_')
}

/// Whether a plugin may set a header, or take it off: what belongs to one hop, frames the message, routes it or is ours is
/// not a plugin's to change.
pub fn is_for_plugins(name: &HeaderName) -> bool {
    passes_request(name)
        && passes_response(name)
        && !is_framing(name)
        && !is_handshake(name)
        && *name != header::HOST
        && *name != header::EXPECT
}

/// Whether a header says to the service who asks, and isn't to be changed between the proxy and it: what a plugin took off would make
/// strangers look like the client's own machine.
pub fn describes_visitor(name: &HeaderName) -> bool {
    [header::FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO].contains(name)
}

/// What each hop of a WebSocket negotiates for itself (RFC 6455 section 4).
fn is_handshake(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::SEC_WEBSOCKET_KEY
            | header::SEC_WEBSOCKET_VERSION
            | header::SEC_WEBSOCKET_EXTENSIONS
            | header::SEC_WEBSOCKET_ACCEPT
    )
}

fn is_framing(name: &HeaderName) -> bool {
    matches!(*name, header::CONTENT_LENGTH | header::TRAILER)
}

/// Whether a header says who the visitor is or how they came. Origins behind CGI-like gateways read `_` as `-`, so
/// `X_Forwarded_Proto` would be believed as ours (GHSA-5m6w-wvh7-57vm).
fn claims_forwarding(name: &HeaderName) -> bool {
    const FAMILY: &[u8] = b"x-forwarded-";
    let bytes = name.as_str().as_bytes();
    let folds_to =
        |prefix: &[u8]| bytes.iter().zip(prefix).all(|(&a, &b)| a == b || (a == b'_' && b == b'-'));
    *name == header::FORWARDED
        || (bytes.len() > FAMILY.len() && folds_to(FAMILY))
        || (bytes.len() == 9 && folds_to(b"x-real-ip"))
}

/// Whether a visitor's header would be read by CGI-like gateways as one that this hop sets, takes off or acts on: `Content_Length`
/// behind us would frame a body that was framed otherwise in front.
fn is_alias(name: &HeaderName) -> bool {
    if !name.as_str().contains('_') {
        return false;
    }
    let meant = HeaderName::try_from(name.as_str().replace('_', "-"));
    meant.is_ok_and(|meant| {
        !passes_request(&meant) || is_framing(&meant) || is_handshake(&meant) || claims_forwarding(&meant)
    })
}

/// Takes off what CGI-like gateways would read as `name`, beside `name` itself: a plugin that says who the visitor is means to be the
/// only one who says it.
pub fn without_aliases(headers: &mut HeaderMap, name: &HeaderName) {
    let folded = |name: &HeaderName| name.as_str().replace('_', "-");
    let meant = folded(name);
    retain(headers, |other| other == name || other.as_str().len() != meant.len() || folded(other) != meant);
}

/// Whether a request says that it takes trailers (RFC 9110 section 10.1.4).
pub fn wants_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, &header::TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Whether an address is of one of these networks, as IPv4 too where it is mapped into IPv6.
pub fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    !trusted.is_empty() && trusted.iter().any(|net| net.contains(&address.to_canonical()))
}

/// How a request came here, as far as it is established.
struct Way {
    visitor: Visitor,
    /// The trusted proxies between the visitor and the peer, in the order in which the request passed them; with the
    /// visitor in front. Empty if the peer is the visitor.
    before: Vec<IpAddr>,
}

impl Way {
    /// The peer is the visitor.
    fn direct(arrival: &Arrival<'_>) -> Self {
        Self { visitor: Visitor { address: arrival.peer, scheme: arrival.scheme }, before: Vec::new() }
    }

    /// What a trusted peer says of its visitor; see [`request`].
    fn believed(headers: &HeaderMap, arrival: &Arrival<'_>) -> Self {
        let mut way = Self::direct(arrival);
        let hops: Vec<_> = tokens(headers, &X_FORWARDED_FOR).collect();
        for hop in hops.iter().rev() {
            // An entry that can't be read ends the chain: nothing to its left is vouched for.
            let Some(next) = std::str::from_utf8(hop).ok().and_then(parse_address) else { break };
            way.visitor.address = next;
            way.before.push(next.ip());
            if !is_trusted(arrival.trusted, next.ip()) {
                break;
            }
        }
        way.before.reverse();
        way.visitor.scheme = match tokens(headers, &X_FORWARDED_PROTO).last() {
            Some(proto) if proto.eq_ignore_ascii_case(b"https") => Scheme::Https,
            Some(proto) if proto.eq_ignore_ascii_case(b"http") => Scheme::Http,
            _ => arrival.scheme,
        };
        way
    }
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, 0)).or_else(|_| text.parse()).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// What is said of a visitor, and of how they came.
#[derive(Debug, Clone)]
pub struct Description {
    forwarded_for: Option<HeaderValue>,
    forwarded: Option<HeaderValue>,
    host: Option<HeaderValue>,
    scheme: Scheme,
}

impl Description {
    /// What there is to say if the peer is the visitor: the same for all that comes from one peer by one scheme to one host.
    pub fn of(arrival: &Arrival<'_>) -> Self {
        Self::by(arrival, &Way::direct(arrival))
    }

    fn by(arrival: &Arrival<'_>, way: &Way) -> Self {
        let peer = arrival.peer.ip().to_canonical();
        let mut text = String::with_capacity(128);
        for ip in &way.before {
            let _ = write!(text, "{ip}, ");
        }
        let _ = write!(text, "{peer}");
        let forwarded_for = value(&text);
        text.clear();
        forwarded(&mut text, &peer, arrival, way);
        let host = Some(arrival.authority).filter(|host| !host.is_empty());
        Self {
            forwarded_for,
            forwarded: value(&text),
            host: host.and_then(value),
            scheme: way.visitor.scheme,
        }
    }

    /// Of these headers none may be there: what isn't said here isn't said at all.
    fn put(&self, headers: &mut HeaderMap) {
        let said = [
            (X_FORWARDED_FOR, &self.forwarded_for),
            (header::FORWARDED, &self.forwarded),
            (X_FORWARDED_HOST, &self.host),
        ];
        for (name, value) in said {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(self.scheme.as_str()));
    }
}

/// Writes the value of `Forwarded`.
fn forwarded(text: &mut String, peer: &IpAddr, arrival: &Arrival<'_>, way: &Way) {
    let host = arrival.authority;
    let last = way.before.len();
    for (at, ip) in way.before.iter().chain([peer]).enumerate() {
        let _ = match ip {
            IpAddr::V4(ip) => write!(text, "for={ip}"),
            // RFC 7239 section 6: an IPv6 address stands in brackets, and brackets need quotes.
            IpAddr::V6(ip) => write!(text, "for=\"[{ip}]\""),
        };
        // Some readers look at the first element, others at the last; of those between, host and scheme are unknown.
        if at == 0 || at == last {
            let _ = match host {
                // An HTTP/1.0 visitor may name none.
                "" => Ok(()),
                _ if is_token(host) => write!(text, ";host={host}"),
                _ => write!(text, ";host=\"{host}\""),
            };
            let scheme = if at == 0 { way.visitor.scheme } else { arrival.scheme };
            let _ = write!(text, ";proto={}", scheme.as_str());
        }
        if at != last {
            text.push_str(", ");
        }
    }
}

/// An authority that was parsed can't be an invalid value; were it one, the header would rather be missing.
fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// RFC 9110 section 5.6.2; anything else must be quoted. A host with a port isn't a token.
fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests;

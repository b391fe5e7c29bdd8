//! What this process knows about an exchange beside the HTTP message itself.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::{HeaderMap, StatusCode};

use super::Witness;
use crate::wire::{Notes, Tls, TunnelName};

/// Identity of an exchange and facts about its visitor.
#[derive(Clone)]
pub struct Context {
    /// Names the exchange in logs and error answers, the same at the proxy and at the client.
    pub exchange: ExchangeId,
    /// The tunnel that the visitor asked for.
    pub tunnel: TunnelName,
    /// The visitor's address as the proxy established it.
    pub visitor: Option<VisitorAddress>,
    /// What is established of the visitor's TLS, if the visitor came to the proxy by it.
    pub tls: Option<Arc<Tls>>,
    /// What plugins left for those further on. Never seen by visitor or origin.
    pub notes: Notes,
    /// Takes interim (1xx) responses that arrive before the final one; `None` drops them.
    pub interim: Option<Interim>,
    /// Told what happens to the exchange in this process; `None` where nobody listens.
    pub witness: Option<Arc<dyn Witness>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("exchange", &self.exchange)
            .field("tunnel", &self.tunnel)
            .field("visitor", &self.visitor)
            .finish_non_exhaustive()
    }
}

/// A visitor's address, with its text where that is at hand: a session sends the text with each exchange.
#[derive(Debug, Clone)]
pub struct VisitorAddress {
    address: SocketAddr,
    text: Option<Arc<str>>,
}

impl VisitorAddress {
    /// Writes the text once, for all exchanges of a connection.
    pub fn written(address: SocketAddr) -> Self {
        Self { address, text: Some(address.to_string().into()) }
    }

    /// Address and port; port 0 if it isn't known.
    pub fn get(&self) -> SocketAddr {
        self.address
    }
}

impl From<SocketAddr> for VisitorAddress {
    fn from(address: SocketAddr) -> Self {
        Self { address, text: None }
    }
}

impl fmt::Display for VisitorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => self.address.fmt(f),
        }
    }
}

/// Receives interim responses (RFC 9110 section 15.2). A status of 100 means that the next stage wants the body
/// of a request with `Expect: 100-continue`; it is a signal and not to be passed on as bytes.
pub type Interim = Arc<dyn Fn(StatusCode, HeaderMap) + Send + Sync>;

/// Names one exchange; printed as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExchangeId(pub u64);

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

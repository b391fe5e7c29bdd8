//! Settings of the door.

use std::{fmt, net::SocketAddr, sync::Arc};

use ipnet::IpNet;

use super::tls::TlsSettings;

/// How visitors and clients come in.
#[derive(Debug, Clone, Default)]
pub struct DoorSettings {
    /// What the listener speaks TLS by; plain HTTP if there is nothing.
    pub tls: Option<TlsSettings>,
    /// A second listener, for plain HTTP, which leads to the first one's URLs.
    pub http: Option<SocketAddr>,
    /// What an authority of certificates asks for there (RFC 8555 section 8.3).
    pub challenges: Option<Challenges>,
    /// Visitors can't speak HTTP/2.
    pub http1_only: bool,
    /// Peers whose connections begin with a header of the PROXY protocol.
    pub proxy_protocol: Vec<IpNet>,
}

/// Looks up what was put down for a token of the ACME protocol; may block.
#[derive(Clone)]
pub struct Challenges(pub Arc<Lookup>);

/// What there is for a token.
type Lookup = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenges")
    }
}

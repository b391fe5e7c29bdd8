//! One connection to the origin, by TCP or TLS, always to the configured address.
//!
//! Owns name lookup, trust and the sentences for what can go wrong. Knows nothing of HTTP: a request's target or
//! `Host` never reaches it, so that no visitor can steer where the client connects.

use std::{error::Error as _, io, sync::Arc, time::Duration};

use http::uri::Authority;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};
use tokio_util::either::Either;

use super::OriginConfig;

/// HTTP/2 by its name in ALPN (RFC 9113 section 3.2).
const H2: &[u8] = b"h2";

/// Silence of the other end's kernel after which a connection for many exchanges is given up.
const GONE_AFTER: Duration = Duration::from_secs(20);

/// A connection to the origin.
pub(super) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Why there is no connection, in a sentence that a visitor may read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("nothing answers at {url}")]
    Refused { url: Arc<str>, source: io::Error },
    #[error("the host of {url} is not known")]
    UnknownHost { url: Arc<str>, source: io::Error },
    #[error("{url} took too long to accept a connection")]
    TimedOut { url: Arc<str> },
    #[error(
        "the certificate of {url} is not trusted; to publish it all the same, start the client with --insecure-origin"
    )]
    NotTrusted { url: Arc<str>, source: io::Error },
    #[error("{url} does not speak TLS as it should; is it an http:// service?")]
    Tls { url: Arc<str>, source: io::Error },
    #[error("{url} does not speak HTTP/2; start the client with --origin-protocol http1")]
    NotHttp2 { url: Arc<str> },
    #[error("{url} can't be reached")]
    Unreachable { url: Arc<str>, source: io::Error },
}

/// The origin can't be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// Neither `http` nor `https`.
    #[error("an origin is reached by http or https, not by {0}")]
    Scheme(http::uri::Scheme),
    /// The host can't stand in a certificate.
    #[error("{0} is not a host that a certificate can name")]
    Host(String),
    /// There is nothing to check certificates against.
    #[error(
        "this system has no trusted certificates, so that no https origin can be checked; install them, or start the client with --insecure-origin"
    )]
    NoRoots,
    /// The TLS library refuses its settings.
    #[error("TLS can't be set up")]
    Tls(#[from] rustls::Error),
}

/// Connects to one origin.
#[derive(Clone)]
pub(super) struct Connector(Arc<Target>);

struct Target {
    url: Arc<str>,
    host: String,
    port: u16,
    tls: Option<Tls>,
    connect_timeout: Duration,
}

/// TLS to the origin, by what is to be spoken over it.
struct Tls {
    http1: TlsConnector,
    /// Offers both, so that a server without HTTP/2 can say so, and needn't break off.
    http2: TlsConnector,
    name: ServerName<'static>,
}

/// The version of HTTP that a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Http1,
    Http2,
}

impl Connector {
    /// A connector for the configured origin; reads the system's roots if they are needed.
    pub(super) fn new(config: &OriginConfig) -> Result<Self, OriginError> {
        let tls = match config.scheme.as_str() {
            "http" => None,
            "https" if config.insecure => Some(trust_any()?),
            "https" => Some(trust(system_roots()?)?),
            _ => return Err(OriginError::Scheme(config.scheme.clone())),
        };
        Self::with_tls(config, tls)
    }

    fn with_tls(config: &OriginConfig, tls: Option<ClientConfig>) -> Result<Self, OriginError> {
        let host = bare_host(&config.authority).to_owned();
        let tls = match tls {
            None => None,
            Some(tls) => {
                let offering = |protocols: &[&[u8]]| {
                    let mut tls = tls.clone();
                    tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
                    TlsConnector::from(Arc::new(tls))
                };
                let name = ServerName::try_from(host.clone()).map_err(|_| OriginError::Host(host.clone()))?;
                Some(Tls { http1: offering(&[b"http/1.1"]), http2: offering(&[H2, b"http/1.1"]), name })
            }
        };
        let port = config.authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Self(Arc::new(Target {
            url: format!("{}://{}", config.scheme, config.authority).into(),
            host,
            port,
            tls,
            connect_timeout: config.connect_timeout,
        })))
    }

    /// Connects to speak HTTP/1.1.
    pub(super) async fn http1(&self) -> Result<Stream, ConnectError> {
        told(self.0.connect(Wanted::Http1).await)
    }

    /// Connects to speak HTTP/2: over TLS as agreed on, else by prior knowledge (RFC 9113 section 3).
    pub(super) async fn http2(&self) -> Result<Stream, ConnectError> {
        told(self.0.connect(Wanted::Http2).await)
    }

    /// The origin spoke something else than HTTP/2 where nothing else had been agreed on.
    pub(super) fn not_http2(&self) -> ConnectError {
        ConnectError::NotHttp2 { url: Arc::clone(&self.0.url) }
    }

    /// The HTTP library doesn't take a connection.
    pub(super) fn unusable(&self, error: hyper::Error) -> ConnectError {
        ConnectError::Unreachable { url: Arc::clone(&self.0.url), source: io::Error::other(error) }
    }

    /// Longest wait for a connection.
    pub(super) fn timeout(&self) -> Duration {
        self.0.connect_timeout
    }

    /// The origin as configured, for messages.
    pub(super) fn url(&self) -> &Arc<str> {
        &self.0.url
    }
}

impl Target {
    async fn connect(&self, wanted: Wanted) -> Result<Stream, ConnectError> {
        let connecting = async {
            let tcp = self.tcp().await?;
            if wanted == Wanted::Http2 {
                outlives_nobody(&tcp);
            }
            match &self.tls {
                None => Ok(Either::Left(tcp)),
                Some(tls) => {
                    let connector = if wanted == Wanted::Http2 { &tls.http2 } else { &tls.http1 };
                    let connecting = connector.connect(tls.name.clone(), tcp);
                    let stream = connecting.await.map_err(|error| self.tls_error(error))?;
                    if wanted == Wanted::Http2 && stream.get_ref().1.alpn_protocol() != Some(H2) {
                        return Err(ConnectError::NotHttp2 { url: Arc::clone(&self.url) });
                    }
                    Ok(Either::Right(stream))
                }
            }
        };
        let timed_out = || ConnectError::TimedOut { url: Arc::clone(&self.url) };
        timeout(self.connect_timeout, connecting).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Tries the host's addresses in turn: `localhost` is often two, and most services listen on one of them.
    async fn tcp(&self) -> Result<TcpStream, ConnectError> {
        let unknown = |source| ConnectError::UnknownHost { url: Arc::clone(&self.url), source };
        let addresses: Vec<_> =
            lookup_host((self.host.as_str(), self.port)).await.map_err(unknown)?.collect();
        // One address that swallows packets must not use up the time of the others.
        let share = self.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Frames of a WebSocket and parts of a body are not to wait for an acknowledgement.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY was refused");
                    }
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        let (url, source) = (Arc::clone(&self.url), last);
        Err(match source.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused { url, source },
            io::ErrorKind::TimedOut => ConnectError::TimedOut { url },
            io::ErrorKind::NotFound => ConnectError::UnknownHost { url, source },
            _ => ConnectError::Unreachable { url, source },
        })
    }

    fn tls_error(&self, source: io::Error) -> ConnectError {
        let url = Arc::clone(&self.url);
        let cause = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(_)) => ConnectError::NotTrusted { url, source },
            _ => ConnectError::Tls { url, source },
        }
    }
}

fn told(connected: Result<Stream, ConnectError>) -> Result<Stream, ConnectError> {
    if let Err(error) = &connected {
        tracing::debug!(%error, cause = ?error.source(), "no connection to the origin");
    }
    connected
}

/// Sees to it that a connection ends soon when its other end, or the way to it, is gone: all that is asked for goes on it,
/// also what is asked for afterwards.
fn outlives_nobody(tcp: &TcpStream) {
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new().with_time(GONE_AFTER / 2).with_interval(GONE_AFTER / 4);
    let mut set = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    {
        // Also counts what was sent and is not acknowledged, which keepalive doesn't.
        set = set.and_then(|()| socket.set_tcp_user_timeout(Some(GONE_AFTER)));
    }
    if let Err(error) = set {
        tracing::debug!(%error, "a connection to the origin can't be watched");
    }
}

/// The host without the brackets of an IPv6 address.
fn bare_host(authority: &Authority) -> &str {
    let host = authority.host();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// TLS to the proxy: its certificate has to be good by these roots, or else by the system's.
pub(super) fn to_proxy(roots: Option<&RootCertStore>) -> Result<TlsConnector, OriginError> {
    let roots = roots.cloned().map_or_else(system_roots, Ok)?;
    Ok(TlsConnector::from(Arc::new(trust(roots)?)))
}

fn system_roots() -> Result<RootCertStore, OriginError> {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::debug!(%error, "some of the system's certificates can't be read");
    }
    let mut roots = RootCertStore::empty();
    // Systems carry old certificates that no library reads any more.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err(OriginError::NoRoots) } else { Ok(roots) }
}

fn trust(roots: RootCertStore) -> Result<ClientConfig, OriginError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// Only for `--insecure-origin`: the connection is encrypted, but to whom is not known.
fn trust_any() -> Result<ClientConfig, OriginError> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// Accepts every certificate; still checks that the peer holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "tests/connect.rs"]
pub(in crate::client) mod tests;

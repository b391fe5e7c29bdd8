//! TLS at the door (RFC 8446): what is in force, and the handshake.
//!
//! Owns the versions and protocols that are offered. What is in force is replaced as one piece while the node runs: handshakes
//! under way end by what they began with.

use std::{fmt, io, pin::pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::HeaderValue;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use sha2::{Digest, Sha256};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::CertificateDer,
        server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
        version::{TLS12, TLS13},
    },
    server::TlsStream,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::certificate::{ByName, Certificate};
use crate::wire::{
    Tls,
    tls::{ClientCertificate, MAX_SUBJECT},
};

/// What is offered to visitors (RFC 7301), the best first.
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// The first byte of every handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// What is said to those who take the port for a plain one.
const PLAIN: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
    content-length: 49\r\n\r\nThis address speaks TLS: its URL is an https one.\n";

/// Settings of the listener's TLS.
#[derive(Clone)]
pub struct TlsSettings {
    /// At least one; the first is for visitors who ask for a name that none is for.
    pub certificates: Vec<Certificate>,
    /// Who signs visitors' own certificates, where those are asked for.
    pub visitors: Option<VisitorCertificates>,
    /// How long a visitor may take from the connection to the end of the handshake.
    pub handshake_timeout: Duration,
    /// The value of `Strict-Transport-Security` (RFC 6797) on answers that have none.
    pub hsts: Option<HeaderValue>,
    /// HTTP/2 isn't offered.
    pub http1_only: bool,
}

/// Visitors' own certificates.
#[derive(Clone)]
pub struct VisitorCertificates {
    /// Who signs them.
    pub authorities: Arc<RootCertStore>,
    /// Whether a visitor without one is refused. Clients, which have their keys, never need one.
    pub required: bool,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings").field("certificates", &self.certificates.len()).finish_non_exhaustive()
    }
}

/// Settings that TLS can't be spoken by.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The library doesn't take them.
    #[error(transparent)]
    Library(#[from] rustls::Error),
    /// Visitors' certificates can't be checked.
    #[error(transparent)]
    Authorities(#[from] rustls::server::VerifierBuilderError),
}

/// What is in force.
pub(in super::super) struct InForce {
    acceptor: TlsAcceptor,
    pub(in super::super) settings: TlsSettings,
}

impl InForce {
    pub(in super::super) fn new(settings: TlsSettings) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ClientCertVerifier> = match &settings.visitors {
            None => Arc::new(NoClientAuth),
            // Whether one is required is for the request to say: a client of a tunnel has none.
            Some(visitors) => WebPkiClientVerifier::builder_with_provider(
                Arc::clone(&visitors.authorities),
                Arc::clone(&provider),
            )
            .allow_unauthenticated()
            .build()?,
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(ByName::new(&settings.certificates)));
        let offered = if settings.http1_only { &ALPN[1..] } else { ALPN };
        config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        // Keys of its own, that change every few hours: what was resumed by settings that are gone isn't resumed by these.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), settings })
    }
}

/// The TLS of a node, and what becomes of its handshakes.
pub(in super::super) struct TlsDoor {
    in_force: ArcSwap<InForce>,
    handshakes: Family<Outcome, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl TlsDoor {
    pub(in super::super) fn new(settings: TlsSettings) -> Result<Self, TlsError> {
        let in_force = ArcSwap::from_pointee(InForce::new(settings)?);
        Ok(Self { in_force, handshakes: Family::default() })
    }

    pub(in super::super) fn register(&self, registry: &mut Registry) {
        let help = "TLS handshakes by what came of them";
        registry.register("tls_handshakes", help, self.handshakes.clone());
    }

    pub(in super::super) fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    pub(in super::super) fn replace(&self, settings: TlsSettings) -> Result<(), TlsError> {
        self.in_force.store(Arc::new(InForce::new(settings)?));
        Ok(())
    }

    /// The visitor's side of a handshake that came to its end in time.
    pub(super) async fn shake(&self, socket: TcpStream) -> Option<(Box<TlsStream<TcpStream>>, Tls)> {
        let in_force = self.in_force();
        let limit = in_force.settings.handshake_timeout;
        // Ends with this function: whoever sees the connection closed finds it counted.
        let mut accepting = pin!(accept(&in_force.acceptor, socket));
        let outcome = match tokio::time::timeout(limit, accepting.as_mut()).await {
            Ok(Ok(Some(stream))) => {
                let facts = facts(&stream);
                self.count("done");
                return Some((Box::new(stream), facts));
            }
            Ok(Ok(None)) => "plain",
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                "failed"
            }
            Err(_) => "late",
        };
        self.count(outcome);
        None
    }

    fn count(&self, outcome: &'static str) {
        self.handshakes.get_or_create(&Outcome { outcome }).inc();
    }
}

/// `None` if the visitor speaks something else.
async fn accept(acceptor: &TlsAcceptor, mut socket: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if socket.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        if first[0].is_ascii_alphabetic() {
            // Where it fails the visitor is gone already.
            let _ = socket.write_all(PLAIN).await;
        }
        return Ok(None);
    }
    acceptor.accept(socket).await.map(Some)
}

fn facts(stream: &TlsStream<TcpStream>) -> Tls {
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        _ => "1.3",
    };
    let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    Tls {
        version: version.to_owned(),
        // IANA's names of 1.3 have no number in them.
        cipher: cipher.unwrap_or_default().replace("TLS13_", "TLS_"),
        server_name: session.server_name().map(str::to_ascii_lowercase),
        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        client: session.peer_certificates().and_then(|chain| chain.first()).and_then(client),
    }
}

/// A certificate that was verified when the connection, or the one that it resumes, was made.
fn client(der: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let mut subject = parsed.subject().to_string();
    subject.truncate(subject.floor_char_boundary(MAX_SUBJECT));
    Some(ClientCertificate { subject, sha256: Sha256::digest(der).into() })
}

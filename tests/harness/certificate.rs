//! Certificates that nobody but the test has signed, as files of programs want them, and connections that trust them.

use std::{fs::Permissions, net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        version::{TLS12, TLS13},
    },
};

use super::{Wire, tunnel::Home, within};

/// A certificate for these names and its key, both as text (RFC 7468).
pub(crate) fn self_signed(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Somebody who signs certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate, with what it was signed by, and its key; both as text.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's certificate for these names.
    pub(crate) fn server(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.sign(CertificateParams::new(names).expect("names"))
    }

    /// A visitor's certificate.
    pub(crate) fn visitor(&self, name: &str) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { certificate: signed.pem() + &self.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// Writes both into a folder, under these names, as one who replaces what is there.
    pub(crate) fn write(&self, home: &Home, name: &str) -> [PathBuf; 2] {
        let put = |end: &str, text: &str| {
            let (path, aside) = (home.file(&format!("{name}.{end}")), home.file(&format!("{name}.{end}~")));
            std::fs::write(&aside, text).expect("a temporary folder can be written to");
            std::fs::set_permissions(&aside, Permissions::from_mode(0o600)).expect("the file is ours");
            std::fs::rename(&aside, &path).expect("a file can be replaced");
            path
        };
        // The key first: a reader never sees a new certificate beside an old key for long.
        let key = put("key", &self.key);
        [put("pem", &self.certificate), key]
    }
}

/// How a visitor speaks TLS.
pub(crate) struct Secure {
    roots: Arc<RootCertStore>,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    own: Option<Pair>,
}

impl Secure {
    /// With this authority alone, and all that is usual.
    pub(crate) fn trusting(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).expect("an authority");
        Self { roots: Arc::new(roots), versions: vec![&TLS13, &TLS12], alpn: Vec::new(), own: None }
    }

    /// By TLS 1.2 and nothing else.
    pub(crate) fn by_1_2(mut self) -> Self {
        self.versions = vec![&TLS12];
        self
    }

    /// Offers these protocols.
    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Has a certificate of its own.
    pub(crate) fn known_by(mut self, own: &Pair) -> Self {
        self.own = Some(own.clone());
        self
    }

    /// The settings of a library that speaks it.
    pub(crate) fn config(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&self.versions)
            .expect("versions that there are")
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes());
                let chain = chain.collect::<Result<_, _>>().expect("certificates");
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols = self.alpn.clone();
        config
    }

    /// A connection on which the handshake is done, or why there is none.
    pub(crate) async fn try_visit(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.over(within("a connection", TcpStream::connect(address)).await?, name).await
    }

    /// The same on a connection that is there already.
    pub(crate) async fn over(&self, socket: TcpStream, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connector = TlsConnector::from(Arc::new(self.config()));
        within("a handshake", connector.connect(name, socket)).await
    }

    /// The same, as a visitor's connection.
    pub(crate) async fn visit(&self, address: SocketAddr, name: &str) -> Wire {
        let stream = self.try_visit(address, name).await;
        Wire::over(stream.unwrap_or_else(|error| panic!("no TLS with {name} at {address}: {error}")))
    }
}

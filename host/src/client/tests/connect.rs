//! Connections refused, not trusted, trusted, and never to anywhere else.

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, pem::PemObject},
    },
};

use super::*;
use crate::client::tests::TestOrigin;

/// For `localhost` and 127.0.0.1, signed by itself, made for these tests.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBZTCCAQqgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEwMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDEfSoaOKCL2vV24
EmYXv+uT5K8+lXImCRllVk0J0jXKyhp8kQLdMp1HkWW1zIqX34k3CSXI4Q2UVSSV
GexCfa+jSzBJMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAMBgNVHRMBAf8E
AjAAMB0GA1UdDgQWBBSb3P5ni+vYquOEOzy7qwu4EEthZzAKBggqhkjOPQQDAgNJ
ADBGAiEAsMSlhwaRxBzcaWxttN4ucYiUE9r0JhrHKA64lxTvz/sCIQDBsnlVU6HN
bJpX4duS6+RbIBYKouBC7qm9zfx/Sq9FXg==
-----END CERTIFICATE-----
";

const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgmla62ymytsH3yNGK
2gJbf1PHnj/F/VklDL498X9Ad8OhRANCAAQxH0qGjigi9r1duBJmF7/rk+SvPpVy
JgkZZVZNCdI1ysoafJEC3TKdR5FltcyKl9+JNwklyOENlFUklRnsQn2v
-----END PRIVATE KEY-----
";

pub(in crate::client) fn acceptor() -> TlsAcceptor {
    agreeing_on(&[])
}

/// One that agrees on these protocols, or on none.
pub(in crate::client) fn agreeing_on(protocols: &[&str]) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

fn trusting(certificates: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    }
    trust(roots).unwrap()
}

/// Connects while the origin does its part of a TLS handshake.
async fn handshake(origin: &TestOrigin, connector: Connector) -> Result<(), ConnectError> {
    let accepting = async {
        let stream = origin.accept().await;
        drop(acceptor().accept(stream).await);
    };
    let (connected, ()) = tokio::join!(connector.http1(), accepting);
    connected.map(drop)
}

async fn https_origin() -> TestOrigin {
    let mut origin = TestOrigin::bind().await;
    origin.config.scheme = http::uri::Scheme::HTTPS;
    origin
}

#[tokio::test]
async fn a_refused_connection_names_the_origin() {
    let origin = TestOrigin::bind().await;
    let (config, url) = (origin.config.clone(), origin.url());
    drop(origin);
    let connected = Connector::new(&config).unwrap().http1().await;
    assert_eq!(connected.err().unwrap().to_string(), format!("nothing answers at {url}"));
}

#[tokio::test]
async fn an_unknown_host_is_named() {
    let mut origin = TestOrigin::bind().await;
    origin.config.authority = "no-such-host.invalid:3000".parse().unwrap();
    let connected = Connector::new(&origin.config).unwrap().http1().await;
    let sentence = connected.err().unwrap().to_string();
    assert_eq!(sentence, "the host of http://no-such-host.invalid:3000 is not known");
}

#[tokio::test]
async fn localhost_is_tried_at_each_of_its_addresses() {
    let mut origin = TestOrigin::bind().await;
    let port = origin.config.authority.port_u16().unwrap();
    origin.config.authority = format!("localhost:{port}").parse().unwrap();
    let connector = Connector::new(&origin.config).unwrap();
    let (connected, _) = tokio::join!(connector.http1(), origin.accept());
    let connected = connected.unwrap();
    let Either::Left(tcp) = connected else { panic!("TLS") };
    assert!(tcp.nodelay().unwrap());
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_and_the_switch_named() {
    let origin = https_origin().await;
    let connector = Connector::with_tls(&origin.config, Some(trusting(&[]))).unwrap();
    let error = handshake(&origin, connector).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTrusted { .. }), "{error:?}");
    assert!(error.to_string().contains(&origin.url()) && error.to_string().contains("--insecure-origin"));
}

#[tokio::test]
async fn a_trusted_certificate_is_accepted_for_its_own_names_only() {
    let mut origin = https_origin().await;
    let connector = Connector::with_tls(&origin.config, Some(trusting(&[CERTIFICATE]))).unwrap();
    handshake(&origin, connector).await.unwrap();
    let port = origin.config.authority.port_u16().unwrap();
    origin.config.authority = format!("127.0.0.2:{port}").parse().unwrap();
    let tls = trusting(&[CERTIFICATE]);
    let mut connector = Connector::with_tls(&origin.config, Some(tls)).unwrap();
    // The certificate doesn't name this address; connect by hand to where the origin is.
    let target = Arc::get_mut(&mut connector.0).unwrap();
    target.host = "127.0.0.1".to_owned();
    let error = handshake(&origin, connector).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn insecure_accepts_any_certificate() {
    let mut origin = https_origin().await;
    origin.config.insecure = true;
    handshake(&origin, Connector::new(&origin.config).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_plain_service_under_https_is_told() {
    let mut origin = https_origin().await;
    origin.config.insecure = true;
    let connector = Connector::new(&origin.config).unwrap();
    let serving = crate::client::tests::serve_plain(&origin);
    let (connected, ()) = tokio::join!(connector.http1(), serving);
    let error = connected.err().unwrap();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_never_ends_times_out() {
    let mut origin = https_origin().await;
    origin.config.insecure = true;
    let error = Connector::new(&origin.config).unwrap().http1().await.err().unwrap();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error:?}");
}

#[test]
fn schemes_that_are_not_http() {
    let config = OriginConfig {
        scheme: "ftp".parse().unwrap(),
        authority: Authority::from_static("localhost"),
        host_header: crate::client::HostHeader::Keep,
        insecure: false,
        connect_timeout: Duration::from_secs(1),
        protocol: Default::default(),
    };
    assert!(matches!(Connector::new(&config), Err(OriginError::Scheme(_))));
}

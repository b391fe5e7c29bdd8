//! Certificates and their keys: what was read from files becomes something that TLS can use, or a sentence that says why not.
//!
//! Owns which certificate answers which name. Must not know files or sockets.

use std::{collections::HashMap, sync::Arc};

use tokio_rustls::rustls::{
    self, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// A certificate with its chain and its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    /// Seconds since 1970-01-01 UTC before which it isn't good yet.
    pub not_before: i64,
    /// Seconds since 1970-01-01 UTC after which it isn't good any more.
    pub not_after: i64,
}

/// Why a certificate can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The certificate's file holds none.
    #[error("it has no certificate in it: a PEM file is wanted, with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// The key's file holds none.
    #[error("it has no private key in it: a PEM file is wanted, with -----BEGIN PRIVATE KEY-----")]
    NoKey,
    /// The key is of no use without its password.
    #[error(
        "its private key has a password, which nobody can give at a start; write it without one: \
         openssl pkey -in KEY -out NEW"
    )]
    Encrypted,
    /// The PEM is broken.
    #[error("it isn't good PEM: {0}")]
    Pem(String),
    /// What is in the PEM isn't what it says.
    #[error("its certificate can't be read: {0}")]
    Unreadable(String),
    /// A kind of key that TLS doesn't use here.
    #[error("its private key can't be used: {0}")]
    Key(String),
    /// The two don't belong together.
    #[error("its private key isn't that of the certificate")]
    Mismatch,
    /// No name that a visitor could ask for.
    #[error("its certificate is for no host name: it needs one among its subject alternative names")]
    NoNames,
    /// An authority that nothing can be checked by.
    #[error("its certificate isn't one of an authority: {0}")]
    NoAuthority(String),
}

impl Certificate {
    /// A chain, the server's own certificate first, and its key; both PEM.
    ///
    /// # Errors
    /// `Err(Ok(_))` if it is the chain, `Err(Err(_))` if it is the key that is wrong.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, Result<CertificateError, CertificateError>> {
        let chain = certificates(chain).map_err(Ok)?;
        let (names, not_before, not_after) = facts(&chain[0]).map_err(Ok)?;
        let key = private_key(key).map_err(Err)?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let key = certified.map_err(|error| {
            Err(match error {
                rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch,
                error => CertificateError::Key(error.to_string()),
            })
        })?;
        Ok(Self { key: Arc::new(key), names, not_before, not_after })
    }

    /// The host names that it is for, lower case; a wildcard stands for one label: `*.example.com`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether it is for this host, given in lower case; `*.example.com` asks for the wildcard itself.
    pub fn covers(&self, host: &str) -> bool {
        let above = host.split_once('.').map(|(_, above)| format!("*.{above}"));
        self.names.iter().any(|name| name == host || Some(name) == above.as_ref())
    }
}

/// Authorities that visitors' certificates have to come from.
///
/// # Errors
/// There is none in the PEM, or one that nothing can be checked by.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem)? {
        roots.add(authority).map_err(|error| CertificateError::NoAuthority(error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| CertificateError::Pem(error.to_string()))?;
    if found.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(found) }
}

fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound if contains(text, b"ENCRYPTED PRIVATE KEY-----") => {
            CertificateError::Encrypted
        }
        pem::Error::NoItemsFound => CertificateError::NoKey,
        // Not with the error's own words: some repeat what was found, and here that is secret.
        _ => CertificateError::Pem("a section is cut off, or no base64".to_owned()),
    })
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// Names, and the times between which the certificate is good.
fn facts(der: &CertificateDer<'_>) -> Result<(Vec<String>, i64, i64), CertificateError> {
    let unreadable = |error: &dyn std::fmt::Display| CertificateError::Unreadable(error.to_string());
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| unreadable(&error))?;
    let named = parsed.subject_alternative_name().map_err(|error| unreadable(&error))?;
    let named = named.map_or(&[][..], |named| &named.value.general_names);
    let names: Vec<String> = named
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    if names.is_empty() && !named.iter().any(|name| matches!(name, GeneralName::IPAddress(_))) {
        return Err(CertificateError::NoNames);
    }
    let validity = parsed.validity();
    Ok((names, validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// Chooses among certificates by the name that a visitor asks for (RFC 6066 section 3).
#[derive(Debug)]
pub(super) struct ByName {
    /// By exact name, or by `*.` and what stands below it. Several of one name differ in the kind of their keys.
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For whoever asks for no name, or one that nobody has: the answer names the proxy at least.
    first: Option<Arc<CertifiedKey>>,
}

impl ByName {
    pub(super) fn new(certificates: &[Certificate]) -> Self {
        let mut named: HashMap<_, Vec<_>> = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                named.entry(name.clone()).or_default().push(Arc::clone(&certificate.key));
            }
        }
        Self { named, first: certificates.first().map(|first| Arc::clone(&first.key)) }
    }

    fn of(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let (_, above) = name.split_once('.').unwrap_or_default();
        self.named.get(&name).or_else(|| self.named.get(&format!("*.{above}")))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(fit) = hello.server_name().and_then(|name| self.of(name)) else {
            return self.first.clone();
        };
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        fit.iter().find(usable).or_else(|| fit.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Self-signed, for these names; the certificate and its key as PEM.
    fn made(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn read(pair: &(String, String)) -> Certificate {
        Certificate::read(pair.0.as_bytes(), pair.1.as_bytes()).unwrap()
    }

    #[test]
    fn the_exact_name_goes_before_a_wildcard_and_the_first_is_for_all_others() {
        let all = [&["first.example"][..], &["*.Example.COM"], &["www.example.com", "example.org"]];
        let all = all.map(|names| read(&made(names)));
        let by_name = ByName::new(&all);
        for (name, expected) in [
            ("www.example.com", Some(2)),
            ("WWW.EXAMPLE.COM", Some(2)),
            ("www.example.com.", Some(2)),
            ("a.example.com", Some(1)),
            // A wildcard stands for one label (RFC 9525 section 6.3).
            ("a.b.example.com", None),
            ("example.com", None),
            ("example.org", Some(2)),
            ("org", None),
        ] {
            let found = by_name.of(name).map(|keys| Arc::as_ptr(&keys[0]));
            assert_eq!(found, expected.map(|n: usize| Arc::as_ptr(&all[n].key)), "{name}");
        }
        assert!(all[1].covers("x.example.com") && !all[1].covers("x.y.example.com"));
        assert!(all[1].covers("*.example.com") && !all[1].covers("example.com"));
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_said_and_of_which_half() {
        let (one, other) = (made(&["a.example"]), made(&["b.example"]));
        let wrong = |chain: &str, key: &str| Certificate::read(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(wrong(&one.0, &other.1), Err(CertificateError::Mismatch));
        assert_eq!(wrong("nothing", &one.1), Ok(CertificateError::NoCertificate));
        assert_eq!(wrong(&one.1, &one.1), Ok(CertificateError::NoCertificate));
        assert_eq!(wrong(&one.0, &one.0), Err(CertificateError::NoKey));
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(wrong(&one.0, locked), Err(CertificateError::Encrypted));
        let cut = &one.1[..one.1.len() / 2];
        assert!(matches!(wrong(&one.0, cut), Err(CertificateError::Pem(_))));
        let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(wrong(odd, &one.1), Ok(CertificateError::Unreadable(_))));
    }
}

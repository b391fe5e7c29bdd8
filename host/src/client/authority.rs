//! The authority that a proxy's certificate has to come from, where that isn't one that the system trusts.

use std::{fmt, sync::Arc};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Authorities of somebody's own. Those of the system aren't asked then.
#[derive(Clone)]
pub struct ProxyCa(pub(super) Arc<RootCertStore>);

impl ProxyCa {
    /// From PEM.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn read(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(pem) {
            let authority = authority.map_err(|error| format!("it isn't good PEM: {error}"))?;
            let added = roots.add(authority);
            added.map_err(|error| format!("nothing can be checked by its certificate: {error}"))?;
        }
        if roots.is_empty() {
            return Err(
                "it has no certificate in it: a PEM file is wanted, with -----BEGIN CERTIFICATE-----".into(),
            );
        }
        Ok(Self(Arc::new(roots)))
    }
}

impl PartialEq for ProxyCa {
    fn eq(&self, other: &Self) -> bool {
        self.0.roots == other.0.roots
    }
}

impl fmt::Debug for ProxyCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyCa({})", self.0.len())
    }
}

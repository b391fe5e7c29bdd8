//! What is established of a visitor's TLS connection: facts of the proxy's, which a visitor can't choose but by what it offers.

/// Bytes of a certificate's subject; longer ones are cut off.
pub const MAX_SUBJECT: usize = 1024;

/// One connection's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `1.2` or `1.3`.
    pub version: String,
    /// The suite, as the registry of IANA spells it: `TLS_AES_128_GCM_SHA256`.
    pub cipher: String,
    /// The name that the visitor asked for (RFC 6066 section 3), lower case.
    pub server_name: Option<String>,
    /// The protocol that was agreed on (RFC 7301): `h2` or `http/1.1`.
    pub alpn: Option<String>,
    /// The visitor's own certificate, verified.
    pub client: Option<ClientCertificate>,
}

/// A visitor's certificate, which an authority that the proxy trusts has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject, as text (RFC 4514 in spirit): `CN=alice, O=Example`.
    pub subject: String,
    /// SHA-256 of the whole certificate.
    pub sha256: [u8; 32],
}

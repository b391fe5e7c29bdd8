//! How visitors and clients come in: TLS with its certificates, the listener for plain HTTP beside it, the PROXY protocol.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use http::HeaderValue;
use jiff::{Timestamp, fmt::strtime};
use serde::Deserialize;

use super::{
    document::{Lines, Mistakes},
    file::FileError,
    plugins::Sources,
    units::{LongTime, Wait},
    values::{Listen, Network, Written},
};
use crate::proxy::door::{
    Certificate, CertificateError, Challenges, DoorSettings, TlsSettings, VisitorCertificates, authorities,
};

/// A handshake takes two round trips; a visitor far away with a bad connection may need some seconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// When it is high time for a new certificate: authorities that give them for 90 days, or for less, renew earlier.
const SOON: i64 = 7 * 24 * 3600;

/// Bytes of an answer to a challenge; real ones have about 90.
const MAX_CHALLENGE: u64 = 4096;

/// What of it the command line takes.
#[derive(Debug, Default, Clone, Args)]
pub struct DoorArgs {
    /// Speak TLS with this certificate, PEM with its chain; more of them in the settings file
    #[arg(long, value_name = "FILE", help_heading = "TLS", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,

    /// The key of the certificate, PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,

    /// Listen for plain HTTP too, and lead it to https [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "TLS")]
    pub http: Option<Listen>,

    /// These peers, balancers, begin each connection with a PROXY header (v1 or v2); may be given again
    #[arg(long, value_name = "CIDR", help_heading = "Address")]
    pub proxy_protocol: Vec<Network>,
}

/// `[tls]` of `proxy.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsTable {
    #[serde(default)]
    /// In the order of preference; the first is for all other names.
    pub certificates: Vec<CertificateTable>,
    /// Who signs visitors' own certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether visitors need one.
    pub client_certificates: Option<ClientCertificates>,
    /// From the connection to the end of the handshake.
    pub handshake_timeout: Option<Written<Wait>>,
    /// How long a browser shall come by https alone.
    pub hsts: Option<Written<LongTime>>,
    /// Where an authority's challenges are put down.
    pub acme_challenges: Option<PathBuf>,
}

/// One certificate and its key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateTable {
    /// PEM, with its chain; relative to the settings file.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// Whether visitors need a certificate of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// Whoever has one is known by it.
    Optional,
    /// Whoever has none is refused.
    Required,
}

/// What a settings file says of it.
pub(super) struct InFile<'a> {
    pub(super) tls: Option<TlsTable>,
    pub(super) http: Option<Written<Listen>>,
    pub(super) proxy_protocol: Option<Vec<Written<Network>>>,
    pub(super) http2: Option<bool>,
    pub(super) lines: &'a Lines,
}

impl InFile<'_> {
    /// What both say together; a certificate on the command line stands in the place of those in the file.
    pub(super) fn choose(
        self,
        args: &DoorArgs,
        domain: &str,
        sources: &mut Sources,
        mistakes: &mut Mistakes,
    ) -> DoorSettings {
        let Self { tls: table, http, proxy_protocol, http2, lines } = self;
        let http1_only = http2 == Some(false);
        let flags = args.tls_certificate.clone().zip(args.tls_key.clone());
        let mut reading = Reading { sources, mistakes, lines, now: Timestamp::now().as_second() };
        let wanted = table.is_some() || flags.is_some();
        let table = table.unwrap_or_default();
        let certificates = match flags {
            Some((certificate, key)) => vec![reading.pair(&Place::Flags, &certificate, &key)],
            None => reading.listed(&table.certificates),
        };
        // What is missing from it was told.
        let certificates: Vec<Certificate> = certificates.into_iter().flatten().collect();
        let visitors = reading.visitors(&table);
        let challenges = reading.folder(table.acme_challenges.as_deref()).map(challenges);
        if !certificates.is_empty() && !certificates.iter().any(|one| one.covers(&format!("*.{domain}"))) {
            reading.mistakes.warn(FileError::of_flag(
                "TLS".to_owned(),
                format!(
                    "no certificate is for *.{domain}, where tunnels have their names: visitors' browsers will refuse it"
                ),
            ));
        }
        let http = args.http.or(http.map(|http| http.0)).map(|http| http.0);
        if http.is_some() && !wanted {
            let problem =
                "it is for plain HTTP beside TLS, and there is no certificate; listen is enough without";
            reading.mistakes.push(match args.http {
                Some(_) => FileError::of_flag("--http".to_owned(), problem.to_owned()),
                None => lines.wrong("http", problem),
            });
        }
        if challenges.is_some() && http.is_none() {
            let problem = "an authority looks for challenges at port 80: give http = \"0.0.0.0:80\" too";
            reading.mistakes.push(lines.wrong("tls.acme_challenges", problem));
        }
        let tls = wanted.then(|| TlsSettings {
            certificates,
            visitors,
            handshake_timeout: table.handshake_timeout.map_or(HANDSHAKE_TIMEOUT, |time| time.0.0),
            hsts: table.hsts.map(|time| hsts(time.0.0)),
            http1_only,
        });
        DoorSettings {
            tls,
            http,
            challenges,
            http1_only,
            proxy_protocol: super::proxy::either(args.proxy_protocol.clone(), proxy_protocol)
                .map(|net| net.0)
                .collect(),
        }
    }
}

fn day(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or_default();
    strtime::format("%Y-%m-%d %H:%M UTC", time).unwrap_or_default()
}

/// What `--check` says of it.
pub(super) fn shown(door: &DoorSettings) -> String {
    let certificates = door.tls.iter().flat_map(|tls| &tls.certificates);
    certificates
        .map(|one| format!("  tls  {}, good until {}\n", one.names().join(", "), day(one.not_after)))
        .collect()
}

/// Where a file was named.
enum Place {
    Flags,
    /// Under this key.
    File(String),
}

struct Reading<'a> {
    sources: &'a mut Sources,
    mistakes: &'a mut Mistakes,
    lines: &'a Lines,
    now: i64,
}

impl Reading<'_> {
    fn listed(&mut self, tables: &[CertificateTable]) -> Vec<Option<Certificate>> {
        if tables.is_empty() && self.lines.has("tls") {
            let problem =
                "there is no certificate; write certificates = [{ certificate = \"…\", key = \"…\" }]";
            // Where what is there is wrong that has been told.
            if !self.lines.has("tls.certificates") || self.mistakes.errors.is_empty() {
                self.mistakes.push(self.lines.wrong("tls.certificates", problem));
            }
        }
        let pairs = tables.iter().enumerate().map(|(n, table)| {
            let at = format!("tls.certificates[{n}]");
            let certificate = self.lines.resolve(&at, &table.certificate);
            let key = self.lines.resolve(&at, &table.key);
            let (certificate, key) = (self.mistakes.take(certificate)?, self.mistakes.take(key)?);
            self.pair(&Place::File(at), &certificate, &key)
        });
        pairs.collect()
    }

    fn pair(&mut self, place: &Place, certificate: &Path, key: &Path) -> Option<Certificate> {
        let chain = self.read(place, "--tls-certificate", certificate);
        let secret = self.read(place, "--tls-key", key);
        if secret.is_some() && readable_by_others(key) {
            let problem = format!("{} can be read by others on this machine: chmod 600", key.display());
            let warning = self.wrong(place, "--tls-key", problem);
            self.mistakes.warn(warning);
        }
        let read = Certificate::read(&chain?, &secret?);
        let (path, flag, error) = match read {
            Ok(read) => {
                self.times(place, certificate, &read);
                return Some(read);
            }
            Err(Ok(error)) => (certificate, "--tls-certificate", error),
            Err(Err(error)) => (key, "--tls-key", error),
        };
        let with = match error {
            CertificateError::Mismatch => format!(" in {}", certificate.display()),
            _ => String::new(),
        };
        let wrong = self.wrong(place, flag, format!("{}: {error}{with}", path.display()));
        self.mistakes.push(wrong);
        None
    }

    /// A proxy that doesn't start helps nobody whose browser would refuse it: it is a warning.
    fn times(&mut self, place: &Place, path: &Path, read: &Certificate) {
        let problem = if read.not_before > self.now {
            format!("isn't good before {}; see whether this machine's clock is right", day(read.not_before))
        } else if read.not_after < self.now {
            format!("expired on {}: visitors' browsers refuse it; renew it", day(read.not_after))
        } else if read.not_after < self.now + SOON {
            format!("expires on {}: renew it", day(read.not_after))
        } else {
            return;
        };
        let warning =
            self.wrong(place, "--tls-certificate", format!("the certificate {} {problem}", path.display()));
        self.mistakes.warn(warning);
    }

    fn visitors(&mut self, table: &TlsTable) -> Option<VisitorCertificates> {
        let Some(path) = &table.client_ca else {
            if table.client_certificates.is_some() {
                let problem = "it needs client_ca, the authority that signs them";
                self.mistakes.push(self.lines.wrong("tls.client_certificates", problem));
            }
            return None;
        };
        let path = self.mistakes.take(self.lines.resolve("tls.client_ca", path))?;
        let place = Place::File("tls.client_ca".to_owned());
        let pem = self.read(&place, "", &path)?;
        let authorities = authorities(&pem)
            .map_err(|error| self.lines.wrong("tls.client_ca", format!("{}: {error}", path.display())));
        let required = table.client_certificates == Some(ClientCertificates::Required);
        Some(VisitorCertificates { authorities: Arc::new(self.mistakes.take(authorities)?), required })
    }

    fn folder(&mut self, path: Option<&Path>) -> Option<PathBuf> {
        let path = self.mistakes.take(self.lines.resolve("tls.acme_challenges", path?))?;
        if !path.is_dir() {
            let problem =
                format!("{} is no folder; make it, and name it to your ACME client", path.display());
            self.mistakes.push(self.lines.wrong("tls.acme_challenges", problem));
        }
        Some(path)
    }

    fn read(&mut self, place: &Place, flag: &str, path: &Path) -> Option<Vec<u8>> {
        let read = self.sources.read(path);
        let read = read.map_err(|error| self.wrong(place, flag, format!("{}: {error}", path.display())));
        self.mistakes.take(read)
    }

    fn wrong(&self, place: &Place, flag: &str, problem: String) -> FileError {
        match place {
            Place::Flags => FileError::of_flag(flag.to_owned(), problem),
            Place::File(key) => self.lines.wrong(key, problem),
        }
    }
}

#[cfg(unix)]
fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    // The group may well be that of the service.
    std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o007 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_: &Path) -> bool {
    false
}

fn hsts(time: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={}", time.as_secs())).expect("words and a number")
}

/// certbot's `--webroot` puts files into `.well-known/acme-challenge` of its folder, others into the folder itself.
fn challenges(folder: PathBuf) -> Challenges {
    Challenges(Arc::new(move |token| {
        let nested = folder.join(".well-known/acme-challenge");
        [nested, folder.clone()].iter().find_map(|folder| challenge(&folder.join(token)))
    }))
}

fn challenge(path: &Path) -> Option<Vec<u8>> {
    let file = std::fs::File::open(path).ok()?;
    // Neither a folder nor a pipe, which would never end.
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut text = Vec::new();
    file.take(MAX_CHALLENGE).read_to_end(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;

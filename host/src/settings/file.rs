//! `tunnel.toml` and `proxy.toml`: the same settings as the command line's, and errors that name the file, the line
//! and the key.
//!
//! Reads and checks single values. What follows from several is decided in `client` and `proxy` beside this file.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    bus::Bus,
    cli::LogFormat,
    door::TlsTable,
    observe::{self, AccessLogTable, DoorList, TracesTable},
    plugins::PluginTable,
    policy::PolicyTable,
    registration::{HostnameFlag, RegistrationTable},
    secret::SecretSource,
    units::{LeastRate, MaxBody, RateLimit, Size, Wait},
    values::{
        AdminListen, DialectList, Domain, Listen, Network, Origin, ProxyUrl, PublicUrl, SessionLabel, Target,
        Written,
    },
};
use crate::client::{HostHeader, OriginProtocol};

/// `tunnel.toml`: the client's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelFile {
    /// As `--proxy`.
    pub proxy: Option<Written<ProxyUrl>>,
    /// As `--proxy-ca`; a relative path starts at the file's folder.
    pub proxy_ca: Option<PathBuf>,
    /// As `--key`; a relative path starts at the file's folder.
    pub key: Option<PathBuf>,
    /// As TARGET.
    pub target: Option<Written<Target>>,
    /// As `--session`.
    pub session: Option<Written<SessionLabel>>,
    /// As `--hostname`.
    pub hostname: Option<Written<HostnameFlag>>,
    /// Where the invitation is.
    pub invitation: Option<SecretSource>,
    /// As `--host-header`.
    pub host_header: Option<Written<HostHeader>>,
    /// As `--insecure-origin`.
    pub insecure_origin: Option<bool>,
    /// As `--origin-protocol`.
    pub origin_protocol: Option<Written<OriginProtocol>>,
    /// As `--connections`.
    pub connections: Option<Written<Connections>>,
    /// As `--log-format`.
    pub log_format: Option<LogFormat>,
    /// Longest wait for a connection to the service.
    pub connect_timeout: Option<Written<Wait>>,
    /// Bytes of one WebSocket message.
    pub max_websocket_message: Option<Written<Size>>,
    /// As `--metrics`.
    pub metrics: Option<Written<AdminListen>>,
    /// Where spans of exchanges go.
    pub traces: Option<TracesTable>,
    /// Silence after which the proxy is pinged.
    pub ping_after: Option<Written<Wait>>,
    /// Services to publish by name.
    #[serde(default)]
    pub targets: BTreeMap<String, TargetTable>,
    /// As `--plugin-cache`; a relative path starts at the file's folder.
    pub plugin_cache: Option<PathBuf>,
    /// Plugins that every exchange passes, in this order.
    #[serde(default)]
    pub plugin: Vec<PluginTable>,
    /// Applications that `--serve` may name.
    #[serde(default)]
    pub application: Vec<PluginTable>,
    /// Where secrets are that plugins are granted by name.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretSource>,
}

/// `[targets.NAME]`: what differs for one service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetTable {
    /// Port, host:port or URL.
    pub target: Written<Origin>,
    /// By default the target's name.
    pub session: Option<Written<SessionLabel>>,
    /// A chosen name in place of the session's.
    pub hostname: Option<Written<HostnameFlag>>,
    /// By default the file's.
    pub host_header: Option<Written<HostHeader>>,
    /// By default the file's.
    pub insecure_origin: Option<bool>,
    /// By default the file's.
    pub origin_protocol: Option<Written<OriginProtocol>>,
    /// By default the file's.
    pub connections: Option<Written<Connections>>,
    /// Names of the plugins that this service's exchanges pass, in this order; by default all of the file.
    pub plugins: Option<Vec<String>>,
}

/// A number of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections(pub usize);

impl std::str::FromStr for Connections {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        super::cli::connections(text).map(Self)
    }
}

/// `proxy.toml`: the proxy's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyFile {
    /// As `--listen`.
    pub listen: Option<Written<Listen>>,
    /// As `--http`.
    pub http: Option<Written<Listen>>,
    /// As `--proxy-protocol`.
    pub proxy_protocol: Option<Vec<Written<Network>>>,
    /// Whether visitors may speak HTTP/2.
    pub http2: Option<bool>,
    /// TLS at the listener.
    pub tls: Option<TlsTable>,
    /// As `--domain`.
    pub domain: Option<Written<Domain>>,
    /// As `--public-url`.
    pub public_url: Option<Written<PublicUrl>>,
    /// As `--also-known-as`.
    pub also_known_as: Option<Vec<Written<PublicUrl>>>,
    /// As `--trusted-proxy`.
    pub trusted_proxies: Option<Vec<Written<Network>>>,
    /// As `--admin`.
    pub admin: Option<Written<AdminListen>>,
    /// Where the token is that opens every door of the admin listener.
    pub admin_token: Option<SecretSource>,
    /// As `--admin-open`, in a list.
    pub admin_open: Option<DoorList>,
    /// Tunnels that have series of their own in the metrics.
    pub metrics_per_tunnel: Option<usize>,
    /// A line for each request.
    pub access_log: Option<AccessLogTable>,
    /// Where spans of exchanges go.
    pub traces: Option<TracesTable>,
    /// As `--dialects`, in a list.
    pub dialects: Option<DialectList>,
    /// As `--bus`.
    pub bus: Option<Written<Bus>>,
    /// Where the password of the bus is.
    pub bus_password: Option<SecretSource>,
    /// As `--answer-timeout`.
    pub answer_timeout: Option<Written<Wait>>,
    /// As `--grace-period`.
    pub grace_period: Option<Written<Wait>>,
    /// As `--log-format`.
    pub log_format: Option<LogFormat>,
    /// Who may register, and under which names.
    #[serde(default)]
    pub registration: RegistrationTable,
    /// Bounds on what visitors and clients may use.
    #[serde(default)]
    pub limits: LimitsTable,
    /// As `--plugin-cache`; a relative path starts at the file's folder.
    pub plugin_cache: Option<PathBuf>,
    /// Plugins that policies may name.
    #[serde(default)]
    pub plugin: Vec<PluginTable>,
    /// Applications that policies may serve.
    #[serde(default)]
    pub application: Vec<PluginTable>,
    /// What holds for some tunnels and paths; the first that fits counts.
    #[serde(default)]
    pub policy: Vec<PolicyTable>,
    /// Where secrets are that plugins are granted by name.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretSource>,
}

impl ProxyFile {
    /// What it says of what an operator sees.
    pub fn observe(&self) -> observe::InFile<'_> {
        observe::InFile {
            access_log: self.access_log.as_ref(),
            traces: self.traces.as_ref(),
            metrics_per_tunnel: self.metrics_per_tunnel,
            admin_token: self.admin_token.as_ref(),
            admin_open: self.admin_open,
        }
    }
}

/// `[limits]` of `proxy.toml`; the meaning of each is at [`crate::proxy::Limits`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct LimitsTable {
    pub max_body: Option<Written<MaxBody>>,
    pub max_headers: Option<NonZeroUsize>,
    pub max_header_bytes: Option<Written<Size>>,
    pub max_websocket_message: Option<Written<Size>>,
    pub max_exchanges: Option<NonZeroUsize>,
    pub max_sessions_per_name: Option<NonZeroUsize>,
    pub max_unregistered: Option<NonZeroUsize>,
    pub registration_timeout: Option<Written<Wait>>,
    pub header_timeout: Option<Written<Wait>>,
    pub idle_timeout: Option<Written<Wait>>,
    pub max_connections: Option<NonZeroUsize>,
    pub max_connections_per_address: Option<NonZeroUsize>,
    pub stall_timeout: Option<Written<Wait>>,
    pub min_rate: Option<Written<LeastRate>>,
    pub rate: Option<Written<RateLimit>>,
    pub ping_after: Option<Written<Wait>>,
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("{}: {source}; give a file that exists and can be read with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{}, {place}: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line and key.
        place: Place,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// Something is wrong with a file, or what it is for, that the command line names.
    #[error("{flag}: {problem}")]
    Flag {
        /// The flag with its value.
        flag: String,
        /// What is wrong, and what to write.
        problem: String,
    },
}

/// Where in a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1; none where the whole file is meant.
    pub line: Option<usize>,
    /// Dotted, as far as it is known.
    pub key: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, &self.key) {
            (Some(line), Some(key)) => write!(f, "line {line}, {key}"),
            (Some(line), None) => write!(f, "line {line}"),
            (None, Some(key)) => f.write_str(key),
            (None, None) => f.write_str("whole file"),
        }
    }
}

impl FileError {
    /// What the parser says, with line and key.
    pub(super) fn of_toml(path: &Path, text: &str, mut error: toml::de::Error) -> Self {
        let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        // Without its input the error writes the key after the message, instead of drawing the line.
        error.set_input(None);
        let shown = error.to_string();
        let problem = error.message().trim_end().to_owned();
        let key = shown.strip_prefix(error.message()).and_then(|rest| rest.trim().strip_prefix("in `"));
        let key = key.and_then(|rest| rest.strip_suffix('`')).map(str::to_owned);
        Self::Wrong { path: path.to_owned(), place: Place { line, key }, problem }
    }

    /// The same with more to say.
    pub(super) fn also(mut self, more: &str) -> Self {
        match &mut self {
            Self::Wrong { problem, .. } | Self::Flag { problem, .. } => problem.push_str(more),
            Self::Unreadable { .. } => {}
        }
        self
    }

    /// Something is wrong with what a flag names.
    pub(super) fn of_flag(flag: String, problem: String) -> Self {
        Self::Flag { flag, problem }
    }

    /// Something is wrong at a key, seen only when several values were put together.
    pub(super) fn at_key(path: &Path, key: impl Into<String>, problem: impl Into<String>) -> Self {
        let place = Place { line: None, key: Some(key.into()) };
        Self::Wrong { path: path.to_owned(), place, problem: problem.into() }
    }
}

/// Reads one settings file.
///
/// # Errors
/// It can't be read.
pub fn read(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::settings::document::{self, Mistakes};

    /// The file's value, or the first mistake in it.
    fn first<T: DeserializeOwned + Default>(name: &str, text: &str) -> Result<T, String> {
        let mut mistakes = Mistakes::default();
        let (value, _) = document::parse(Path::new(name), text, &mut mistakes);
        mistakes.errors.first().map_or(Ok(value), |error| Err(error.to_string()))
    }

    fn tunnel(text: &str) -> Result<TunnelFile, String> {
        first("tunnel.toml", text)
    }

    fn proxy(text: &str) -> Result<ProxyFile, String> {
        first("proxy.toml", text)
    }

    #[test]
    fn the_examples_in_the_documentation_hold() {
        let file = tunnel(include_str!("../../../docs/tunnel.example.toml")).unwrap();
        assert!(file.targets.len() > 1);
        let file = proxy(include_str!("../../../docs/proxy.example.toml")).unwrap();
        assert_eq!(file.domain.unwrap().0.0, "example.com");
    }

    /// Every line that is commented out in an example shows a setting; it has to be one.
    #[test]
    fn the_commented_lines_of_the_examples_hold_too() {
        let uncomment = |text: &str| -> String {
            text.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
        };
        tunnel(&uncomment(include_str!("../../../docs/tunnel.example.toml"))).unwrap();
        proxy(&uncomment(include_str!("../../../docs/proxy.example.toml"))).unwrap();
    }

    #[test]
    fn errors_name_file_line_key_and_remedy() {
        for (text, says) in [
            (
                "domain = \"a\"\n\n[limits]\nmax_body = \"5 apples\"",
                "proxy.toml, line 4, limits.max_body: \"5 apples\"",
            ),
            ("[limits]\nmax_body = \"5 apples\"", "500kB"),
            (
                "answer_timeout = 30",
                "line 1, answer_timeout: \"30\" is no time; write a number and a unit: 30s",
            ),
            (
                "[limits]\nmax_bodies = 1",
                "line 2, limits: unknown field `max_bodies`, expected one of `max_body`",
            ),
            ("listen = 6519", "line 1, listen: \"6519\" is no address"),
            (
                "admin = \"6520\"",
                "line 1, admin: \"6520\" is no address to listen on; write for example 127.0.0.1:6520",
            ),
            ("listen = true", "expected text in quotes"),
            ("a b", "proxy.toml, line 1"),
            ("trusted_proxies = [\"10.0.0.0/8\",\n\"lan\"]", "trusted_proxies: \"lan\" is no network"),
            ("public_url = \"https://a.b/c\"", "write https://a.b"),
        ] {
            let error = proxy(text).unwrap_err();
            assert!(error.contains(says), "{text}\n{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_target_needs_an_address() {
        let error = tunnel("[targets.web]\ntarget = \"api\"\n").unwrap_err();
        assert!(
            error.starts_with("tunnel.toml, line 2, targets.web.target: \"api\" is no address"),
            "{error}"
        );
        let error = tunnel("\n[targets.web]\nsession = \"x\"\n").unwrap_err();
        assert!(error.contains("line 2, targets.web: missing field `target`"), "{error}");
    }

    #[test]
    fn numbers_may_stand_bare() {
        let file = tunnel("target = 3000\nconnections = 4\n").unwrap();
        assert_eq!(file.target.unwrap().0, "3000".parse().unwrap());
        assert_eq!(file.connections.unwrap().0, Connections(4));
        let error = tunnel("connections = 400").unwrap_err();
        assert!(error.contains("line 1, connections: write a number from 1 to 16"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("no/such/proxy.toml")).unwrap_err().to_string();
        assert!(error.starts_with("no/such/proxy.toml: ") && error.contains("--config"), "{error}");
    }
}

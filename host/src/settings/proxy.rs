//! The proxy's settings: what follows from command line, file and defaults together.
//!
//! Precedence: flag, file, default.

use std::{num::NonZeroUsize, path::Path, sync::Arc, time::Duration};

use super::{
    Output, SettingsError,
    cli::ProxyArgs,
    document::{self, Mistakes},
    file::{self, FileError, LimitsTable, ProxyFile},
    units::Size,
    values::{Domain, Listen, Written},
};
use crate::{
    proxy::{Config, Limits},
    wire::MAX_HEADERS,
};

/// All that `tunnel proxy` needs.
pub struct ProxySettings {
    /// The proxy's Config; its report says nothing yet.
    pub config: Config,
    /// What to write, and how.
    pub output: Output,
    /// What an operator may have overlooked.
    pub advice: Option<String>,
}

/// How long a stopping proxy waits by default: as long as a slow answer may take to begin.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// hyper, which reads visitors' requests, takes no smaller buffer.
const LEAST_HEADER_BYTES: u64 = 8192;

/// A head has to fit into one message of a session, beside its body's first part.
const MOST_HEADER_BYTES: u64 = 256 * 1024;

impl ProxySettings {
    /// Puts the settings together.
    ///
    /// # Errors
    /// A file can't be used, or a value in it is out of bounds.
    pub fn load(args: ProxyArgs) -> Result<Self, SettingsError> {
        let mut mistakes = Mistakes::default();
        let (file, path) = match args.config.clone() {
            Some(path) => (document::parse(&path, &file::read(&path)?, &mut mistakes).0, path),
            None => (ProxyFile::default(), Path::new("proxy.toml").to_owned()),
        };
        mistakes.settle()?;
        Self::combine(args, file, &path)
    }

    fn combine(args: ProxyArgs, file: ProxyFile, path: &Path) -> Result<Self, SettingsError> {
        let listen = args.listen.or(value(file.listen)).unwrap_or_default();
        let public_url = args.public_url.or(value(file.public_url)).map(|url| url.0);
        let domain = args.domain.or(value(file.domain));
        let advice = advice(listen, public_url.is_some() || domain.is_some());
        let answer_timeout = args.answer_timeout.or(value(file.answer_timeout));
        let grace_period = args.grace_period.or(value(file.grace_period));
        let mut limits = limits(file.limits, path)?;
        limits.max_body = args.max_body.map_or(limits.max_body, |max| max.0);
        limits.rate = args.rate.map_or(limits.rate, |rate| rate.0);
        set(&mut limits.max_exchanges, args.max_exchanges.map(NonZeroUsize::get));
        set(&mut limits.max_websocket_message, args.max_websocket_message.map(Size::in_memory));
        let config = Config {
            listen: listen.0,
            domain: domain.unwrap_or_default().0,
            public_url,
            also_known_as: either(args.also_known_as, file.also_known_as).map(|url| url.0).collect(),
            trusted_proxies: either(args.trusted_proxy, file.trusted_proxies).map(|net| net.0).collect(),
            policies: Vec::new(),
            answer_timeout: answer_timeout.map_or(Duration::from_secs(30), |time| time.0),
            grace_period: grace_period.map_or(GRACE_PERIOD, |time| time.0),
            limits,
            report: Arc::new(|_| {}),
        };
        Ok(Self { config, output: Output::new(&args.output, file.log_format), advice })
    }
}

fn limits(table: LimitsTable, path: &Path) -> Result<Limits, SettingsError> {
    let size = |written: Option<Written<Size>>| written.map(|size| size.0.in_memory());
    if table.max_header_bytes.as_ref().is_some_and(|size| size.0.0 < LEAST_HEADER_BYTES) {
        let problem =
            format!("it has to be at least {LEAST_HEADER_BYTES} bytes; write for example \"64KiB\"");
        return Err(FileError::at_key(path, "limits.max_header_bytes", problem).into());
    }
    if table.max_header_bytes.as_ref().is_some_and(|size| size.0.0 > MOST_HEADER_BYTES) {
        let problem = "it can be 256 KiB at most: a head travels as one message".to_owned();
        return Err(FileError::at_key(path, "limits.max_header_bytes", problem).into());
    }
    if table.max_headers.is_some_and(|max| max.get() > MAX_HEADERS) {
        let problem = format!("it can be {MAX_HEADERS} at most: clients take no more");
        return Err(FileError::at_key(path, "limits.max_headers", problem).into());
    }
    let mut limits = Limits::default();
    set(&mut limits.max_body, table.max_body.map(|max| max.0.0));
    set(&mut limits.max_headers, table.max_headers.map(NonZeroUsize::get));
    set(&mut limits.max_header_bytes, size(table.max_header_bytes));
    set(&mut limits.max_websocket_message, size(table.max_websocket_message));
    set(&mut limits.max_exchanges, table.max_exchanges.map(NonZeroUsize::get));
    set(&mut limits.max_sessions_per_name, table.max_sessions_per_name.map(NonZeroUsize::get));
    set(&mut limits.max_unregistered, table.max_unregistered.map(NonZeroUsize::get));
    set(&mut limits.registration_timeout, table.registration_timeout.map(|time| time.0.0));
    set(&mut limits.header_timeout, table.header_timeout.map(|time| time.0.0));
    set(&mut limits.rate, table.rate.map(|rate| rate.0.0));
    set(&mut limits.ping_after, table.ping_after.map(|time| time.0.0));
    Ok(limits)
}

fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

fn value<T>(written: Option<Written<T>>) -> Option<T> {
    written.map(|written| written.0)
}

/// The flags if there are any, else the file's list.
fn either<T>(flags: Vec<T>, file: Option<Vec<Written<T>>>) -> impl Iterator<Item = T> {
    let file = if flags.is_empty() { file.unwrap_or_default() } else { Vec::new() };
    flags.into_iter().chain(file.into_iter().map(|written| written.0))
}

/// Listening for everyone under a domain that leads every visitor to his own machine helps nobody.
fn advice(Listen(listen): Listen, has_name: bool) -> Option<String> {
    let Domain(domain) = Domain::default();
    (!listen.ip().is_loopback() && !has_name).then(|| {
        format!(
            "the proxy listens on {listen}, but its URLs are under {domain}, which leads visitors and clients on \
             other machines to themselves; give --domain NAME (and *.NAME a DNS record that leads here), and \
             --public-url URL if TLS or another port stands in front"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::cli::{Cli, Command, LogFormat};

    const FILE: &str = r#"
        listen = "127.0.0.1:7000"
        domain = "file.example"
        public_url = "https://file.example"
        also_known_as = ["http://a.lan", "http://b.lan"]
        trusted_proxies = ["10.0.0.0/8"]
        answer_timeout = "5s"
        grace_period = "6s"
        log_format = "json"
        [limits]
        max_body = "1MB"
        max_headers = 50
        max_exchanges = 7
        rate = "10/s"
        ping_after = "3s"
    "#;

    fn settings(line: &str, file: &str) -> Result<ProxySettings, SettingsError> {
        let cli = Cli::of(line).unwrap();
        let Some(Command::Proxy(args)) = cli.command else { panic!("not the proxy") };
        let path = Path::new("proxy.toml");
        let mut mistakes = Mistakes::default();
        let (file, _) = document::parse(path, file, &mut mistakes);
        mistakes.settle()?;
        ProxySettings::combine(*args, file, path)
    }

    #[test]
    fn defaults_are_this_machine_and_the_promised_limits() {
        let ProxySettings { config, output, advice } = settings("tunnel proxy", "").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:6519");
        assert_eq!((config.domain.as_str(), config.public_url), ("localhost", None));
        assert_eq!(config.limits.max_body, Some(500_000));
        assert!(config.limits.rate.is_some());
        assert_eq!(config.answer_timeout, Duration::from_secs(30));
        assert_eq!(output.format, LogFormat::Text);
        assert_eq!(advice, None);
    }

    #[test]
    fn the_file_goes_before_defaults() {
        let ProxySettings { config, output, .. } = settings("tunnel proxy", FILE).unwrap();
        assert_eq!(config.listen.port(), 7000);
        assert_eq!(config.domain, "file.example");
        assert_eq!(config.public_url.unwrap(), "https://file.example/");
        assert_eq!(config.also_known_as.len(), 2);
        assert_eq!(config.trusted_proxies[0].to_string(), "10.0.0.0/8");
        assert_eq!(config.answer_timeout, Duration::from_secs(5));
        assert_eq!(config.grace_period, Duration::from_secs(6));
        assert_eq!(config.limits.max_body, Some(1_000_000));
        assert_eq!((config.limits.max_headers, config.limits.max_exchanges), (50, 7));
        assert_eq!(config.limits.ping_after, Duration::from_secs(3));
        assert_eq!(config.limits.rate.unwrap().burst.get(), 20);
        assert_eq!(output.format, LogFormat::Json);
    }

    #[test]
    fn flags_go_before_the_file() {
        let line = "tunnel proxy --listen 127.0.0.1:0 --domain flag.example --public-url http://flag.example \
                    --also-known-as http://c.lan --trusted-proxy ::1 --max-body unlimited --rate off \
                    --answer-timeout 1s --grace-period 2s --max-websocket-message 1MiB --max-exchanges 9 \
                    --log-format text";
        let ProxySettings { config, output, .. } = settings(line, FILE).unwrap();
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.domain, "flag.example");
        assert_eq!(config.public_url.unwrap(), "http://flag.example/");
        assert_eq!(config.also_known_as, ["http://c.lan/"]);
        assert_eq!(config.trusted_proxies[0].to_string(), "::1/128");
        assert_eq!((config.limits.max_body, config.limits.rate), (None, None));
        assert_eq!(config.answer_timeout, Duration::from_secs(1));
        assert_eq!(config.grace_period, Duration::from_secs(2));
        assert_eq!((config.limits.max_websocket_message, config.limits.max_exchanges), (1 << 20, 9));
        assert_eq!(output.format, LogFormat::Text);
    }

    #[test]
    fn listening_for_everyone_under_localhost_is_advised_against() {
        let advice = |line| settings(line, "").unwrap().advice;
        assert!(advice("tunnel proxy --listen 0.0.0.0:6519").unwrap().contains("--domain NAME"));
        assert_eq!(advice("tunnel proxy --listen 0.0.0.0:6519 --domain example.com"), None);
        assert_eq!(advice("tunnel proxy --listen [::1]:6519"), None);
    }

    #[test]
    fn a_header_limit_below_what_the_server_takes_is_refused() {
        let Err(error) = settings("tunnel proxy", "[limits]\nmax_header_bytes = \"1kB\"") else {
            panic!("accepted");
        };
        assert!(
            error.to_string().contains("proxy.toml, limits.max_header_bytes: it has to be at least 8192")
        );
    }
}

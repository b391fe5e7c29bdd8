//! The proxy's settings: what follows from command line, file and defaults together.
//!
//! Precedence: flag, environment, file, the original's environment, default.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Output, SettingsError,
    bus::{InFile, RedisBus},
    cli::ProxyArgs,
    document::{self, Lines, Mistakes},
    door,
    file::{self, LimitsTable, ProxyFile},
    legacy::Legacy,
    observe::ProxyPlan,
    open_files,
    plugins::{Sources, Wanted, wanted},
    policy::{self, Plan},
    registration::{Door, Given, Said},
    threads::Threads,
    units::Size,
    values::{Domain, Listen, Written},
};
use crate::{
    plugin::Role,
    proxy::{Config, Dialects, Limits, Registration, door::DoorSettings},
    wire::MAX_HEADERS,
};

/// All that `tunnel proxy` needs.
pub struct ProxySettings {
    /// The proxy's Config; its report says nothing yet.
    pub config: Config,
    /// What to write, and how.
    pub output: Output,
    /// What an operator sees, and who may see it.
    pub observe: ProxyPlan,
    /// What an operator may have overlooked.
    pub advice: Vec<String>,
    /// The Redis that is the bus, if one is.
    pub bus: Option<RedisBus>,
    /// Policies, whose plugins are still to be loaded.
    pub plans: Vec<Plan>,
    /// Plugins and applications to load.
    pub wanted: Vec<Wanted>,
    /// Where compiled plugins are kept, if that was said.
    pub plugin_cache: Option<PathBuf>,
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    /// The files that were read.
    pub sources: Sources,
    /// Who has said whether every key may register.
    pub said: Said,
    /// Nobody but this machine gets here.
    pub private: bool,
    /// What of the file can't be changed while the proxy runs.
    fixed: toml::Table,
}

/// Keys of the file that can be changed while the proxy runs.
const RELOADABLE: &[&str] = &["plugin", "application", "policy", "registration", "secrets", "tls"];

/// How long a stopping proxy waits by default: as long as a slow answer may take to begin.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// hyper, which reads visitors' requests, takes no smaller buffer.
const LEAST_HEADER_BYTES: u64 = 8192;

/// A head has to fit into one message of a session, beside its body's first part.
const MOST_HEADER_BYTES: u64 = 256 * 1024;

impl ProxySettings {
    /// Each core has its own part of the tunnels, unless there are plugins: their work is for whichever core has time.
    pub(super) fn threads(&self) -> Threads {
        if self.wanted.is_empty() { Threads::One } else { Threads::All }
    }

    /// Puts the settings together, and reads what plugins need. What is wrong with parts of the file or with plugins is
    /// noted in `mistakes`.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn load(args: &ProxyArgs, mistakes: &mut Mistakes) -> Result<Self, SettingsError> {
        let text = args.config.as_ref().map(|path| file::read(path)).transpose()?;
        let legacy = Legacy::of_environment();
        Self::of_text(args, args.config.as_deref().zip(text.as_deref()), &legacy, mistakes)
    }

    fn of_text(
        args: &ProxyArgs,
        text: Option<(&Path, &str)>,
        legacy: &Legacy,
        mistakes: &mut Mistakes,
    ) -> Result<Self, SettingsError> {
        let (mut file, lines): (ProxyFile, Lines) =
            text.map(|(path, text)| document::parse(path, text, mistakes)).unwrap_or_default();
        let mut sources = Sources::default();
        if let Some((path, text)) = text {
            sources.remember(path, text.as_bytes());
        }
        let (mut args, mut advice) = (args.clone(), Vec::new());
        legacy.fill(&mut args, &file, &mut advice);
        let domain = args.domain.clone().or(file.domain.as_ref().map(|domain| domain.0.clone()));
        let written = wanted::Written {
            plugins: &file.plugin,
            applications: &file.application,
            secrets: &file.secrets,
            lines: &lines,
            role: Role::Proxy,
        };
        let mut wanted = written.wanted(&mut sources, mistakes);
        let domain = domain.unwrap_or_default();
        let door = Door {
            listen: args.listen.or(file.listen.as_ref().map(|listen| listen.0)).unwrap_or_default().0,
            domain: &domain,
            public_url: args
                .public_url
                .as_ref()
                .or(file.public_url.as_ref().map(|url| &url.0))
                .map(|url| &url.0),
        };
        let given = Given { open: args.open_registration, keys: args.allow_key.clone() };
        let (registration, said) = door.rules(&file.registration, &given, &lines, &mut sources, mistakes);
        let private = door.strangers().is_none();
        let hostnames: Vec<_> =
            registration.keys.values().flat_map(|key| key.domains.iter().cloned()).collect();
        let Domain(under) = &domain;
        let plans =
            policy::plans(&file.policy, under, &hostnames, &written, &mut wanted, &mut sources, mistakes);
        policy::unused(&plans, &wanted, &lines, mistakes);
        let plugin_cache =
            file.plugin_cache.as_ref().map(|cache| lines.resolve("plugin_cache", cache)).transpose();
        let plugin_cache = args.plugin_cache.clone().or(mistakes.take(plugin_cache).flatten());
        let fixed = text.map(|(_, text)| document::without(text, RELOADABLE)).unwrap_or_default();
        let bus = InFile { bus: file.bus.take(), password: file.bus_password.as_ref(), lines: &lines };
        let bus = bus.choose(args.bus.take(), &mut sources, mistakes, &mut advice);
        let admin = args.admin.or(file.admin.as_ref().map(|admin| admin.0)).map(|admin| admin.0);
        let observe =
            ProxyPlan::new(&file.observe(), &args.admin_args, admin, &lines, &mut sources, mistakes);
        let door = door::InFile {
            tls: file.tls.take(),
            http: file.http.take(),
            proxy_protocol: file.proxy_protocol.take(),
            http2: file.http2,
            lines: &lines,
        };
        let door = door.choose(&args.door, under, &mut sources, mistakes);
        let (mut config, output) = combine(args, file, &lines, mistakes, &mut advice);
        config.door = door;
        config.redis = bus.as_ref().map(|bus| bus.redis.clone());
        config.registration = registration;
        let file = text.map(|(path, _)| path.to_owned());
        Ok(Self {
            config,
            output,
            observe,
            advice,
            bus,
            plans,
            wanted,
            plugin_cache,
            file,
            sources,
            said,
            private,
            fixed,
        })
    }

    /// Keys whose values would have to be other than those of a proxy that runs.
    pub fn differs_from(&self, running: &Self) -> Vec<String> {
        let keys: BTreeSet<&String> = self.fixed.keys().chain(running.fixed.keys()).collect();
        let differs = keys.into_iter().filter(|key| self.fixed.get(*key) != running.fixed.get(*key));
        let mut differs: Vec<String> = differs.cloned().collect();
        // The same place may hold another password now.
        let address = |settings: &Self| settings.config.redis.as_ref().map(|redis| redis.address().clone());
        if !differs.iter().any(|key| key == "bus" || key == "bus_password")
            && address(self) != address(running)
        {
            differs.push("bus_password".to_owned());
        }
        if self.observe.admin_token != running.observe.admin_token
            && !differs.iter().any(|key| key == "admin_token")
        {
            differs.push("admin_token".to_owned());
        }
        differs
    }
}

fn combine(
    args: ProxyArgs,
    file: ProxyFile,
    lines: &Lines,
    mistakes: &mut Mistakes,
    advice: &mut Vec<String>,
) -> (Config, Output) {
    let listen = args.listen.or(value(file.listen)).unwrap_or_default();
    let admin = args.admin.or(value(file.admin));
    let public_url = args.public_url.or(value(file.public_url)).map(|url| url.0);
    let domain = args.domain.or(value(file.domain));
    advice.extend(misleading(listen, public_url.is_some() || domain.is_some()));
    let answer_timeout = args.answer_timeout.or(value(file.answer_timeout));
    let grace_period = args.grace_period.or(value(file.grace_period));
    let mut limits = limits(file.limits, lines, mistakes);
    limits.max_body = args.max_body.map_or(limits.max_body, |max| max.0);
    limits.rate = args.rate.map_or(limits.rate, |rate| rate.0);
    set(&mut limits.max_exchanges, args.max_exchanges.map(NonZeroUsize::get));
    set(&mut limits.max_websocket_message, args.max_websocket_message.map(Size::in_memory));
    let config = Config {
        listen: listen.0,
        door: DoorSettings::default(),
        domain: domain.unwrap_or_default().0,
        public_url,
        also_known_as: either(args.also_known_as, file.also_known_as).map(|url| url.0).collect(),
        registration: Registration::default(),
        trusted_proxies: either(args.trusted_proxy, file.trusted_proxies).map(|net| net.0).collect(),
        policies: Vec::new(),
        dialects: args.dialects.or(file.dialects).map_or_else(Dialects::default, |list| list.0),
        redis: None,
        admin: admin.map(|admin| admin.0),
        answer_timeout: answer_timeout.map_or(Duration::from_secs(30), |time| time.0),
        grace_period: grace_period.map_or(GRACE_PERIOD, |time| time.0),
        limits,
        cores: Default::default(),
        observe: Default::default(),
        report: Arc::new(|_| {}),
    };
    (config, Output::new(&args.output, file.log_format))
}

fn limits(table: LimitsTable, lines: &Lines, mistakes: &mut Mistakes) -> Limits {
    let size = |written: Option<Written<Size>>| written.map(|size| size.0.in_memory());
    if table.max_header_bytes.as_ref().is_some_and(|size| size.0.0 < LEAST_HEADER_BYTES) {
        let problem =
            format!("it has to be at least {LEAST_HEADER_BYTES} bytes; write for example \"64KiB\"");
        mistakes.push(lines.wrong("limits.max_header_bytes", problem));
    }
    if table.max_header_bytes.as_ref().is_some_and(|size| size.0.0 > MOST_HEADER_BYTES) {
        let problem = "it can be 256 KiB at most: a head travels as one message";
        mistakes.push(lines.wrong("limits.max_header_bytes", problem));
    }
    if table.max_headers.is_some_and(|max| max.get() > MAX_HEADERS) {
        let problem = format!("it can be {MAX_HEADERS} at most: clients take no more");
        mistakes.push(lines.wrong("limits.max_headers", problem));
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
    set(&mut limits.idle_timeout, table.idle_timeout.map(|time| time.0.0));
    open_files::bound(&mut limits, table.max_connections, table.max_connections_per_address, lines, mistakes);
    set(&mut limits.header_timeout, table.header_timeout.map(|time| time.0.0));
    set(&mut limits.pace.stall, table.stall_timeout.map(|time| time.0.0));
    set(&mut limits.pace.least, table.min_rate.map(|rate| rate.0.0));
    set(&mut limits.rate, table.rate.map(|rate| rate.0.0));
    set(&mut limits.ping_after, table.ping_after.map(|time| time.0.0));
    limits
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
pub(super) fn either<T>(flags: Vec<T>, file: Option<Vec<Written<T>>>) -> impl Iterator<Item = T> {
    let file = if flags.is_empty() { file.unwrap_or_default() } else { Vec::new() };
    flags.into_iter().chain(file.into_iter().map(|written| written.0))
}

/// Listening for everyone under a domain that leads every visitor to his own machine helps nobody.
fn misleading(Listen(listen): Listen, has_name: bool) -> Option<String> {
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
    use std::num::NonZeroU64;

    use super::*;
    use crate::proxy::Pace;
    use crate::settings::cli::{Cli, Command, LogFormat};

    const FILE: &str = r#"
        registration = { open = true }
        listen = "127.0.0.1:7000"
        domain = "file.example"
        admin = "127.0.0.1:7001"
        dialects = ["v2"]
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
        stall_timeout = "20s"
        min_rate = "1kB/s"
    "#;

    fn settings(line: &str, file: &str) -> Result<ProxySettings, SettingsError> {
        let cli = Cli::of(line).unwrap();
        let Some(Command::Proxy(args)) = cli.command else { panic!("not the proxy") };
        let path = Path::new("proxy.toml");
        let mut mistakes = Mistakes::default();
        let settings = ProxySettings::of_text(&args, Some((path, file)), &Legacy::default(), &mut mistakes)?;
        mistakes.settle().map(|()| settings)
    }

    #[test]
    fn defaults_are_this_machine_and_the_promised_limits() {
        let ProxySettings { config, output, advice, .. } = settings("tunnel proxy", "").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:6519");
        assert_eq!((config.domain.as_str(), config.public_url), ("localhost", None));
        assert_eq!(config.limits.max_body, Some(500_000));
        assert!(config.limits.rate.is_some());
        assert_eq!(config.answer_timeout, Duration::from_secs(30));
        assert_eq!(output.format, LogFormat::Text);
        assert_eq!(advice, [""; 0]);
        assert!(config.redis.is_none() && config.admin.is_none());
        assert_eq!(config.dialects, Dialects { v1: true, v2: true });
    }

    #[test]
    fn the_file_goes_before_defaults() {
        let ProxySettings { config, output, .. } = settings("tunnel proxy", FILE).unwrap();
        assert_eq!(config.listen.port(), 7000);
        assert_eq!(config.domain, "file.example");
        assert_eq!(config.admin, Some("127.0.0.1:7001".parse().unwrap()));
        assert_eq!(config.public_url.unwrap(), "https://file.example/");
        assert_eq!(config.also_known_as.len(), 2);
        assert_eq!(config.dialects, Dialects { v1: false, v2: true });
        assert_eq!(config.trusted_proxies[0].to_string(), "10.0.0.0/8");
        assert_eq!(config.answer_timeout, Duration::from_secs(5));
        assert_eq!(config.grace_period, Duration::from_secs(6));
        assert_eq!(config.limits.max_body, Some(1_000_000));
        assert_eq!((config.limits.max_headers, config.limits.max_exchanges), (50, 7));
        assert_eq!(config.limits.ping_after, Duration::from_secs(3));
        assert_eq!(config.limits.pace, Pace { stall: Duration::from_secs(20), least: NonZeroU64::new(1000) });
        assert_eq!(config.limits.rate.unwrap().burst.get(), 20);
        assert_eq!(output.format, LogFormat::Json);
    }

    #[test]
    fn flags_go_before_the_file() {
        let line = "tunnel proxy --listen 127.0.0.1:0 --domain flag.example --public-url http://flag.example \
                    --also-known-as http://c.lan --trusted-proxy ::1 --max-body unlimited --rate off \
                    --answer-timeout 1s --grace-period 2s --max-websocket-message 1MiB --max-exchanges 9 \
                    --log-format text --admin [::1]:0 --dialects v1";
        let ProxySettings { config, output, .. } = settings(line, FILE).unwrap();
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.domain, "flag.example");
        assert_eq!(config.admin, Some("[::1]:0".parse().unwrap()));
        assert_eq!(config.public_url.unwrap(), "http://flag.example/");
        assert_eq!(config.also_known_as, ["http://c.lan/"]);
        assert_eq!(config.trusted_proxies[0].to_string(), "::1/128");
        assert_eq!(config.dialects, Dialects { v1: true, v2: false });
        assert_eq!((config.limits.max_body, config.limits.rate), (None, None));
        assert_eq!(config.answer_timeout, Duration::from_secs(1));
        assert_eq!(config.grace_period, Duration::from_secs(2));
        assert_eq!((config.limits.max_websocket_message, config.limits.max_exchanges), (1 << 20, 9));
        assert_eq!(output.format, LogFormat::Text);
    }

    #[test]
    fn listening_for_everyone_under_localhost_is_advised_against() {
        let advice = |line| settings(line, "").unwrap().advice.pop();
        assert!(advice("tunnel proxy --listen 0.0.0.0:6519").unwrap().contains("--domain NAME"));
        assert_eq!(advice("tunnel proxy --listen 0.0.0.0:6519 --domain example.com"), None);
        assert_eq!(advice("tunnel proxy --listen [::1]:6519"), None);
    }

    #[test]
    fn an_admin_listener_that_others_reach_has_a_token() {
        let wrong = settings("tunnel proxy --admin 0.0.0.0:6520", "").err().map(|error| error.to_string());
        assert!(wrong.unwrap().contains("--admin-token-file"));
        for line in
            ["--admin 127.0.0.1:6520", "--admin [::1]:6520", "--admin 0.0.0.0:6520 --admin-open health"]
        {
            assert_eq!(settings(&format!("tunnel proxy {line}"), "").unwrap().advice, [""; 0], "{line}");
        }
        let [running, changed] =
            ["1", "2"].map(|port| settings("tunnel proxy", &format!("admin = '127.0.0.1:{port}'")).unwrap());
        assert_eq!(changed.differs_from(&running), ["admin"]);
    }

    #[test]
    fn another_bus_or_password_takes_a_new_start() {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        let with = |secret: &str, bus: &str| {
            std::fs::write(&password, secret).unwrap();
            let file = format!("bus = 'redis://{bus}'\nbus_password = {{ file = {password:?} }}");
            settings("tunnel proxy", &file).unwrap()
        };
        let running = with("one", "a");
        assert_eq!(running.config.redis.as_ref().unwrap().address().to_string(), "redis://a:6379/0");
        assert_eq!(with("one", "a").differs_from(&running), [""; 0]);
        assert_eq!(with("one", "b").differs_from(&running), ["bus"]);
        assert_eq!(with("two", "a").differs_from(&running), ["bus_password"]);
    }

    #[test]
    fn a_header_limit_below_what_the_server_takes_is_refused() {
        let Err(error) = settings("tunnel proxy", "[limits]\nmax_header_bytes = \"1kB\"") else {
            panic!("accepted");
        };
        assert!(
            error
                .to_string()
                .contains("proxy.toml, line 2, limits.max_header_bytes: it has to be at least 8192")
        );
    }
}

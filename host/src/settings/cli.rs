//! The command line: what may be written, and the help that says so.
//!
//! Holds text and parsed values only. What follows from them, together with files and defaults, is decided in
//! `client` and `proxy` beside this file.

use std::{convert::Infallible, num::NonZeroUsize, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde::Deserialize;

use super::{
    author::PluginCommand,
    bus::{BusFlag, BusParser},
    door::DoorArgs,
    observe::AdminArgs,
    operate::Operation,
    plugins::PluginFlags,
    registration::{HostnameFlag, InviteArgs, KeyFlag},
    service::ServiceCommand,
    units::{MaxBody, RateLimit, Size, Wait},
    values::{
        AdminListen, DialectList, Domain, Explained, Listen, Network, ProxyUrl, PublicUrl, SessionLabel,
        Target,
    },
};
use crate::client::{HostHeader, OriginProtocol};

/// Publish a service behind a firewall through a public proxy
#[derive(Debug, Parser)]
#[command(
    name = "tunnel",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = CLIENT_EXAMPLES,
    max_term_width = 100
)]
pub struct Cli {
    /// Another role than the client's.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What the client takes.
    #[command(flatten)]
    pub client: ClientArgs,
}

const CLIENT_EXAMPLES: &str = "\
Examples:
  tunnel demo                                  see it work, all on this machine
  tunnel 3000 --proxy https://example.com      publish http://localhost:3000
  tunnel https://intranet.lan --host-header origin
  tunnel --all --config tunnel.toml            publish every target of a file
  tunnel 3000 --plugin 'auth.wasm?realm=staff' ask a plugin before anything reaches the service

The first run makes a key in your config folder. The key names the tunnel: keep it, and the URL stays the same.
A proxy of your own: tunnel proxy --help";

/// The roles and tools beside the client.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the public side: visitors come in, clients attach
    Proxy(Box<ProxyArgs>),
    /// Run proxy, client and a sample page on this machine, to see a tunnel at work
    Demo(DemoArgs),
    /// Make a key, or show what it names
    #[command(subcommand)]
    Key(KeyCommand),
    /// Run a client or a proxy as a service of this machine (systemd)
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Write, try and measure plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Write a completion script for a shell to stdout
    #[command(
        after_help = "Example:\n  tunnel completions bash > ~/.local/share/bash-completion/completions/tunnel"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// `tunnel [TARGET]`.
#[derive(Debug, Default, Clone, Args)]
pub struct ClientArgs {
    /// The service to publish: a port, host:port, an http(s) URL, or a name from tunnel.toml
    /// [default: http://localhost:8080]
    pub target: Option<Target>,

    /// Taken only to be refused in words.
    #[arg(hide = true, value_name = "TARGET", value_parser = one_target)]
    pub more: Vec<Infallible>,

    /// The proxy to publish through [default: http://localhost:6519]
    #[arg(long, value_name = "URL", env = "TUNNEL_PROXY", hide_env_values = true, help_heading = "Tunnel")]
    pub proxy: Option<ProxyUrl>,

    /// Who signed the certificate of an https proxy, PEM [default: whom this system trusts]
    #[arg(long, value_name = "FILE", help_heading = "Tunnel")]
    pub proxy_ca: Option<PathBuf>,

    /// The key that names the tunnel [default: key.pem in your config folder, made on first use]
    #[arg(long, value_name = "FILE", env = "TUNNEL_KEY", hide_env_values = true, help_heading = "Tunnel")]
    pub key: Option<PathBuf>,

    /// Give this session a name of its own under the same key
    #[arg(long, value_name = "LABEL", help_heading = "Tunnel", conflicts_with = "all")]
    pub session: Option<SessionLabel>,

    /// A name of your choice, if the proxy's operator has listed it with your key or in your invitation: a label under the
    /// proxy's domain (blog), or a whole hostname (www.example.org) [default: the name that is made from the key]
    #[arg(long, value_name = "NAME", help_heading = "Tunnel", conflicts_with_all = ["all", "session"])]
    pub hostname: Option<HostnameFlag>,

    /// An invitation to the proxy, in a file of its own; or in the variable TUNNEL_INVITATION
    #[arg(long, value_name = "FILE", help_heading = "Tunnel")]
    pub invitation_file: Option<PathBuf>,

    /// Sessions held open at once; where several proxies answer at the URL, at different ones [default: 1]
    #[arg(long, value_name = "N", help_heading = "Tunnel", value_parser = connections)]
    pub connections: Option<usize>,

    /// The Host header that the service sees: keep (the visitor's), origin (its own), or a value [default: keep]
    #[arg(long, value_name = "keep|origin|VALUE", help_heading = "Service")]
    pub host_header: Option<HostHeader>,

    /// Accept any certificate of an https service
    #[arg(long, help_heading = "Service")]
    pub insecure_origin: bool,

    /// The HTTP that the service is spoken to in: http1, h2 (also without TLS; gRPC needs it), or auto, as an https
    /// service chooses [default: http1]
    #[arg(long, value_name = "http1|h2|auto", help_heading = "Service")]
    pub origin_protocol: Option<OriginProtocol>,

    /// Plugins on the way.
    #[command(flatten)]
    pub plugins: PluginFlags,

    /// Publish a wasi:http application instead of a service: its file, or its name in tunnel.toml
    #[arg(long, value_name = "FILE", help_heading = "Plugins", conflicts_with_all = ["target", "all"])]
    pub serve: Option<String>,

    /// Where compiled plugins are kept [default: a folder in your cache folder]
    #[arg(long, value_name = "FOLDER", help_heading = "Plugins")]
    pub plugin_cache: Option<PathBuf>,

    /// Where monitors ask for this client's numbers, at /metrics; on this machine alone [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Tunnel")]
    pub metrics: Option<AdminListen>,

    /// Verify the settings and load every plugin, say what is wrong, and end
    #[arg(long, help_heading = "File")]
    pub check: bool,

    /// Settings and named targets [default: tunnel.toml in your config folder, if there is one]
    #[arg(long, value_name = "FILE", help_heading = "File")]
    pub config: Option<PathBuf>,

    /// Publish every named target of the file
    #[arg(long, help_heading = "File", conflicts_with = "target")]
    pub all: bool,

    /// What is written, and how.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `tunnel proxy`.
#[derive(Debug, Default, Clone, Args)]
#[command(after_help = PROXY_EXAMPLES, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct ProxyArgs {
    /// Something else than to run it.
    #[command(subcommand)]
    pub tool: Option<ProxyTool>,

    /// Where visitors and clients connect; port 0 takes a free one [default: 127.0.0.1:6519]
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Address")]
    pub listen: Option<Listen>,

    /// Tunnels get host names under this domain; its wildcard DNS record points here [default: localhost]
    #[arg(long, value_name = "NAME", help_heading = "Address")]
    pub domain: Option<Domain>,

    /// How the proxy is reached from outside, as behind a TLS terminator [default: http://DOMAIN:PORT, or https]
    #[arg(long, value_name = "URL", help_heading = "Address")]
    pub public_url: Option<PublicUrl>,

    /// A further URL by which clients may dial this proxy; may be given again
    #[arg(long, value_name = "URL", help_heading = "Address")]
    pub also_known_as: Vec<PublicUrl>,

    /// Believe X-Forwarded-For and -Proto of these peers, web servers in front; may be given again
    #[arg(long, value_name = "CIDR", help_heading = "Address")]
    pub trusted_proxy: Vec<Network>,

    /// TLS and what else makes a connection.
    #[command(flatten)]
    pub door: DoorArgs,

    /// Where load balancers, monitors and operators ask: /healthz, /readyz, /metrics, /api/v1; not for visitors
    /// [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Nodes")]
    pub admin: Option<AdminListen>,

    /// Who may ask there.
    #[command(flatten)]
    pub admin_args: AdminArgs,
    /// Let everybody register a tunnel, under the name that is made from the key [default: only where nobody but this
    /// machine gets here]
    #[arg(long, help_heading = "Clients")]
    pub open_registration: bool,

    /// Let this key register, by its name (tunnel key show prints it); may be given again. More about keys, and invitations,
    /// in the settings file
    #[arg(long, value_name = "NAME", help_heading = "Clients")]
    pub allow_key: Vec<KeyFlag>,

    /// What clients may speak: v2, this program's own, and v1, that of the original's clients [default: v2,v1]
    #[arg(long, value_name = "v2,v1", help_heading = "Clients")]
    pub dialects: Option<DialectList>,

    /// What several proxies share the work over: redis://HOST:PORT/DATABASE, or rediss:// for TLS; a password stands
    /// better in the settings file [default: memory, for a proxy that is alone]
    #[arg(
        long,
        value_name = "memory|URL",
        env = "TUNNEL_BUS",
        hide_env_values = true,
        help_heading = "Nodes",
        value_parser = BusParser
    )]
    pub bus: Option<BusFlag>,

    /// Bytes of each request's body and each response's body [default: 500kB]
    #[arg(long, value_name = "SIZE|unlimited", help_heading = "Limits")]
    pub max_body: Option<MaxBody>,

    /// Requests and WebSocket messages of each tunnel [default: 1000/s,burst=2000]
    #[arg(long, value_name = "N/s[,burst=N]|off", help_heading = "Limits")]
    pub rate: Option<RateLimit>,

    /// Bytes of one WebSocket message [default: 16MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub max_websocket_message: Option<Size>,

    /// Exchanges open at once on one session [default: 4096]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_exchanges: Option<NonZeroUsize>,

    /// Longest wait for a response to begin [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    pub answer_timeout: Option<Wait>,

    /// How long a stopping proxy waits for exchanges under way [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    pub grace_period: Option<Wait>,

    /// Where compiled plugins are kept [default: a folder in your cache folder]
    #[arg(long, value_name = "FOLDER", help_heading = "Plugins")]
    pub plugin_cache: Option<PathBuf>,

    /// Settings from a file, plugins and policies among them; what is given here goes before it
    #[arg(long, value_name = "FILE", help_heading = "File")]
    pub config: Option<PathBuf>,

    /// Verify the settings and load every plugin, say what is wrong, and end
    #[arg(long, help_heading = "File")]
    pub check: bool,

    /// As --check, and say which policy, plugins and limits a URL would meet
    #[arg(long, value_name = "URL", help_heading = "File")]
    pub explain: Option<Explained>,

    /// What is written, and how.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What operators of a proxy need beside it.
#[derive(Debug, Clone, Subcommand)]
pub enum ProxyTool {
    /// Make an invitation: print it once, and add its SHA-256 to a file
    #[command(after_help = INVITE_EXAMPLE)]
    Invite(InviteArgs),

    /// What a running proxy is asked for.
    #[command(flatten)]
    Running(Operation),
}

const INVITE_EXAMPLE: &str = "\
Example:
  tunnel proxy invite --file invitations.toml --name 'build server' --hostname 'pr-*' > invitation.txt

Whoever is invited starts the client with --invitation-file invitation.txt.";

const PROXY_EXAMPLES: &str = "\
Examples:
  tunnel proxy                                 for this machine, under http://localhost:6519
  tunnel proxy --listen 0.0.0.0:6519 --domain example.com --allow-key NAME
  tunnel proxy --listen 0.0.0.0:443 --domain example.com --tls-certificate chain.pem --tls-key key.pem --allow-key NAME
  tunnel proxy --domain example.com --public-url https://example.com --trusted-proxy 127.0.0.1 --allow-key NAME
                                               behind a TLS terminator on the same machine
  tunnel proxy --config proxy.toml --check     verify settings, policies and plugins

Visitors need a wildcard DNS record, *.example.com, that leads here.";

/// `tunnel demo`.
#[derive(Debug, Default, Args)]
pub struct DemoArgs {
    /// Where the proxy of the demo listens [default: 127.0.0.1:6519, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<Listen>,

    /// What is written, and how.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `tunnel key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; an existing file is never overwritten
    New {
        /// Where to write it [default: key.pem in your config folder]
        #[arg(long, value_name = "FILE", env = "TUNNEL_KEY", hide_env_values = true)]
        key: Option<PathBuf>,
    },
    /// Show the name, the thumbprint and the host name that a key stands for
    Show {
        /// The key [default: key.pem in your config folder]
        #[arg(long, value_name = "FILE", env = "TUNNEL_KEY", hide_env_values = true)]
        key: Option<PathBuf>,
        /// Of the session with this label
        #[arg(long, value_name = "LABEL")]
        session: Option<SessionLabel>,
        /// The proxy's domain
        #[arg(long, value_name = "NAME", default_value = "localhost")]
        domain: Domain,
    },
}

/// What every role writes.
#[derive(Debug, Default, Clone, Args)]
pub struct OutputArgs {
    /// Lines for people, or one JSON object a line for programs [default: text]
    #[arg(long, value_name = "text|json", hide_possible_values = true, help_heading = "Output")]
    pub log_format: Option<LogFormat>,

    /// Say more; twice for debugging (finer: TUNNEL_LOG=tunnel::session=trace)
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

/// Who reads the output.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// People
    #[default]
    Text,
    /// Programs
    Json,
}

/// More sessions than this from one client gain nothing and meet the proxy's own bound.
const MOST_CONNECTIONS: usize = 16;

/// A second target; clap alone would call it an unexpected argument.
fn one_target(_: &str) -> Result<Infallible, &'static str> {
    Err("a command line takes one target; write several into tunnel.toml, and publish them with --all")
}

/// A number of sessions.
pub(super) fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=MOST_CONNECTIONS) => Ok(n),
        _ => Err(format!("write a number from 1 to {MOST_CONNECTIONS}")),
    }
}

#[cfg(test)]
impl Cli {
    /// Reads a line as a shell would, except that the environment of the test says nothing.
    pub(super) fn of(line: &str) -> Result<Self, clap::Error> {
        use clap::{CommandFactory, FromArgMatches};

        let command = Self::command().mut_args(|arg| arg.env(None));
        Self::from_arg_matches(&command.try_get_matches_from(line.split_whitespace())?)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_bare_target_is_the_client() {
        let cli = Cli::of("tunnel 3000 --proxy https://example.com -vv").unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.client.target, Some("http://localhost:3000".parse().unwrap()));
        assert_eq!(cli.client.proxy.unwrap().0, "https://example.com/");
        assert_eq!(cli.client.output.verbose, 2);
        assert!(Cli::of("tunnel").unwrap().command.is_none());
    }

    #[test]
    fn a_subcommand_goes_before_a_target_of_its_name() {
        assert!(matches!(Cli::of("tunnel demo").unwrap().command, Some(Command::Demo(_))));
        assert!(matches!(Cli::of("tunnel proxy --rate off").unwrap().command, Some(Command::Proxy(_))));
    }

    #[test]
    fn wrong_usage_is_said_in_a_sentence() {
        for (line, says) in [
            ("tunnel http://localhost/x", "it takes no path"),
            ("tunnel 3000 4000", "write several into tunnel.toml"),
            ("tunnel 3000 4000 5000", "write several into tunnel.toml"),
            ("tunnel --all 3000", "cannot be used with"),
            ("tunnel --connections 0", "1 to 16"),
            ("tunnel proxy --listen 6519", "127.0.0.1:6519"),
            ("tunnel proxy --max-body big", "unlimited"),
            ("tunnel proxy --proxy http://localhost", "unexpected argument"),
        ] {
            let error = Cli::of(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_leads_to_a_first_tunnel() {
        let error = Cli::of("tunnel --help").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        let help = error.to_string();
        for word in ["tunnel demo", "tunnel 3000 --proxy", "http://localhost:8080", "key.pem"] {
            assert!(help.contains(word), "{word} is missing in:\n{help}");
        }
        let help = Cli::of("tunnel proxy --help").unwrap_err().to_string();
        for word in ["127.0.0.1:6519", "--public-url", "500kB", "*.example.com"] {
            assert!(help.contains(word), "{word} is missing in:\n{help}");
        }
    }

    #[test]
    fn proxy_key_and_bus_are_taken_from_the_environment() {
        let command = Cli::command();
        let variable =
            |id| command.get_arguments().find(|arg| arg.get_id() == id).unwrap().get_env().unwrap();
        assert_eq!(variable("proxy"), "TUNNEL_PROXY");
        assert_eq!(variable("key"), "TUNNEL_KEY");
        let bus = command
            .find_subcommand("proxy")
            .unwrap()
            .get_arguments()
            .find(|arg| arg.get_id() == "bus")
            .unwrap();
        assert_eq!(bus.get_env().unwrap(), "TUNNEL_BUS");
        assert!(bus.is_hide_env_values_set(), "there may be a password in it");
    }
}

//! Starts the role that was asked for, and ends it: signals, exit, and what is said about both.

use std::{
    error::Error,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::CommandFactory;
use ed25519_dalek::SigningKey;
use etcetera::BaseStrategy;
use http::{
    Uri,
    uri::{Authority, Scheme},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Output, SettingsError,
    author::{self, AuthorError, PluginCommand},
    check,
    cli::{Cli, ClientArgs, Command, DemoArgs, KeyCommand, LogFormat, ProxyArgs, ProxyTool},
    client::{ClientSettings, default_key},
    demo_plugins,
    document::Mistakes,
    key, log, open_files, operate,
    proxy::ProxySettings,
    publish::publish,
    registration::{self, InviteError},
    report::Reporter,
    serve::serve,
    service,
    signals::Signals,
    threads::Threads,
    values::{Domain, Listen},
};
use crate::{
    client::{self, HostHeader, Origin, OriginConfig, key::KeyError},
    demo::Sample,
    proxy::{self, BindError},
};

/// Why the program ends with a failure: one sentence.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Failure {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Author(#[from] AuthorError),
    #[error(transparent)]
    Service(#[from] service::ServiceError),
    #[error(transparent)]
    Invite(#[from] InviteError),
    #[error("{}", in_full(.0))]
    Key(#[from] KeyError),
    #[error("{}", in_full(.0))]
    Origin(#[from] client::OriginError),
    #[error("{}", in_full(.0))]
    Refused(#[from] client::Refused),
    #[error(transparent)]
    Tool(#[from] operate::ToolError),
    #[error("metrics can't be told on {address} (--metrics): {source}")]
    Metrics { address: SocketAddr, source: io::Error },
    #[error("{}", in_full(.0))]
    Bind(BindError),
    #[error("the sample page of the demo can't listen: {0}")]
    Sample(io::Error),
    #[error("no threads can be started: {0}")]
    Threads(io::Error),
    #[error("signals can't be heard: {0}")]
    Signals(io::Error),
    #[error("no key can be made: the system gives no random bytes ({0})")]
    Random(getrandom::Error),
    #[error("nothing can be written to stdout: {0}")]
    Stdout(io::Error),
}

/// How long a demo may take to end: whoever pressed ctrl-c is looking at it.
const DEMO_END: Duration = Duration::from_secs(1);

/// An error with those causes that its own text leaves out.
fn in_full(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let why = cause.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        next = cause.source();
    }
    text
}

/// Does what the command line asks for, until it is done or a signal ends it.
///
/// # Errors
/// The settings can't be used, the proxy refuses the client for good, or an address is taken.
pub fn run(cli: Cli) -> Result<(), Failure> {
    open_files::raise();
    match cli.command {
        None => run_client(cli.client),
        Some(Command::Proxy(args)) => run_proxy(*args),
        Some(Command::Demo(args)) => Threads::All.run(run_demo(args)),
        Some(Command::Key(command)) => run_key(command),
        Some(Command::Plugin(command)) => Threads::All.run(run_author(command)),
        Some(Command::Service(command)) => print(service::service(command)?.as_bytes()),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tunnel", &mut script);
            print(&script)
        }
    }
}

/// The folder for this program's files in the user's config folder.
fn folder() -> Option<PathBuf> {
    etcetera::choose_base_strategy().ok().map(|base| base.config_dir().join("tunnel"))
}

fn run_client(args: ClientArgs) -> Result<(), Failure> {
    let format = args.output.log_format;
    let mut mistakes = Mistakes::default();
    let load = |mistakes: &mut Mistakes| ClientSettings::load(&args, folder().as_deref(), mistakes);
    let settings = said(format, load(&mut mistakes))?;
    let reporter = begin(&settings.output)?;
    if args.check {
        let checked = Threads::All.run(check::client(settings, mistakes, &reporter));
        return end(&reporter, checked.and_then(|text| print(text.as_bytes())));
    }
    let result = settings.threads().run(publish(settings, mistakes, load, &reporter));
    end(&reporter, result)
}

fn run_proxy(args: ProxyArgs) -> Result<(), Failure> {
    match &args.tool {
        Some(ProxyTool::Invite(args)) => {
            return print(format!("{}\n", registration::invite(args)?).as_bytes());
        }
        Some(ProxyTool::Running(operation)) => {
            return print(Threads::One.run(operate::operate(operation))?.as_bytes());
        }
        None => {}
    }
    let format = args.output.log_format;
    let mut mistakes = Mistakes::default();
    let load = |mistakes: &mut Mistakes| ProxySettings::load(&args, mistakes);
    let settings = said(format, load(&mut mistakes))?;
    let reporter = begin(&settings.output)?;
    if args.check || args.explain.is_some() {
        let url = args.explain.as_ref().map(|url| &url.0);
        let checked = Threads::All.run(check::proxy(settings, mistakes, url, &reporter));
        return end(&reporter, checked.and_then(|text| print(text.as_bytes())));
    }
    for advice in &settings.advice {
        tracing::warn!("{advice}");
    }
    let result = settings.threads().run(serve(settings, mistakes, load, &reporter));
    end(&reporter, result)
}

async fn run_demo(args: DemoArgs) -> Result<(), Failure> {
    let output = Output::new(&args.output, None);
    let reporter = begin(&output)?;
    let result = demonstrate(args.listen, &reporter).await;
    end(&reporter, result)
}

/// A sample page, a proxy and a client in this process. The key is made in memory and leaves no file.
async fn demonstrate(listen: Option<Listen>, reporter: &Reporter) -> Result<(), Failure> {
    let stop = stop_on_signals(reporter.clone())?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(Failure::Random)?;
    let key = SigningKey::from_bytes(&seed);

    let sample = Sample::bind((Ipv4Addr::LOCALHOST, 0).into()).await.map_err(Failure::Sample)?;
    let proxy = bind_demo_proxy(listen, reporter).await?;
    match demo_plugins::policies().await {
        Ok(policies) => proxy.policies().replace(&policies),
        // The rest of the demo is worth seeing all the same.
        Err(error) => tracing::warn!("the demo shows no plugins: {error}"),
    }
    let config = demo_client(key, proxy.address(), sample.address(), reporter)?;

    let mut servers = JoinSet::new();
    servers.spawn(sample.run(stop.clone()));
    servers.spawn(proxy.run(stop.clone()));
    let report = config.report.clone();
    let ending = async {
        let result = client::run(config, stop.clone()).await;
        stop.cancel();
        servers.join_all().await;
        result
    };
    tokio::select! {
        result = ending => Ok(result?),
        () = async { stop.cancelled().await; tokio::time::sleep(DEMO_END).await } => {
            // Peers that don't read get no last words. What is left ends with the process.
            report(client::Event::Stopped);
            Ok(())
        }
    }
}

/// The usual port, so that the URL is easy to remember, or a free one; the port that was asked for, or none.
async fn bind_demo_proxy(listen: Option<Listen>, reporter: &Reporter) -> Result<proxy::Proxy, Failure> {
    let usual = Listen::default().0;
    match (proxy::bind(demo_proxy(listen.map_or(usual, |listen| listen.0), reporter)).await, listen) {
        (Ok(proxy), _) => Ok(proxy),
        (Err(error), None) if is_taken(&error) => {
            let proxy =
                proxy::bind(demo_proxy((usual.ip(), 0).into(), reporter)).await.map_err(Failure::Bind)?;
            reporter.port_taken(usual, proxy.address());
            Ok(proxy)
        }
        (Err(error), _) => Err(Failure::Bind(error)),
    }
}

fn is_taken(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
            return true;
        }
        next = cause.source();
    }
    false
}

fn demo_proxy(listen: SocketAddr, reporter: &Reporter) -> proxy::Config {
    proxy::Config {
        listen,
        door: proxy::door::DoorSettings::default(),
        domain: Domain::default().0,
        public_url: None,
        also_known_as: Vec::new(),
        // It listens on this machine alone, as was asked for, and ends with its user's terminal.
        registration: proxy::Registration::open(),
        trusted_proxies: Vec::new(),
        policies: Vec::new(),
        dialects: proxy::Dialects::default(),
        redis: None,
        admin: None,
        answer_timeout: Duration::from_secs(30),
        // An open page holds streams that never end by themselves.
        grace_period: Duration::from_millis(500),
        // The page shows an upload's progress, which takes more than the 500 kB of a public proxy.
        limits: proxy::Limits { max_body: Some(1_000_000_000), ..proxy::Limits::default() },
        cores: proxy::Cores::default(),
        observe: proxy::observe::Observe::default(),
        report: reporter.demo_proxy(),
    }
}

fn demo_client(
    key: SigningKey,
    proxy: SocketAddr,
    sample: SocketAddr,
    reporter: &Reporter,
) -> Result<client::Config, client::OriginError> {
    let origin = OriginConfig {
        scheme: Scheme::HTTP,
        authority: authority(sample),
        host_header: HostHeader::Keep,
        insecure: false,
        connect_timeout: Duration::from_secs(10),
        protocol: Default::default(),
    };
    let max_websocket_message = proxy::Limits::default().max_websocket_message;
    Ok(client::Config {
        proxy: url_of(proxy),
        proxy_ca: None,
        key,
        session: None,
        hostname: None,
        invitation: None,
        connections: 1,
        target: format!("http://{sample}"),
        pipeline: Arc::new(Origin::new(&origin, max_websocket_message)?),
        max_websocket_message,
        ping_after: proxy::Limits::default().ping_after,
        report: reporter.demo_client(),
    })
}

/// Where a listener is reached from this machine.
fn url_of(listener: SocketAddr) -> Uri {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let parts = Uri::builder().scheme(Scheme::HTTP).authority(authority((ip, listener.port()).into()));
    parts.path_and_query("/").build().expect("all three parts are given")
}

fn authority(address: SocketAddr) -> Authority {
    address.to_string().parse().expect("an address and a port")
}

async fn run_author(command: PluginCommand) -> Result<(), Failure> {
    // What the plugin logs is what its author wants to see, but not a hundred thousand times.
    let verbose = u8::from(!matches!(command, PluginCommand::Bench(_)));
    log::start(&Output { format: LogFormat::Text, verbose })?;
    print(author::author(command).await?.as_bytes())
}

fn run_key(command: KeyCommand) -> Result<(), Failure> {
    let at = |flag: Option<PathBuf>| flag.map_or_else(|| default_key(folder().as_deref()), Ok);
    let text = match command {
        KeyCommand::New { key: flag } => {
            let path = at(flag)?;
            let key = client::key::create_new(&path)?;
            let domain = Domain::default().0;
            format!("key         {}\n{}", path.display(), key::describe(&key.verifying_key(), None, &domain))
        }
        KeyCommand::Show { key: flag, session, domain } => {
            let key = client::key::load(&at(flag)?)?;
            let session = session.as_ref().map(|label| label.0.as_str());
            key::describe(&key.verifying_key(), session, &domain.0)
        }
    };
    print(text.as_bytes())
}

/// Writes what was asked for. A reader that has seen enough is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(()),
    }
}

/// Starts lines and log.
fn begin(output: &Output) -> Result<Reporter, Failure> {
    said(Some(output.format), log::start(output))?;
    Ok(Reporter::new(output))
}

/// Tells a program that reads lines why there won't be any.
fn said<T>(format: Option<LogFormat>, result: Result<T, SettingsError>) -> Result<T, Failure> {
    result.map_err(|error| {
        let output = Output { format: format.unwrap_or_default(), verbose: 0 };
        let reporter = Reporter::new(&output);
        reporter.error(&error.to_string());
        reporter.finish();
        error.into()
    })
}

/// Writes the last lines.
fn end(reporter: &Reporter, result: Result<(), Failure>) -> Result<(), Failure> {
    if let Err(failure) = &result {
        reporter.error(&failure.to_string());
    }
    reporter.finish();
    result
}

/// A token that SIGINT or SIGTERM cancels. A SIGINT after that ends the process at once.
pub(super) fn stop_on_signals(reporter: Reporter) -> Result<CancellationToken, Failure> {
    let mut signals = Signals::listen().map_err(Failure::Signals)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        signals.any().await;
        reporter.stopping();
        token.cancel();
        signals.interrupt().await;
        // 128 and the number of SIGINT, as shells have it.
        std::process::exit(130);
    });
    Ok(stop)
}

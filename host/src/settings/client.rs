//! The client's settings: what follows from command line, environment, file and defaults together.
//!
//! Precedence: flag, environment (which the command line's parser reads), file, default. Plugins are different: those of
//! the command line come after those of the file, so that a flag never takes a guard away.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::CommandFactory;
use ed25519_dalek::SigningKey;
use http::Uri;

use super::{
    Output, SettingsError,
    cli::{Cli, ClientArgs},
    document::{self, Lines, Mistakes},
    file::{self, FileError, TargetTable, TunnelFile},
    observe::ClientPlan,
    plugins::{PluginTable, Sources, Wanted, load, wanted},
    registration::HostnameFlag,
    secret::SecretSource,
    threads::Threads,
    values::{Origin, SessionLabel, Target, Written},
};
use crate::{
    client::{Config, Event, HostHeader, OriginConfig, ProxyCa},
    exchange::Forward,
    plugin::Role,
    wire::{TunnelName, registration::MAX_INVITATION},
};

/// All that `tunnel [TARGET]` needs, beside the key itself and loaded plugins.
pub struct ClientSettings {
    /// The key's file, which may not exist yet.
    pub key: PathBuf,
    /// What to publish; at least one.
    pub published: Vec<Published>,
    /// What to write, and how.
    pub output: Output,
    /// Plugins to load.
    pub wanted: Vec<Wanted>,
    /// Where compiled plugins are kept, if that was said.
    pub plugin_cache: Option<PathBuf>,
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    /// The files that were read.
    pub sources: Sources,
    /// What an operator sees.
    pub observe: ClientPlan,
    invitation: Option<String>,
    proxy: Uri,
    proxy_ca: Option<ProxyCa>,
    max_websocket_message: usize,
    ping_after: Duration,
}

/// One service to publish.
#[derive(Debug)]
pub struct Published {
    /// Its name in the file, if it has one.
    pub name: Option<String>,
    /// The service.
    pub origin: OriginConfig,
    /// The application that answers in the service's place, by name.
    pub serve: Option<String>,
    /// The plugins that its exchanges pass, by name and in order.
    pub plugins: Vec<String>,
    session: Option<String>,
    hostname: Option<TunnelName>,
    connections: usize,
}

impl Published {
    /// What users are told that it is.
    pub fn target(&self) -> String {
        match &self.serve {
            Some(serve) => format!("the application {serve}"),
            None => format!("{}://{}", self.origin.scheme, self.origin.authority),
        }
    }
}

impl ClientSettings {
    /// A session's exchanges are best done where the session is. Several sessions have more to do than one core may have time for,
    /// and so have plugins.
    pub(super) fn threads(&self) -> Threads {
        let sessions: usize = self.published.iter().map(|published| published.connections).sum();
        if sessions > 1 || !self.wanted.is_empty() { Threads::All } else { Threads::One }
    }

    /// Puts the settings together, and reads what plugins need. `folder` is the user's config folder for this program, if
    /// there is one. What is wrong with parts of the file or with plugins is noted in `mistakes`.
    ///
    /// # Errors
    /// The file can't be read, or the settings contradict each other.
    pub fn load(
        args: &ClientArgs,
        folder: Option<&Path>,
        mistakes: &mut Mistakes,
    ) -> Result<Self, SettingsError> {
        let usual = folder.map(|folder| folder.join("tunnel.toml")).filter(|path| path.exists());
        let settings = match args.config.clone().or(usual) {
            Some(path) => {
                let text = file::read(&path)?;
                let mut settings = Self::of_text(args, Some((&path, &text)), folder, mistakes);
                if let Ok(settings) = &mut settings {
                    settings.sources.remember(&path, text.as_bytes());
                }
                settings
            }
            None => Self::of_text(args, None, folder, mistakes),
        };
        mistakes.explain(settings)
    }

    fn of_text(
        args: &ClientArgs,
        file: Option<(&Path, &str)>,
        folder: Option<&Path>,
        mistakes: &mut Mistakes,
    ) -> Result<Self, SettingsError> {
        let path = file.map(|(path, _)| path);
        let (file, lines): (TunnelFile, Lines) =
            file.map(|(path, text)| document::parse(path, text, mistakes)).unwrap_or_default();
        let mut sources = Sources::default();
        let wanted = wanted(args, &file, &lines, &mut sources, mistakes);
        let mut published = published(args, &file, path)?;
        for published in &mut published {
            published.plugins = chain(published.name.as_deref(), &file, &lines, &wanted, mistakes);
        }
        let metrics =
            args.metrics.or(file.metrics.as_ref().map(|metrics| metrics.0)).map(|metrics| metrics.0);
        let observe = ClientPlan::new(file.traces.as_ref(), metrics, &lines, mistakes);
        let invitation = invitation(args, file.invitation.as_ref(), &lines, &mut sources)?;
        let proxy_ca = proxy_ca(args, file.proxy_ca.as_deref(), &lines, &mut sources, mistakes);
        let in_file = file.plugin_cache.map(|cache| lines.resolve("plugin_cache", &cache)).transpose()?;
        Ok(Self {
            key: key_file(args.key.clone(), file.key, path, folder)?,
            published,
            output: Output::new(&args.output, file.log_format),
            wanted,
            plugin_cache: args.plugin_cache.clone().or(in_file),
            file: path.map(Path::to_owned),
            sources,
            observe,
            invitation,
            proxy: args.proxy.clone().or(file.proxy.map(|url| url.0)).unwrap_or_default().0,
            proxy_ca,
            // The proxy's default; one that allows less says so at registration.
            max_websocket_message: file.max_websocket_message.map_or(16 << 20, |size| size.0.in_memory()),
            ping_after: file.ping_after.map_or(Duration::from_secs(10), |time| time.0.0),
        })
    }

    /// Whether these publish the same services in the same way as others, plugins aside.
    pub fn publishes_as(&self, other: &Self) -> bool {
        let service = |published: &Published| {
            let Published { name, origin, session, hostname, connections, .. } = published;
            (name.clone(), origin.clone(), session.clone(), hostname.clone(), *connections)
        };
        self.proxy == other.proxy
            && self.observe == other.observe
            && self.proxy_ca == other.proxy_ca
            && self.key == other.key
            && self.invitation == other.invitation
            && self.max_websocket_message == other.max_websocket_message
            && self.ping_after == other.ping_after
            && self.published.iter().map(service).eq(other.published.iter().map(service))
    }

    /// Bytes of one WebSocket message.
    pub fn max_websocket_message(&self) -> usize {
        self.max_websocket_message
    }

    /// The client's Config for one service, which `pipeline` leads to.
    pub fn config(
        &self,
        published: &Published,
        pipeline: Arc<dyn Forward>,
        key: SigningKey,
        report: Arc<dyn Fn(Event) + Send + Sync>,
    ) -> Config {
        Config {
            proxy: self.proxy.clone(),
            proxy_ca: self.proxy_ca.clone(),
            key,
            session: published.session.clone(),
            hostname: published.hostname.clone(),
            invitation: self.invitation.clone(),
            connections: published.connections,
            pipeline,
            target: published.target(),
            max_websocket_message: self.max_websocket_message,
            ping_after: self.ping_after,
            report,
        }
    }
}

/// The plugins of the file and of the command line, read and checked.
fn wanted(
    args: &ClientArgs,
    file: &TunnelFile,
    lines: &Lines,
    sources: &mut Sources,
    mistakes: &mut Mistakes,
) -> Vec<Wanted> {
    let written = wanted::Written {
        plugins: &file.plugin,
        applications: &file.application,
        secrets: &file.secrets,
        lines,
        role: Role::Client,
    };
    let mut wanted = written.wanted(sources, mistakes);
    let flags = wanted::of_flags(&args.plugins.0, &wanted, sources, mistakes);
    wanted.extend(flags);
    if let Some(serve) = &args.serve {
        let named = |table: &PluginTable| table.name.as_ref().is_some_and(|name| name.0.0 == *serve);
        // One of the file goes first, whether it is good or not: else a mistake in it would serve another.
        if !file.application.iter().any(named) {
            wanted.extend(wanted::of_serve(serve, sources, mistakes));
        }
    }
    wanted
}

/// The names of a service's plugins: those that its table lists, or all of the file; then those of the command line.
fn chain(
    target: Option<&str>,
    file: &TunnelFile,
    lines: &Lines,
    wanted: &[Wanted],
    mistakes: &mut Mistakes,
) -> Vec<String> {
    let plugins = || wanted.iter().filter(|wanted| wanted.kind == wanted::Kind::Plugin);
    let name = |wanted: &Wanted| wanted.config.name.clone();
    let listed = target.and_then(|target| Some((target, file.targets.get(target)?.plugins.as_ref()?)));
    let Some((target, listed)) = listed else { return plugins().map(name).collect() };
    // One that is there but has a mistake is told about where the mistake is.
    let named =
        |name: &str| file.plugin.iter().flat_map(|plugin| &plugin.name).any(|known| known.0.0 == name);
    for (n, name) in listed.iter().enumerate().filter(|(_, name)| !named(name)) {
        let key = format!("targets.{target}.plugins[{n}]");
        mistakes.push(lines.wrong(&key, load::unknown(name, wanted)));
    }
    listed.iter().cloned().chain(plugins().filter(|wanted| wanted.key().is_none()).map(name)).collect()
}

/// The invitation, if there is one: of the flag's file, of the environment, or of where the settings file says. Never on the command
/// line itself, which every user of the machine can read.
fn invitation(
    args: &ClientArgs,
    in_file: Option<&SecretSource>,
    lines: &Lines,
    sources: &mut Sources,
) -> Result<Option<String>, SettingsError> {
    let flag = |path: &Path, problem: String| {
        FileError::of_flag(format!("--invitation-file {}", path.display()), problem)
    };
    let read = match (&args.invitation_file, std::env::var("TUNNEL_INVITATION"), in_file) {
        (Some(path), ..) => sources.read(path).map_err(|error| flag(path, error.to_string()))?,
        (None, Ok(text), _) if !text.is_empty() => text.into_bytes(),
        (None, _, Some(source)) => source.read("invitation", lines, sources)?,
        _ => return Ok(None),
    };
    let text = String::from_utf8(read).ok().map(|text| text.trim().to_owned());
    match text {
        Some(text) if (1..=MAX_INVITATION).contains(&text.len()) => Ok(Some(text)),
        _ => Err(SettingsError::NoInvitation),
    }
}

/// Where the key is: as given, as the file says, or in the config folder. Never found by chance in the current
/// folder, where someone else may have put one.
fn key_file(
    flag: Option<PathBuf>,
    in_file: Option<PathBuf>,
    path: Option<&Path>,
    folder: Option<&Path>,
) -> Result<PathBuf, SettingsError> {
    match (flag, in_file, path) {
        (Some(key), ..) => Ok(key),
        (None, Some(key), Some(path)) if key.starts_with("~") => {
            let problem = "~ stands for nothing in a file; write the whole path";
            Err(FileError::at_key(path, "key", problem).into())
        }
        (None, Some(key), Some(path)) => Ok(path.parent().unwrap_or(Path::new("")).join(key)),
        _ => default_key(folder),
    }
}

/// The key's place when none was named.
pub(super) fn default_key(folder: Option<&Path>) -> Result<PathBuf, SettingsError> {
    folder.map(|folder| folder.join("key.pem")).ok_or(SettingsError::NoFolder)
}

fn published(
    args: &ClientArgs,
    file: &TunnelFile,
    path: Option<&Path>,
) -> Result<Vec<Published>, SettingsError> {
    if args.all {
        return every_target(args, file, path);
    }
    if let Some(serve) = &args.serve {
        return Ok(vec![Published { serve: Some(serve.clone()), ..unnamed(args, file, Origin::default()) }]);
    }
    let target = match (&args.target, &file.target) {
        (Some(target), _) => target.clone(),
        (None, Some(target)) => target.0.clone(),
        (None, None) if file.targets.is_empty() => Target::Origin(Origin::default()),
        (None, None) => return Err(SettingsError::WhichTarget { names: names(file) }),
    };
    match target {
        Target::Origin(origin) => Ok(vec![unnamed(args, file, origin)]),
        Target::Name(name) => match file.targets.get(&name) {
            Some(table) => Ok(vec![named(args, file, path, &name, table)?]),
            None if Cli::command().find_subcommand(&name).is_some() => {
                Err(SettingsError::OptionsFirst { command: name })
            }
            None => Err(SettingsError::NoSuchTarget { name, names: names(file) }),
        },
    }
}

fn every_target(
    args: &ClientArgs,
    file: &TunnelFile,
    path: Option<&Path>,
) -> Result<Vec<Published>, SettingsError> {
    if file.targets.is_empty() {
        return Err(SettingsError::NoTargets);
    }
    let mut all: Vec<Published> = Vec::new();
    for (name, table) in &file.targets {
        let next = named(args, file, path, name, table)?;
        // One name for two services would give each visitor either of them.
        if let Some(same) =
            all.iter().find(|other| next.hostname.is_some() && other.hostname == next.hostname)
        {
            let other = same.name.as_deref().unwrap_or_default();
            let problem = format!("{other} has the same hostname; give each target its own");
            let key = format!("targets.{name}.hostname");
            return Err(FileError::at_key(path.unwrap_or(Path::new("tunnel.toml")), key, problem).into());
        }
        if let Some(same) = all.iter().find(|other| other.session == next.session) {
            let other = same.name.as_deref().unwrap_or_default();
            let problem = format!("{other} has the same label; give each target its own");
            let key = format!("targets.{name}.session");
            return Err(FileError::at_key(path.unwrap_or(Path::new("tunnel.toml")), key, problem).into());
        }
        all.push(next);
    }
    Ok(all)
}

fn unnamed(args: &ClientArgs, file: &TunnelFile, origin: Origin) -> Published {
    let session = args.session.clone().or_else(|| file.session.clone().map(|label| label.0));
    Published {
        name: None,
        origin: origin_config(args, file, None, origin),
        serve: None,
        plugins: Vec::new(),
        session: session.map(|label| label.0),
        hostname: hostname(args, file.hostname.as_ref()),
        connections: args.connections.or(file.connections.as_ref().map(|n| n.0.0)).unwrap_or(1),
    }
}

fn named(
    args: &ClientArgs,
    file: &TunnelFile,
    path: Option<&Path>,
    name: &str,
    table: &TargetTable,
) -> Result<Published, SettingsError> {
    let label = match (&args.session, &table.session) {
        (Some(label), _) => label.clone(),
        (None, Some(label)) => label.0.clone(),
        (None, None) => name.parse::<SessionLabel>().map_err(|wrong| {
            FileError::at_key(path.unwrap_or(Path::new("tunnel.toml")), "targets", wrong.to_string())
        })?,
    };
    let connections =
        args.connections.or(table.connections.as_ref().or(file.connections.as_ref()).map(|n| n.0.0));
    Ok(Published {
        name: Some(name.to_owned()),
        origin: origin_config(args, file, Some(table), table.target.0.clone()),
        serve: None,
        plugins: Vec::new(),
        session: Some(label.0),
        hostname: hostname(args, table.hostname.as_ref()),
        connections: connections.unwrap_or(1),
    })
}

/// The chosen name. A label on the command line asks for the name that is made from it.
fn hostname(args: &ClientArgs, in_file: Option<&Written<HostnameFlag>>) -> Option<TunnelName> {
    let in_file = in_file.filter(|_| args.session.is_none()).map(|written| &written.0);
    args.hostname.as_ref().or(in_file).map(|name| name.0.clone())
}

fn origin_config(
    args: &ClientArgs,
    file: &TunnelFile,
    table: Option<&TargetTable>,
    origin: Origin,
) -> OriginConfig {
    let written = table.and_then(|table| table.host_header.as_ref()).or(file.host_header.as_ref());
    let host_header = args.host_header.clone().or_else(|| written.map(|host| host.0.clone()));
    let insecure = table.and_then(|table| table.insecure_origin).or(file.insecure_origin);
    let in_table = table.and_then(|table| table.origin_protocol.as_ref()).or(file.origin_protocol.as_ref());
    OriginConfig {
        scheme: origin.scheme,
        authority: origin.authority,
        host_header: host_header.unwrap_or(HostHeader::Keep),
        insecure: args.insecure_origin || insecure.unwrap_or(false),
        connect_timeout: file.connect_timeout.as_ref().map_or(Duration::from_secs(10), |time| time.0.0),
        protocol: args.origin_protocol.or(in_table.map(|protocol| protocol.0)).unwrap_or_default(),
    }
}

fn names(file: &TunnelFile) -> String {
    file.targets.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The flag's, or else the file's.
fn proxy_ca(
    args: &ClientArgs,
    in_file: Option<&Path>,
    lines: &Lines,
    sources: &mut Sources,
    mistakes: &mut Mistakes,
) -> Option<ProxyCa> {
    let wrong = |problem: String| match &args.proxy_ca {
        Some(_) => FileError::of_flag("--proxy-ca".to_owned(), problem),
        None => lines.wrong("proxy_ca", problem),
    };
    let path = match (&args.proxy_ca, in_file) {
        (Some(path), _) => path.clone(),
        (None, path) => mistakes.take(lines.resolve("proxy_ca", path?))?,
    };
    let read = sources.read(&path).map_err(|error| error.to_string());
    let read = read.and_then(|pem| ProxyCa::read(&pem));
    mistakes.take(read.map_err(|problem| wrong(format!("{}: {problem}", path.display()))))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

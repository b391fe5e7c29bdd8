//! Command line, files and environment: the only place that knows every Config.
//!
//! Raw text becomes checked values at the door ([`values`], [`units`]), the same for the command line ([`cli`]) and
//! for files ([`mod@file`]); [`client`] and [`proxy`] put them together; [`mod@run`] starts the role that was asked
//! for, and [`report`] turns what the roles tell into lines on stdout. Must not know how a role does its work.

pub mod author;
pub mod bus;
pub mod cli;
pub mod client;
pub mod document;
pub mod door;
pub mod file;
pub mod observe;
pub mod operate;
pub mod plugins;
pub mod policy;
pub mod proxy;
pub mod registration;
pub mod report;
pub mod run;
pub mod secret;
pub mod service;
pub mod units;
pub mod values;

mod check;
mod demo_plugins;
mod json;
mod key;
mod legacy;
mod log;
mod open_files;
mod origin_protocol;
mod printer;
mod publish;
mod reload;
mod serve;
mod signals;
mod text;
mod threads;

pub use cli::Cli;
pub use run::{Failure, run};

use cli::{LogFormat, OutputArgs};

/// What a role writes, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Output {
    /// For people or for programs.
    pub format: LogFormat,
    /// How often `-v` was given.
    pub verbose: u8,
}

impl Output {
    fn new(args: &OutputArgs, file: Option<LogFormat>) -> Self {
        Self { format: args.log_format.or(file).unwrap_or_default(), verbose: args.verbose }
    }
}

/// Why the settings can't be used: one sentence that says what to write instead.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SettingsError {
    #[error(transparent)]
    File(#[from] file::FileError),
    #[error("no config folder is known for this user; say where the key is with --key FILE")]
    NoFolder,
    #[error("the settings file names several targets; choose one ({names}), or publish every one with --all")]
    WhichTarget { names: String },
    #[error("{}", no_such_target(name, names))]
    NoSuchTarget { name: String, names: String },
    #[error("options go after the command; write tunnel {command}, then its options")]
    OptionsFirst { command: String },
    #[error(
        "--all publishes the targets of a settings file; there is none yet: add [targets.NAME] to tunnel.toml"
    )]
    NoTargets,
    #[error(transparent)]
    NobodyMay(#[from] registration::NobodyMay),
    #[error("{}", several(.0))]
    Several(Vec<SettingsError>),
    #[error("the access log {} can't be written: {source}; make its folder, or let this user write there", path.display())]
    AccessLog { path: std::path::PathBuf, source: std::sync::Arc<std::io::Error> },
    #[error("{0}; see [traces] in the settings file")]
    Traces(String),
    #[error("that is no invitation: it is one line, as tunnel proxy invite prints it")]
    NoInvitation,
    #[error("plugins can't be run here: {0}")]
    Engine(String),
    #[error("TUNNEL_LOG: {0}; write for example TUNNEL_LOG=tunnel=debug")]
    Filter(String),
}

fn several(errors: &[SettingsError]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| format!("\n  {error}")).collect();
    format!("{} mistakes:{}", errors.len(), lines.concat())
}

fn no_such_target(name: &str, names: &str) -> String {
    if names.is_empty() {
        return format!(
            "nothing is known of a target \"{name}\"; write a port (3000), host:port ({name}:80) or a URL \
             (http://{name}), or add [targets.{name}] to tunnel.toml"
        );
    }
    format!("the settings file names no target \"{name}\"; it has {names}")
}

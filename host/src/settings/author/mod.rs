//! `tunnel plugin`: what the author of a plugin does all day, without a tunnel.
//!
//! Each command runs the same host that a proxy or a client runs, so that what is seen here is what happens there.

mod bench;
mod check;
mod new;
mod run;

use std::{io, path::PathBuf};

use clap::{Args, Subcommand};

use crate::{
    plugin::{Config, Host, Isolation, LoadError, Options, Role},
    wire::TunnelName,
};

/// `tunnel plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Make a crate that builds a plugin and passes its test
    New(new::NewArgs),
    /// Say what a file is: its kind, its hooks, and what it has to be granted
    Check {
        /// What cargo built
        file: PathBuf,
    },
    /// Send one request through a plugin, and show what it made of it
    Run(Box<run::RunArgs>),
    /// Measure what a plugin costs an exchange
    Bench(bench::BenchArgs),
}

/// How a plugin is loaded by these commands.
#[derive(Debug, Default, Args)]
pub struct LoadArgs {
    /// What cargo built
    pub file: PathBuf,

    /// Configuration, as JSON
    #[arg(long, value_name = "JSON", conflicts_with = "config_file", help_heading = "Plugin")]
    pub config: Option<String>,

    /// Configuration, from a TOML file
    #[arg(long, value_name = "FILE", help_heading = "Plugin")]
    pub config_file: Option<PathBuf>,

    /// Grant a key-value store
    #[arg(long, help_heading = "Plugin")]
    pub kv: bool,

    /// Grant requests to an origin; may be given again
    #[arg(long, value_name = "URL", help_heading = "Plugin")]
    pub http: Vec<http::Uri>,

    /// Grant a secret; may be given again
    #[arg(long, value_name = "NAME=FILE", value_parser = secret, help_heading = "Plugin")]
    pub secret: Vec<(String, PathBuf)>,

    /// Load it as a client does, instead of as a proxy
    #[arg(long, help_heading = "Plugin")]
    pub at_client: bool,
}

fn secret(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("write NAME=FILE".to_owned()),
    }
}

/// Why a command of `tunnel plugin` failed: one sentence.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AuthorError {
    #[error("{} can't be read: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    Load { path: PathBuf, error: LoadError },
    #[error("--config is no JSON: {0}")]
    Json(serde_json::Error),
    #[error("{}: {error}", path.display())]
    Toml { path: PathBuf, error: Box<toml::de::Error> },
    #[error("{0}")]
    Host(LoadError),
    #[error("{0}")]
    Usage(String),
    #[error("{} can't be written: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
}

/// Does it, and gives what is to be printed.
///
/// # Errors
/// See [`AuthorError`].
pub(super) async fn author(command: PluginCommand) -> Result<String, AuthorError> {
    match command {
        PluginCommand::New(args) => new::new(&args),
        PluginCommand::Check { file } => check::check(&file).await,
        PluginCommand::Run(args) => run::run(*args).await,
        PluginCommand::Bench(args) => bench::bench(&args).await,
    }
}

/// Compiles each time: whoever works on a plugin runs another file each time.
fn host() -> Result<Host, AuthorError> {
    Host::new(&Options::default()).map_err(AuthorError::Host)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, AuthorError> {
    std::fs::read(path).map_err(|error| AuthorError::Read { path: path.clone(), error })
}

/// A name for requests that reach no tunnel.
fn tunnel() -> TunnelName {
    "a".repeat(52).parse().expect("52 letters of base32")
}

impl LoadArgs {
    /// What the plugin is loaded with.
    fn config(&self, isolation: Isolation) -> Result<Config, AuthorError> {
        let name = self.file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let role = if self.at_client { Role::Client } else { Role::Proxy };
        let mut config = Config::new(name, role);
        config.isolation = isolation;
        if let Some(json) = &self.config {
            serde_json::from_str::<serde_json::Value>(json).map_err(AuthorError::Json)?;
            config.config.clone_from(json);
        } else if let Some(path) = &self.config_file {
            let text = String::from_utf8_lossy(&read(path)?).into_owned();
            let table: toml::Table = toml::from_str(&text)
                .map_err(|error| AuthorError::Toml { path: path.clone(), error: Box::new(error) })?;
            config.config = serde_json::to_string(&table).map_err(AuthorError::Json)?;
        }
        config.grant.kv = self.kv;
        config.grant.http.clone_from(&self.http);
        for (name, file) in &self.secret {
            config.grant.secrets.insert(name.clone(), read(file)?);
        }
        Ok(config)
    }
}

//! The log on stderr: for whoever looks for the cause of something, beside the lines on stdout that say what is
//! going on.

use std::{env, io};

use anstream::{AutoStream, ColorChoice};
use tracing_subscriber::{EnvFilter, fmt};

use super::{Output, SettingsError, cli::LogFormat};

/// The variable that filters more finely than `-v`.
const VARIABLE: &str = "TUNNEL_LOG";

/// Starts the log. `TUNNEL_LOG` goes before `-v`.
///
/// # Errors
/// `TUNNEL_LOG` is no filter.
pub(super) fn start(output: &Output) -> Result<(), SettingsError> {
    let filter = match env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => filter(&text)?,
        _ => filter(level(output.verbose))?,
    };
    let colour = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let log =
        fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour).log_internal_errors(false);
    // One is there already only where tests share a process.
    let _ = match output.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}

fn filter(text: &str) -> Result<EnvFilter, SettingsError> {
    EnvFilter::builder().parse(text).map_err(|error| SettingsError::Filter(error.to_string()))
}

/// Our own words first; those of libraries one step behind.
fn level(verbose: u8) -> &'static str {
    match verbose {
        0 => "warn",
        1 => "warn,tunnel=info,plugin=info",
        2 => "info,tunnel=debug,plugin=debug",
        _ => "debug,tunnel=trace,plugin=trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_a_filter() {
        for verbose in 0..5 {
            filter(level(verbose)).unwrap();
        }
        let why = filter("tunnel=loud").unwrap_err().to_string();
        assert!(why.starts_with("TUNNEL_LOG: ") && why.contains("TUNNEL_LOG=tunnel=debug"), "{why}");
    }
}

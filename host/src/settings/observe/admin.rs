//! Who may ask the admin listener what.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use serde::{Deserialize, Deserializer};

use super::{
    super::{
        document::{Lines, Mistakes},
        file::FileError,
        plugins::Sources,
        values::Wrong,
    },
    InFile,
};
use crate::operator::{Open, Token};

/// Bytes of a token: fewer can be guessed.
const SHORTEST: usize = 16;

/// Flags of the admin listener beside its address.
#[derive(Debug, Default, Clone, Args)]
pub struct AdminArgs {
    /// What opens every door of the admin listener, in a file; shown as "Authorization: Bearer …"
    #[arg(long, value_name = "FILE", help_heading = "Nodes")]
    pub admin_token_file: Option<PathBuf>,

    /// Doors of the admin listener that need no token: health, metrics [default: all where only this machine reaches it,
    /// else health]
    #[arg(long, value_name = "health,metrics|none", help_heading = "Nodes")]
    pub admin_open: Option<DoorList>,
}

/// Doors that need no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorList(Open);

impl std::str::FromStr for DoorList {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        Self::of(text.split(',').map(str::trim).filter(|name| *name != "none" && !name.is_empty()))
    }
}

impl DoorList {
    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, Wrong> {
        let mut open = Open { health: false, metrics: false, api: false };
        for name in names {
            match name {
                "health" => open.health = true,
                "metrics" => open.metrics = true,
                "api" => {
                    return Err(Wrong(
                        "the API can end sessions and the node: it is open where only this machine reaches it, and \
                         needs a token elsewhere"
                            .to_owned(),
                    ));
                }
                other => {
                    return Err(Wrong(format!(
                        "\"{other}\" is no door; there are \"health\" and \"metrics\""
                    )));
                }
            }
        }
        Ok(Self(open))
    }
}

impl<'de> Deserialize<'de> for DoorList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Self::of(names.iter().map(String::as_str)).map_err(serde::de::Error::custom)
    }
}

/// What the settings amount to. A listener that others reach has a token, or says itself which doors stand open; then the
/// API is shut.
pub(super) fn gate(
    file: &InFile<'_>,
    args: &AdminArgs,
    admin: Option<SocketAddr>,
    lines: &Lines,
    sources: &mut Sources,
    mistakes: &mut Mistakes,
) -> (Option<Token>, Open) {
    let token = match (&args.admin_token_file, file.admin_token) {
        (Some(path), _) => mistakes.take(of_flag(path, sources)),
        (None, Some(source)) => {
            mistakes.take(source.read("admin_token", lines, sources).and_then(|secret| {
                long_enough(&secret).map_err(|problem| lines.wrong("admin_token", problem))?;
                Ok(Token::new(&secret))
            }))
        }
        (None, None) => None,
    };
    let named = args.admin_token_file.is_some() || file.admin_token.is_some();
    let open = args.admin_open.or(file.admin_open);
    let beyond = admin.filter(|admin| !admin.ip().is_loopback());
    if let Some(admin) = beyond
        && !named
        && open.is_none()
    {
        let problem = "others reach it, and it asks nobody for a token; write admin_token = { file = \"…\" }, or \
                       admin_open = [\"health\", \"metrics\"] to do without the API";
        // Named by whichever of the two says where it listens.
        mistakes.push(if lines.has("admin") {
            lines.wrong("admin", problem)
        } else {
            let flags = "others reach it, and it asks nobody for a token; give --admin-token-file FILE, or --admin-open \
                         health,metrics to do without the API";
            FileError::of_flag(format!("--admin {admin}"), flags.to_owned())
        });
    }
    let open = match open {
        Some(DoorList(open)) => Open { api: beyond.is_none() && !named, ..open },
        None if beyond.is_none() && !named => Open::ALL,
        None => Open { health: true, metrics: false, api: false },
    };
    (token, open)
}

fn of_flag(path: &std::path::Path, sources: &mut Sources) -> Result<Token, FileError> {
    let wrong =
        |problem: String| FileError::of_flag(format!("--admin-token-file {}", path.display()), problem);
    let mut secret = sources.read(path).map_err(|error| wrong(format!("it can't be read: {error}")))?;
    while secret.last().is_some_and(u8::is_ascii_whitespace) {
        secret.pop();
    }
    long_enough(&secret).map_err(wrong)?;
    Ok(Token::new(&secret))
}

fn long_enough(secret: &[u8]) -> Result<(), String> {
    if secret.len() < SHORTEST {
        return Err(format!(
            "a token of {} bytes can be guessed, it has to have {SHORTEST}; make one with: openssl rand -hex 32",
            secret.len()
        ));
    }
    if !secret.iter().all(u8::is_ascii_graphic) {
        return Err(
            "a token travels in a header: letters, digits and signs of ASCII, without spaces".to_owned()
        );
    }
    Ok(())
}

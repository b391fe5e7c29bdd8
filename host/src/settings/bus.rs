//! The bus that was chosen: `--bus` and `bus` with its password, from the text to an address, and whether Redis answers
//! there.
//!
//! A password is never repeated, neither in an error nor in a warning. Must not know what travels over the bus.

use std::{ffi::OsStr, str::FromStr};

use clap::{
    Arg, Command,
    builder::TypedValueParser,
    error::{Error, ErrorKind},
    parser::ValueSource,
};

use super::{
    SettingsError,
    document::{Lines, Mistakes},
    file::FileError,
    plugins::Sources,
    secret::SecretSource,
    values::{Written, Wrong},
};
use crate::redis::{Address, BadAddress, Redis, RedisError};

/// What nodes share the work over.
#[derive(Debug, Clone, PartialEq)]
pub enum Bus {
    /// Nothing: there is one node.
    Memory,
    /// A Redis.
    Redis(Box<Address>),
}

impl FromStr for Bus {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        let wrong = |bad: BadAddress| Wrong(format!("{bad}, or memory for a proxy that is alone"));
        text.parse().map(Box::new).map(Self::Redis).map_err(wrong)
    }
}

/// `--bus`.
#[derive(Debug, Clone)]
pub struct BusFlag {
    /// What it says.
    bus: Bus,
    /// It stands in the command line, and not in the environment: every user of the machine can read it.
    in_sight: bool,
}

impl BusFlag {
    /// Whether there is a password on the command line.
    pub(super) fn has_password(&self) -> bool {
        self.in_sight && matches!(&self.bus, Bus::Redis(address) if address.has_password())
    }

    /// The same, from the environment.
    pub(super) fn of_environment(bus: Bus) -> Self {
        Self { bus, in_sight: false }
    }
}

#[cfg(test)]
impl std::fmt::Display for BusFlag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.bus {
            Bus::Memory => f.write_str("memory"),
            Bus::Redis(address) => address.fmt(f),
        }
    }
}

/// Reads `--bus`. clap's own errors repeat what was written, and there may be a password in it.
#[derive(Debug, Clone)]
pub(super) struct BusParser;

impl TypedValueParser for BusParser {
    type Value = BusFlag;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<BusFlag, Error> {
        self.parse_ref_(command, arg, value, ValueSource::CommandLine)
    }

    fn parse_ref_(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<BusFlag, Error> {
        let in_sight = source == ValueSource::CommandLine;
        let place = if in_sight { "--bus" } else { "the environment variable TUNNEL_BUS" };
        // What isn't UTF-8 is no URL, and no part of it may be shown.
        let bus = value.to_str().unwrap_or_default().parse();
        bus.map(|bus| BusFlag { bus, in_sight })
            .map_err(|wrong| command.clone().error(ErrorKind::ValueValidation, format!("{place}: {wrong}")))
    }
}

/// A Redis that the settings name.
#[derive(Debug, Clone)]
pub struct RedisBus {
    /// The connection, which is made when it is first used.
    pub redis: Redis,
    place: Place,
}

/// Where the bus was named.
#[derive(Debug, Clone)]
enum Place {
    File(Lines),
    Flag,
}

/// What a settings file says about the bus.
pub(super) struct InFile<'a> {
    pub(super) bus: Option<Written<Bus>>,
    pub(super) password: Option<&'a SecretSource>,
    pub(super) lines: &'a Lines,
}

impl InFile<'_> {
    /// The Redis that is meant, if one is: the flag's, or else the file's, with the file's password if its URL has none. What
    /// an operator may want to change is added to `advice`.
    pub(super) fn choose(
        self,
        flag: Option<BusFlag>,
        sources: &mut Sources,
        mistakes: &mut Mistakes,
        advice: &mut Vec<String>,
    ) -> Option<RedisBus> {
        let in_sight = flag.as_ref().is_some_and(|flag| flag.in_sight);
        let (bus, place) = match flag {
            Some(flag) => (flag.bus, Place::Flag),
            None => (self.bus.map_or(Bus::Memory, |bus| bus.0), Place::File(self.lines.clone())),
        };
        let Bus::Redis(mut address) = bus else {
            if self.password.is_some() {
                let problem = "it is for a bus that is a Redis, and here the bus is memory";
                mistakes.warn(self.lines.wrong("bus_password", problem));
            }
            return None;
        };
        if !address.has_password() {
            if let Some(source) = self.password {
                let password = password(source, self.lines, sources);
                *address = address.with_password(&mistakes.take(password)?);
            }
        } else if let Place::Flag = place {
            advice.extend(in_sight.then(|| IN_SIGHT.to_owned()));
        } else if self.password.is_none() {
            mistakes.warn(self.lines.wrong("bus", IN_FILE));
        } else {
            let problem = "the URL of bus has a password too; leave it out there";
            mistakes.push(self.lines.wrong("bus_password", problem));
            return None;
        }
        Some(RedisBus { redis: Redis::new(*address), place })
    }
}

const IN_SIGHT: &str = "--bus has a password in it, and whoever is on this machine can read a command line; write \
    bus_password = { file = \"…\" } or { env = \"…\" } into the settings file, or give the URL by TUNNEL_BUS";

const IN_FILE: &str = "a password stands in its URL, and settings files are shown around; write it elsewhere, and here \
    bus_password = { file = \"…\" } or { env = \"…\" }";

fn password(source: &SecretSource, lines: &Lines, sources: &mut Sources) -> Result<String, FileError> {
    const KEY: &str = "bus_password";
    let password = String::from_utf8(source.read(KEY, lines, sources)?);
    // Not with the error's own words: they repeat the bytes.
    let password = password.map_err(|_| lines.wrong(KEY, "the password isn't UTF-8"))?;
    if password.is_empty() {
        return Err(lines.wrong(KEY, "the password is empty; leave bus_password out if there is none"));
    }
    Ok(password)
}

impl RedisBus {
    /// Asks for a sign of life.
    ///
    /// # Errors
    /// There is none; says where that can be put right.
    pub async fn check(&self) -> Result<(), SettingsError> {
        self.redis.ping().await.map_err(|error| self.failed(&error))
    }

    /// What a start needs: that Redis doesn't refuse, which it would go on doing. One that is away may come back.
    ///
    /// # Errors
    /// It refuses.
    pub(super) async fn welcome(&self) -> Result<(), SettingsError> {
        match self.redis.ping().await {
            Ok(()) => Ok(()),
            Err(error @ RedisError::Refused(_)) => Err(self.failed(&error)),
            Err(error) => {
                tracing::warn!(
                    "{error}; tunnels of this node work, those of other nodes don't until it is back"
                );
                Ok(())
            }
        }
    }

    fn failed(&self, error: &RedisError) -> SettingsError {
        let address = self.redis.address();
        let problem = match error {
            RedisError::Away { .. } => format!("{error}; start it, or correct the address"),
            RedisError::Lost(_) => format!("{address}: {error}; see whether that is a Redis"),
            RedisError::Refused(_) => {
                format!("{address}: {error}; see to the user, the password and the database's number")
            }
        };
        match &self.place {
            Place::File(lines) => lines.wrong("bus", problem),
            Place::Flag => FileError::of_flag("--bus".to_owned(), problem),
        }
        .into()
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;

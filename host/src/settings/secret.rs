//! Secrets: a settings file says where each is, and never what.
//!
//! Owns the two places that there are, and reading them. Must not know what a secret is for.

use std::{ffi::OsString, fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value},
};

use super::{document::Lines, file::FileError, plugins::Sources};

/// Where a secret is: never in the settings file, which is shown around.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// In a file of its own.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            file: Option<PathBuf>,
            env: Option<String>,
        }

        struct Source;

        impl<'de> Visitor<'de> for Source {
            type Value = SecretSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ file = \"…\" } or { env = \"…\" }")
            }

            // Not by the usual words, which repeat what was found: it may be the secret.
            fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretSource, E> {
                Err(E::custom("a secret can't stand in this file; write { file = \"…\" } or { env = \"…\" }"))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<SecretSource, A::Error> {
                match Table::deserialize(value::MapAccessDeserializer::new(table))? {
                    Table { file: Some(file), env: None } => Ok(SecretSource::File(file)),
                    Table { file: None, env: Some(name) } => Ok(SecretSource::Env(name)),
                    _ => Err(de::Error::custom(
                        "a secret has one source; write { file = \"…\" } or { env = \"…\" }",
                    )),
                }
            }
        }

        deserializer.deserialize_any(Source)
    }
}

impl SecretSource {
    /// The secret itself; `at` is the key under which its place is written.
    ///
    /// # Errors
    /// It can't be read there.
    pub fn read(&self, at: &str, lines: &Lines, sources: &mut Sources) -> Result<Vec<u8>, FileError> {
        match self {
            Self::Env(name) => variable(at, name, lines, |value| Some(value.into_encoded_bytes())),
            Self::File(file) => {
                let path = lines.resolve(at, file)?;
                let mut secret = sources.read(&path).map_err(|error| {
                    let shown = path.display();
                    lines.wrong(at, format!("the secret's file {shown} can't be read: {error}"))
                })?;
                // Editors and `echo` end a line that nobody meant.
                if secret.ends_with(b"\n") {
                    secret.pop();
                    if secret.ends_with(b"\r") {
                        secret.pop();
                    }
                }
                Ok(secret)
            }
        }
    }
}

/// What an environment variable holds, as far as `read` takes it; `at` is the key that names the variable.
///
/// # Errors
/// It isn't set, or `read` doesn't take it.
pub(super) fn variable<T>(
    at: &str,
    name: &str,
    lines: &Lines,
    read: impl Fn(OsString) -> Option<T>,
) -> Result<T, FileError> {
    // Neither of them may be looked up: the system panics or finds nothing.
    let proper = !name.is_empty() && !name.contains(['=', '\0']);
    let value = if proper { std::env::var_os(name) } else { None };
    let problem = if value.is_some() { "isn't UTF-8" } else { "isn't set" };
    value.and_then(read).ok_or_else(|| {
        lines
            .wrong(at, format!("the environment variable {name} {problem}; set it before the program starts"))
    })
}

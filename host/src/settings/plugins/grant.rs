//! What a plugin is granted: secrets fetched, variables looked up, folders found.

use std::ffi::OsString;

use super::{
    sources::Sources,
    table::{FolderTable, GrantTable, Named, SecretSource},
    wanted::Written,
};
use crate::{
    plugin::{Grant, config::Folder},
    settings::{document::Mistakes, file::FileError},
};

impl Written<'_> {
    /// Puts a plugin's grants together; what can't be had is noted.
    pub(super) fn grant(
        &self,
        key: &str,
        table: &GrantTable,
        grant: &mut Grant,
        sources: &mut Sources,
        mistakes: &mut Mistakes,
    ) {
        grant.kv = table.kv;
        grant.shared_kv.clone_from(&table.shared_kv);
        grant.http = table.http.iter().map(|url| url.0.0.clone()).collect();
        let named = match &table.secrets {
            Named::Table(secrets) => secrets
                .iter()
                .map(|(name, source)| (format!("{key}.grant.secrets.{name}"), name, Some(source)))
                .collect(),
            Named::List(names) => {
                let names = names.iter().enumerate();
                names
                    .map(|(n, name)| (format!("{key}.grant.secrets[{n}]"), name, self.secrets.get(name)))
                    .collect::<Vec<_>>()
            }
        };
        for (at, name, source) in named {
            let secret = source.map_or_else(
                || Err(self.lines.wrong(&at, format!(
                    "there is no secret {name:?} in [secrets]; add {name} = {{ file = \"…\" }} or {{ env = \"…\" }} there"
                ))),
                |source| self.secret(&at, source, sources),
            );
            if let Some(secret) = mistakes.take(secret) {
                grant.secrets.insert(name.clone(), secret);
            }
        }
        match &table.env {
            Named::Table(values) => grant.env.clone_from(values),
            Named::List(names) => {
                for (n, name) in names.iter().enumerate() {
                    let at = format!("{key}.grant.env[{n}]");
                    let value = self.variable(&at, name, |value| value.into_string().ok());
                    grant.env.extend(mistakes.take(value).map(|value| (name.clone(), value)));
                }
            }
        }
        for (n, folder) in table.folders.iter().enumerate() {
            grant.folders.extend(mistakes.take(self.folder(&format!("{key}.grant.folders[{n}]"), folder)));
        }
    }

    fn secret(&self, at: &str, source: &SecretSource, sources: &mut Sources) -> Result<Vec<u8>, FileError> {
        match source {
            SecretSource::Env(name) => self.variable(at, name, |value| Some(value.into_encoded_bytes())),
            SecretSource::File(file) => {
                let path = self.lines.resolve(at, file)?;
                let mut secret = sources.read(&path).map_err(|error| {
                    let shown = path.display();
                    self.lines.wrong(at, format!("the secret's file {shown} can't be read: {error}"))
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

    fn variable<T>(
        &self,
        at: &str,
        name: &str,
        read: impl Fn(OsString) -> Option<T>,
    ) -> Result<T, FileError> {
        // Neither of them may be looked up: the system panics or finds nothing.
        let proper = !name.is_empty() && !name.contains(['=', '\0']);
        let value = if proper { std::env::var_os(name) } else { None };
        let problem = if value.is_some() { "isn't UTF-8" } else { "isn't set" };
        value.and_then(read).ok_or_else(|| {
            self.lines.wrong(
                at,
                format!("the environment variable {name} {problem}; set it before the program starts"),
            )
        })
    }

    fn folder(&self, at: &str, table: &FolderTable) -> Result<Folder, FileError> {
        let host = self.lines.resolve(at, &table.host)?;
        if !host.is_dir() {
            return Err(self.lines.wrong(at, format!("{} is no folder", host.display())));
        }
        if !table.guest.starts_with('/') {
            let problem = format!("{:?} is no path for a guest; begin it with a slash", table.guest);
            return Err(self.lines.wrong(at, problem));
        }
        Ok(Folder { host, guest: table.guest.clone(), writable: table.writable })
    }
}

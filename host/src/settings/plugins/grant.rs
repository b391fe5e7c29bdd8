//! What a plugin is granted: secrets fetched, variables looked up, folders found.

use super::{
    sources::Sources,
    table::{FolderTable, GrantTable, Named},
    wanted::Written,
};
use crate::{
    plugin::{Grant, config::Folder},
    settings::{document::Mistakes, file::FileError, secret},
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
                |source| source.read(&at, self.lines, sources),
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
                    let value = secret::variable(&at, name, self.lines, |value| value.into_string().ok());
                    grant.env.extend(mistakes.take(value).map(|value| (name.clone(), value)));
                }
            }
        }
        for (n, folder) in table.folders.iter().enumerate() {
            grant.folders.extend(mistakes.take(self.folder(&format!("{key}.grant.folders[{n}]"), folder)));
        }
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

//! From what is written to the rules in force: files read, doubles found, and whether the door is open if nobody says.

use std::{net::SocketAddr, path::Path, sync::Arc};

use http::Uri;

use super::{
    super::{
        document::{self, Lines, Mistakes},
        file::FileError,
        plugins::Sources,
        values::{Domain, Written},
    },
    invitations,
    ledger::FileLedger,
    table::{KeyFlag, KeyTable, KeysFile, PageOrigin, RegistrationTable},
};
use crate::{
    proxy::{
        Registration,
        admission::{KeyRules, NamePattern},
    },
    wire::{KeyName, TunnelName},
};

/// Where the proxy stands: what decides whether it is open if nobody says.
pub struct Door<'a> {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its domain.
    pub domain: &'a Domain,
    /// How it is reached from outside.
    pub public_url: Option<&'a Uri>,
}

/// What the command line says.
#[derive(Debug, Default, Clone)]
pub struct Given {
    /// `--open-registration`.
    pub open: bool,
    /// `--allow-key`.
    pub keys: Vec<KeyFlag>,
}

/// Who has said whether every key may register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The operator, by saying so, or by saying who else may.
    ByOperator,
    /// Nobody; it is open, because nobody else gets here.
    ByNobody,
    /// Nobody, and it is closed to all.
    NobodyMay(NobodyMay),
}

/// Nothing says who may register, and others than this machine may come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{why}, and nothing says who may register a tunnel there: give --allow-key NAME for each key (tunnel key show prints its name), \
     or list keys or invitations under [registration] of the settings file; or let everybody in with --open-registration"
)]
pub struct NobodyMay {
    why: String,
}

impl Door<'_> {
    /// The rules, and who has said whether they are open.
    pub fn rules(
        &self,
        table: &RegistrationTable,
        given: &Given,
        lines: &Lines,
        sources: &mut Sources,
        mistakes: &mut Mistakes,
    ) -> (Registration, Said) {
        let mut reading =
            Reading { rules: Registration::default(), owned: Vec::new(), domain: self.domain, mistakes };
        reading.keys(&table.key, "registration.key", lines);
        reading.revoked(&table.revoked);
        if let Some(file) = &table.keys_file {
            reading.keys_file(file, lines, sources);
        }
        for KeyFlag(key) in &given.keys {
            reading.rules.keys.entry(key.clone()).or_default();
        }
        let mut rules = reading.rules;
        if let Some(file) = &table.invitations {
            let read = read("registration.invitations", file, lines, sources);
            if let Some((path, text)) = mistakes.take(read) {
                rules.invitations = invitations::read(&path, &text, mistakes);
                let used = table.invitations_used.as_ref();
                let used = used.map(|used| lines.resolve("registration.invitations_used", used)).transpose();
                if let Some(used) = mistakes.take(used) {
                    let used = used.unwrap_or_else(|| path.with_added_extension("used"));
                    rules.ledger = Some(Arc::new(FileLedger::new(used)));
                }
            }
        }
        rules.reserved = table.reserved.iter().map(|label| label.0.0.to_string()).collect();
        for page in &table.pages {
            match &page.0 {
                PageOrigin::Any => rules.pages.any = true,
                PageOrigin::One(origin) => rules.pages.origins.push(origin.clone()),
            }
        }
        rules.rate = table.rate.as_ref().map_or(rules.rate, |rate| rate.0.0);
        let number = |n: std::num::NonZeroU32| usize::try_from(n.get()).unwrap_or(usize::MAX);
        rules.max_sessions_per_key = table.max_sessions_per_key.map_or(rules.max_sessions_per_key, number);
        rules.max_sessions_per_address =
            table.max_sessions_per_address.map_or(rules.max_sessions_per_address, number);
        let says = table.open.is_some()
            || !rules.keys.is_empty()
            || table.invitations.is_some()
            || table.keys_file.is_some();
        let said = match (given.open || says, self.strangers()) {
            (true, _) => Said::ByOperator,
            (false, None) => Said::ByNobody,
            (false, Some(why)) => Said::NobodyMay(NobodyMay { why }),
        };
        rules.open = given.open || table.open.unwrap_or(said == Said::ByNobody);
        (rules, said)
    }

    /// Why others than this machine may come; none if they can't.
    pub fn strangers(&self) -> Option<String> {
        let Self { listen, domain: Domain(domain), public_url } = self;
        if !listen.ip().is_loopback() {
            return Some(format!("the proxy listens on {listen}, for others than this machine"));
        }
        if !is_this_machine(domain) {
            return Some(format!(
                "the proxy's tunnels are under {domain}, which is for others than this machine"
            ));
        }
        let host = public_url.and_then(Uri::host)?;
        (!is_this_machine(host))
            .then(|| format!("the proxy is reached at {host}, by others than this machine"))
    }
}

/// A name or an address by which nobody else gets here (RFC 6761 section 6.3).
fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare.ends_with(".localhost")
        || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn read(
    key: &str,
    file: &Path,
    lines: &Lines,
    sources: &mut Sources,
) -> Result<(std::path::PathBuf, String), FileError> {
    let path = lines.resolve(key, file)?;
    let shown = path.display();
    let bytes =
        sources.read(&path).map_err(|error| lines.wrong(key, format!("{shown} can't be read: {error}")))?;
    let text =
        String::from_utf8(bytes).map_err(|_| lines.wrong(key, format!("{shown} is no text in UTF-8")))?;
    Ok((path, text))
}

/// Keys as they are read, and where each name of theirs stands.
struct Reading<'a> {
    rules: Registration,
    /// Who was given what, for finding what was given twice.
    owned: Vec<(KeyName, Owned)>,
    domain: &'a Domain,
    mistakes: &'a mut Mistakes,
}

enum Owned {
    Pattern(NamePattern),
    Hostname(TunnelName),
}

impl Reading<'_> {
    fn keys_file(&mut self, file: &Path, lines: &Lines, sources: &mut Sources) {
        let read = read("registration.keys_file", file, lines, sources);
        let Some((path, text)) = self.mistakes.take(read) else { return };
        let (file, lines): (KeysFile, Lines) = document::parse(&path, &text, self.mistakes);
        self.keys(&file.key, "key", &lines);
        self.revoked(&file.revoked);
    }

    fn revoked(&mut self, keys: &[Written<KeyFlag>]) {
        self.rules.revoked.extend(keys.iter().map(|key| key.0.0.clone()));
    }

    fn keys(&mut self, tables: &[KeyTable], at: &str, lines: &Lines) {
        for (n, table) in tables.iter().enumerate() {
            let at = format!("{at}[{n}]");
            let Some(Written(KeyFlag(key))) = &table.name else {
                if !lines.has(&format!("{at}.name")) {
                    let problem = "a key needs its name; tunnel key show prints it";
                    self.mistakes.push(lines.wrong(&at, problem));
                }
                continue;
            };
            if self.rules.keys.contains_key(key) {
                self.mistakes.push(lines.wrong(
                    &format!("{at}.name"),
                    "this key is listed already; write all of it in one place",
                ));
                continue;
            }
            let most = table.max_sessions.map(|n| usize::try_from(n.get()).unwrap_or(usize::MAX));
            let mut rules = KeyRules { max_sessions: most, ..KeyRules::default() };
            for (n, pattern) in table.hostnames.iter().enumerate() {
                self.own(key, Owned::Pattern(pattern.0.clone()), &format!("{at}.hostnames[{n}]"), lines);
                rules.hostnames.push(pattern.0.clone());
            }
            for (n, domain) in table.domains.iter().enumerate() {
                let at = format!("{at}.domains[{n}]");
                self.beyond(&domain.0.0, &at, lines);
                self.own(key, Owned::Hostname(domain.0.0.clone()), &at, lines);
                rules.domains.push(domain.0.0.clone());
            }
            self.rules.keys.insert(key.clone(), rules);
        }
    }

    /// A whole hostname doesn't stand where labels do.
    fn beyond(&mut self, hostname: &TunnelName, at: &str, lines: &Lines) {
        let Domain(domain) = self.domain;
        let rest = hostname.as_str().strip_suffix(domain.as_str());
        let problem = match rest.map(|rest| rest.strip_suffix('.').unwrap_or(rest)) {
            None => return,
            Some("") => format!("{hostname} is the proxy's own"),
            Some(_) if rest.is_some_and(|rest| !rest.ends_with('.')) => return,
            Some(label) if label.contains('.') => {
                format!("tunnels stand right under {domain}, not deeper")
            }
            Some(label) => {
                format!("write hostnames = [\"{label}\"] for a name under the proxy's own domain, {domain}")
            }
        };
        self.mistakes.push(lines.wrong(at, problem));
    }

    /// One name has one key.
    fn own(&mut self, key: &KeyName, what: Owned, at: &str, lines: &Lines) {
        let same = self.owned.iter().find(|(_, other)| match (&what, other) {
            (Owned::Pattern(a), Owned::Pattern(b)) => a.collides(b),
            (Owned::Hostname(a), Owned::Hostname(b)) => a == b,
            _ => false,
        });
        if let Some((other, _)) = same
            && other != key
        {
            let problem = format!("another key has it already, {other}; one name belongs to one key");
            self.mistakes.push(lines.wrong(at, problem));
        }
        self.owned.push((key.clone(), what));
    }
}

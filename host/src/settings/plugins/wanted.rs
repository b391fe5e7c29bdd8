//! From what is written about a plugin to what its host is given: files read, secrets fetched, limits put together.
//!
//! Every mistake is noted with its place, and the rest goes on, so that all are told at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    flags::{FlagConfig, PluginFlag},
    sources::{self, Sources},
    table::{LimitsTable, PluginTable, Sha256},
};
use crate::{
    plugin::{Config, Limits, LoadError, Role},
    settings::{
        SettingsError,
        document::{Lines, Mistakes},
        file::FileError,
        secret::SecretSource,
    },
};

/// Memories are addressed by 32 bits.
const MOST_MEMORY: u64 = 4 << 30;

/// A plugin, or an application, to load.
#[derive(Clone)]
pub struct Wanted {
    /// Which of both.
    pub kind: Kind,
    /// What it is given and held to.
    pub config: Config,
    /// Its file, as it was read.
    pub wasm: Arc<[u8]>,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// The file's path.
    pub file: PathBuf,
    place: Place,
}

/// What a file has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Asked on the way.
    Plugin,
    /// Answers in place of an origin.
    Application,
}

impl Kind {
    /// The key of its tables.
    fn key(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Application => "application",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Plugin => "--plugin",
            Self::Application => "--serve",
        }
    }
}

/// Where a plugin was named.
#[derive(Clone)]
enum Place {
    /// In a settings file, under a key: `plugin[2]`.
    File(Lines, String),
    /// On the command line.
    Flag,
}

impl Wanted {
    /// Why it can't be loaded, where that can be put right.
    pub fn failed(&self, error: &LoadError) -> SettingsError {
        let file = self.file.display();
        match &self.place {
            Place::File(lines, key) => {
                let part = match (error, self.kind) {
                    // `serve` says all that there is.
                    _ if key.ends_with("serve") => "",
                    (LoadError::Import(_), _) => ".grant",
                    (LoadError::Init(_), Kind::Plugin) => ".config",
                    _ => ".file",
                };
                lines.wrong(&format!("{key}{part}"), format!("{file}: {error}")).into()
            }
            Place::Flag => {
                let grants = match error {
                    LoadError::Import(_) => {
                        "; grants stand in a [[plugin]] of tunnel.toml, not on the command line"
                    }
                    _ => "",
                };
                FileError::of_flag(format!("{} {file}", self.kind.flag()), format!("{error}{grants}")).into()
            }
        }
    }

    /// The key in the settings file where it is named, if it is in one.
    pub fn key(&self) -> Option<&str> {
        match &self.place {
            Place::File(_, key) => Some(key),
            Place::Flag => None,
        }
    }
}

/// What a settings file says about plugins.
pub struct Written<'a> {
    /// `[[plugin]]`.
    pub plugins: &'a [PluginTable],
    /// `[[application]]`.
    pub applications: &'a [PluginTable],
    /// `[secrets]`.
    pub secrets: &'a BTreeMap<String, SecretSource>,
    /// The file's lines.
    pub lines: &'a Lines,
    /// The program that is being set up.
    pub role: Role,
}

impl Written<'_> {
    /// Reads and checks all of them. One with a mistake is left out.
    pub fn wanted(&self, sources: &mut Sources, mistakes: &mut Mistakes) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (kind, tables) in [(Kind::Plugin, self.plugins), (Kind::Application, self.applications)] {
            let mut names = BTreeSet::new();
            for (n, table) in tables.iter().enumerate() {
                let key = format!("{}[{n}]", kind.key());
                let Some(one) = self.one(kind, &key, table, sources, mistakes) else { continue };
                if names.insert(one.config.name.clone()) {
                    wanted.push(one);
                } else {
                    let (what, name) = (kind.key(), &one.config.name);
                    let problem = format!("another {what} is called {name} already; give each its own name");
                    mistakes.push(self.lines.wrong(&format!("{key}.name"), problem));
                }
            }
        }
        wanted
    }

    /// What `serve` names: an application of the file, or one that is made of a file alone. Says what it is called.
    pub fn served(
        &self,
        key: &str,
        serve: &str,
        wanted: &mut Vec<Wanted>,
        sources: &mut Sources,
        mistakes: &mut Mistakes,
    ) -> Option<String> {
        let is = |table: &PluginTable| table.name.as_ref().is_some_and(|name| name.0.0 == serve);
        let is_there = wanted.iter().any(|one| one.kind == Kind::Application && one.config.name == serve);
        // One with a mistake was told of where the mistake is.
        if is_there || self.applications.iter().any(is) {
            return is_there.then(|| serve.to_owned());
        }
        let read = self.wasm(key, Path::new(serve), None, sources);
        let read = read.map_err(|error| error.also("; nor is there an [[application]] of this name"));
        let (file, wasm, digest) = mistakes.take(read)?;
        wanted.push(Wanted {
            kind: Kind::Application,
            config: Config::application(serve, self.role),
            wasm: wasm.into(),
            digest,
            file,
            place: Place::File(self.lines.clone(), key.to_owned()),
        });
        Some(serve.to_owned())
    }

    fn one(
        &self,
        kind: Kind,
        key: &str,
        table: &PluginTable,
        sources: &mut Sources,
        mistakes: &mut Mistakes,
    ) -> Option<Wanted> {
        let before = mistakes.errors.len();
        let wrong = |part: &str, problem: String| self.lines.wrong(&format!("{key}.{part}"), problem);
        if table.name.is_none() && !self.lines.has(&format!("{key}.name")) {
            mistakes.push(wrong("name", "it needs a name; write for example name = \"auth\"".to_owned()));
        }
        let name = table.name.as_ref().map(|name| name.0.0.clone()).unwrap_or_default();
        let mut config = match kind {
            Kind::Plugin => Config::new(name, self.role),
            Kind::Application => Config::application(name, self.role),
        };
        let idle = [
            ("config", table.config.is_some()),
            ("on_failure", table.on_failure.is_some()),
            ("tick", table.tick.is_some()),
        ];
        for (part, _) in idle.into_iter().filter(|(_, given)| *given && kind == Kind::Application) {
            let remedy = "it says nothing to an application; grant what it has to know as env";
            mistakes.push(wrong(part, remedy.to_owned()));
        }
        match table.config.as_ref().map(json_of).transpose() {
            Ok(json) => config.config = json.unwrap_or(config.config),
            Err(why) => mistakes.push(wrong("config", why)),
        }
        self.grant(key, &table.grant, &mut config.grant, sources, mistakes);
        if let Err(problem) = limits(&table.limits, &mut config.limits) {
            mistakes.push(wrong("limits.memory", problem));
        }
        config.on_failure = table.on_failure.map_or(config.on_failure, Into::into);
        config.isolation = table.isolation.map_or(config.isolation, Into::into);
        config.tick = table.tick.as_ref().map_or(config.tick, |tick| tick.0.0);
        let pinned = table.sha256.as_ref().map(|digest| digest.0);
        let read = match &table.file {
            // Told already.
            None if self.lines.has(&format!("{key}.file")) => return None,
            None => Err(wrong("file", "it needs a file; write for example file = \"auth.wasm\"".to_owned())),
            Some(file) => self.wasm(key, file, pinned, sources),
        };
        let (file, wasm, digest) = mistakes.take(read)?;
        (mistakes.errors.len() == before && table.name.is_some()).then(|| Wanted {
            kind,
            config,
            wasm: wasm.into(),
            digest,
            file,
            place: Place::File(self.lines.clone(), key.to_owned()),
        })
    }

    /// A file with WebAssembly in it: its path, bytes and digest.
    ///
    /// # Errors
    /// It can't be read, or isn't the one that was pinned.
    pub fn wasm(
        &self,
        key: &str,
        file: &Path,
        pinned: Option<Sha256>,
        sources: &mut Sources,
    ) -> Result<(PathBuf, Vec<u8>, [u8; 32]), FileError> {
        // `serve` is a file by itself.
        let at = if key.ends_with(']') { format!("{key}.file") } else { key.to_owned() };
        let path = self.lines.resolve(&at, file)?;
        let unread = |error| {
            let problem = format!(
                "{} can't be read: {error}; a relative path starts at this file's folder",
                path.display()
            );
            self.lines.wrong(&at, problem)
        };
        let wasm = sources.read(&path).map_err(unread)?;
        let digest = sources::digest(&wasm);
        if let Some(pinned) = pinned.filter(|pinned| pinned.0 != digest) {
            let (shown, is) = (path.display(), Sha256(digest));
            let problem = format!(
                "{shown} isn't the file that is pinned here ({pinned}); if it is the right one all the same, write \
                 sha256 = \"{is}\""
            );
            return Err(self.lines.wrong(&format!("{key}.sha256"), problem));
        }
        Ok((path, wasm, digest))
    }
}

/// Reads and checks plugins of the command line. Those of the file have their names already.
pub fn of_flags(
    flags: &[PluginFlag],
    taken: &[Wanted],
    sources: &mut Sources,
    mistakes: &mut Mistakes,
) -> Vec<Wanted> {
    let mut names: BTreeSet<String> = taken.iter().map(|wanted| wanted.config.name.clone()).collect();
    let mut wanted = Vec::new();
    for flag in flags {
        let shown = format!("--plugin {}", flag.file.display());
        let wrong = |problem: String| FileError::of_flag(shown.clone(), problem);
        let mut config = Config::new(own_name(&flag.file, &mut names), Role::Client);
        let json = match &flag.config {
            FlagConfig::None => Ok(config.config.clone()),
            FlagConfig::Flat(pairs) => {
                let pairs = pairs.iter().map(|(name, value)| (name.clone(), value.clone().into()));
                Ok(serde_json::Value::Object(pairs.collect()).to_string())
            }
            FlagConfig::File(path) => config_file(path, sources),
        };
        let wasm = sources.read(&flag.file).map_err(|error| wrong(format!("it can't be read: {error}")));
        if let (Some(json), Some(wasm)) = (mistakes.take(json), mistakes.take(wasm)) {
            config.config = json;
            let digest = sources::digest(&wasm);
            wanted.push(Wanted {
                kind: Kind::Plugin,
                config,
                wasm: wasm.into(),
                digest,
                file: flag.file.clone(),
                place: Place::Flag,
            });
        }
    }
    wanted
}

/// Reads an application of the command line, which is called as its file is.
pub fn of_serve(serve: &str, sources: &mut Sources, mistakes: &mut Mistakes) -> Option<Wanted> {
    let wrong = |error| FileError::of_flag(format!("--serve {serve}"), format!("it can't be read: {error}"));
    let wasm = mistakes.take(sources.read(Path::new(serve)).map_err(wrong))?;
    let digest = sources::digest(&wasm);
    Some(Wanted {
        kind: Kind::Application,
        config: Config::application(serve, Role::Client),
        wasm: wasm.into(),
        digest,
        file: serve.into(),
        place: Place::Flag,
    })
}

/// The file's name without its end, with a number if another plugin has it.
fn own_name(file: &Path, names: &mut BTreeSet<String>) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let base: String = stem.chars().take(60).map(|c| if proper(c) { c } else { '-' }).collect();
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    let name = std::iter::once(base.clone()).chain(numbered).find(|name| !names.contains(name));
    let name = name.expect("there are more numbers than plugins");
    names.insert(name.clone());
    name
}

fn config_file(path: &Path, sources: &mut Sources) -> Result<String, FileError> {
    let wrong = |problem: String| FileError::of_flag(format!("--plugin-config {}", path.display()), problem);
    let bytes = sources.read(path).map_err(|error| wrong(format!("it can't be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it isn't UTF-8".to_owned()))?;
    let table = toml::from_str(&text).map_err(|error| FileError::of_toml(path, &text, error))?;
    json_of(&table).map_err(wrong)
}

/// A table as JSON text. Dates become text, as in RFC 3339.
fn json_of(table: &toml::Table) -> Result<String, String> {
    object(table).map(|object| object.to_string())
}

fn object(table: &toml::Table) -> Result<serde_json::Value, String> {
    table.iter().map(|(name, value)| Ok((name.clone(), json(value)?))).collect()
}

fn json(value: &toml::Value) -> Result<serde_json::Value, String> {
    Ok(match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(*number)
            .ok_or_else(|| {
                format!("{number} is no number that JSON, and so a plugin's configuration, can hold")
            })?
            .into(),
        toml::Value::Boolean(yes) => (*yes).into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(values) => values.iter().map(json).collect::<Result<_, _>>()?,
        toml::Value::Table(table) => object(table)?,
    })
}

fn limits(table: &LimitsTable, limits: &mut Limits) -> Result<(), String> {
    fn set<T>(place: &mut T, given: Option<T>) {
        if let Some(given) = given {
            *place = given;
        }
    }
    if table.memory.as_ref().is_some_and(|memory| memory.0.0 > MOST_MEMORY) {
        return Err("it can be 4GiB at most: a guest's memory has 32 bits of addresses".to_owned());
    }
    set(&mut limits.memory, table.memory.as_ref().map(|size| size.0.in_memory()));
    set(&mut limits.time, table.time.as_ref().map(|time| time.0.0));
    set(&mut limits.wait, table.wait.as_ref().map(|time| time.0.0));
    set(&mut limits.body, table.body.as_ref().map(|size| size.0.in_memory()));
    set(&mut limits.message, table.message.as_ref().map(|size| size.0.in_memory()));
    set(&mut limits.state, table.state.as_ref().map(|size| size.0.in_memory()));
    set(&mut limits.instances, table.instances.map(Into::into));
    set(&mut limits.queue, table.queue);
    set(&mut limits.reuse, table.reuse.map(Into::into));
    set(&mut limits.failures, table.failures.map(Into::into));
    set(&mut limits.pause, table.pause.as_ref().map(|time| time.0.0));
    set(&mut limits.log_lines, table.log_lines);
    set(&mut limits.series, table.series);
    set(&mut limits.kv_entries, table.kv_entries);
    set(&mut limits.kv_bytes, table.kv_bytes.as_ref().map(|size| size.0.in_memory()));
    Ok(())
}

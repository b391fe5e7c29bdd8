use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde::Deserialize;

use super::{sources, *};
use crate::{
    plugin::{Config, Isolation, OnFailure, Role},
    settings::{
        document::{self, Mistakes},
        secret::SecretSource,
    },
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    plugin: Vec<PluginTable>,
    #[serde(default)]
    secrets: BTreeMap<String, SecretSource>,
}

/// A folder with `a.wasm`, which nobody loads here, and a secret.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.wasm"), b"wasm").unwrap();
    fs::write(folder.path().join("secret"), b"s3cret\r\n").unwrap();
    folder
}

fn read(folder: &Path, text: &str) -> (Vec<Wanted>, Sources, Vec<String>) {
    let mut mistakes = Mistakes::default();
    let mut sources = Sources::default();
    let (file, lines): (File, _) = document::parse(&folder.join("x.toml"), text, &mut mistakes);
    let written = wanted::Written {
        plugins: &file.plugin,
        applications: &[],
        secrets: &file.secrets,
        lines: &lines,
        role: Role::Proxy,
    };
    let wanted = written.wanted(&mut sources, &mut mistakes);
    (wanted, sources, mistakes.errors.iter().map(ToString::to_string).collect())
}

fn good(text: &str) -> Config {
    let folder = folder();
    let (mut wanted, _, errors) = read(folder.path(), text);
    assert_eq!(errors, [""; 0]);
    wanted.remove(0).config
}

#[test]
fn what_is_not_said_has_its_default() {
    let config = good("[[plugin]]\nname = 'auth'\nfile = 'a.wasm'\n");
    assert_eq!(config, Config::new("auth", Role::Proxy));
}

#[test]
fn everything_can_be_said() {
    let config = good(
        r#"
        [secrets]
        jwt-key = { file = "secret" }
        [[plugin]]
        name = "auth"
        file = "a.wasm"
        config = { realm = "staff", keys = ["k1"], since = 2026-01-02, deep = { n = 1.5, yes = true } }
        grant = { kv = true, shared_kv = ["users"], http = ["https://idp.example.com"], secrets = ["jwt-key"], env = { TZ = "UTC" } }
        limits = { memory = "1MiB", time = "5ms", wait = "2s", body = "2kB", message = "3kB", state = "1kB", instances = 2, queue = 0, reuse = 3, failures = 4, pause = "6s", log_lines = 7, series = 8, kv_entries = 9, kv_bytes = "10B" }
        on_failure = "skip"
        isolation = "exchange"
        tick = "1m"
        "#,
    );
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&config.config).unwrap(),
        serde_json::json!({"realm": "staff", "keys": ["k1"], "since": "2026-01-02", "deep": {"n": 1.5, "yes": true}})
    );
    assert!(config.grant.kv);
    assert_eq!(config.grant.shared_kv, ["users"]);
    assert_eq!(config.grant.http, ["https://idp.example.com/"]);
    assert_eq!(config.grant.secrets["jwt-key"], b"s3cret", "without the end of its line");
    assert_eq!(config.grant.env["TZ"], "UTC");
    let limits = &config.limits;
    assert_eq!((limits.memory, limits.body, limits.state, limits.kv_bytes), (1 << 20, 2000, 1000, 10));
    assert_eq!(limits.message, 3000);
    assert_eq!((limits.time, limits.wait), (Duration::from_millis(5), Duration::from_secs(2)));
    assert_eq!((limits.instances, limits.queue, limits.reuse, limits.failures), (2, 0, 3, 4));
    assert_eq!((limits.pause, limits.log_lines), (Duration::from_secs(6), 7));
    assert_eq!((limits.series, limits.kv_entries), (8, 9));
    assert_eq!((config.on_failure, config.isolation), (OnFailure::Skip, Isolation::Exchange));
    assert_eq!(config.tick, Duration::from_secs(60));
}

/// Cargo sets this variable for every test.
#[test]
fn secrets_and_variables_come_from_the_environment_by_name() {
    let config = good(
        "[[plugin]]\nname = 'auth'\nfile = 'a.wasm'\n\
         grant = { secrets = { s = { env = 'CARGO_PKG_NAME' } }, env = ['CARGO_PKG_NAME'] }\n",
    );
    assert_eq!(config.grant.secrets["s"], b"tunnel");
    assert_eq!(config.grant.env["CARGO_PKG_NAME"], "tunnel");
}

#[test]
fn every_mistake_is_told_with_line_key_and_remedy() {
    let folder = folder();
    let digest = table::Sha256(sources::digest(b"wasm")).to_string();
    let plugin = "[[plugin]]\nname = 'a'\nfile = 'a.wasm'\n";
    for (text, says) in [
        ("[[plugin]]\nfile = 'a.wasm'\n".to_owned(), "line 1, plugin.name: it needs a name"),
        ("[[plugin]]\nname = 'a'\n".to_owned(), "line 1, plugin.file: it needs a file"),
        (format!("{plugin}{plugin}"), "line 5, plugin.name: another plugin is called a already"),
        ("[[plugin]]\nname = 'a b'\nfile = 'a.wasm'\n".to_owned(), "line 2, plugin.name: \"a b\" is no name"),
        ("[[plugin]]\nname = 'a'\nfile = 'b.wasm'\n".to_owned(), "line 3, plugin.file: "),
        ("[[plugin]]\nname = 'a'\nfile = '~/b.wasm'\n".to_owned(), "~ stands for nothing in a file"),
        (format!("{plugin}colour = 'red'\n"), "unknown field `colour`"),
        (format!("{plugin}sha256 = 'abc'\n"), "line 4, plugin.sha256: \"abc\" is no SHA-256 digest"),
        (format!("{plugin}sha256 = '{}'\n", "0".repeat(64)), &*format!("write sha256 = \"{digest}\"")),
        (format!("{plugin}config = {{ x = inf }}\n"), "line 4, plugin.config: inf is no number"),
        (format!("{plugin}config = 'x'\n"), "line 4, plugin.config: invalid type"),
        (format!("{plugin}grant = {{ kv = 'yes' }}\n"), "line 4, plugin.grant.kv: invalid type"),
        (format!("{plugin}grant = {{ teleport = true }}\n"), "unknown field `teleport`"),
        (
            format!("{plugin}grant = {{ http = ['https://a/b'] }}\n"),
            "plugin.grant.http: \"https://a/b\": it takes no path",
        ),
        (
            format!("{plugin}grant = {{ secrets = ['x'] }}\n"),
            "there is no secret \"x\" in [secrets]; add x = { file",
        ),
        (format!("{plugin}grant = {{ secrets = 'x' }}\n"), "expected a list of names, or a table"),
        (
            format!("{plugin}grant = {{ secrets = {{ x = 'hush-hush' }} }}\n"),
            "line 4, plugin.grant.secrets.x: a secret can't stand in this file",
        ),
        (format!("{plugin}grant = {{ secrets = 'hush-hush' }}\n"), "expected a list of names, or a table"),
        (
            format!("{plugin}grant = {{ secrets = {{ x = {{ value = 'hush-hush' }} }} }}\n"),
            "expected `file` or `env`",
        ),
        (
            format!("{plugin}grant = {{ secrets = {{ x = {{ file = 'a', env = 'b' }} }} }}\n"),
            "a secret has one source",
        ),
        (format!("{plugin}grant = {{ secrets = {{ x = {{ file = 'no' }} }} }}\n"), "the secret's file"),
        (
            format!("{plugin}grant = {{ secrets = {{ x = {{ env = 'NO_SUCH' }} }} }}\n"),
            "variable NO_SUCH isn't set; set it",
        ),
        (format!("{plugin}grant = {{ env = ['A=B'] }}\n"), "variable A=B isn't set"),
        (format!("{plugin}grant = {{ folders = [{{ host = 'no', guest = '/x' }}] }}\n"), "no is no folder"),
        (
            format!("{plugin}grant = {{ folders = [{{ host = '.', guest = 'x' }}] }}\n"),
            "begin it with a slash",
        ),
        (
            format!("{plugin}limits = {{ memory = 'big' }}\n"),
            "line 4, plugin.limits.memory: \"big\" is no size",
        ),
        (
            format!("{plugin}limits = {{ memory = '8GiB' }}\n"),
            "line 4, plugin.limits.memory: it can be 4GiB at most",
        ),
        (format!("{plugin}limits = {{ time = 5 }}\n"), "line 4, plugin.limits.time: \"5\" is no time"),
        (format!("{plugin}limits = {{ instances = 0 }}\n"), "line 4, plugin.limits.instances"),
        (format!("{plugin}on_failure = 'panic'\n"), "unknown variant `panic`, expected `deny` or `skip`"),
        (format!("{plugin}isolation = 'none'\n"), "expected `pool` or `exchange`"),
    ] {
        let (_, _, errors) = read(folder.path(), &text);
        assert!(errors.iter().any(|error| error.contains(says)), "{text}\n{says}\n{errors:#?}");
        assert!(!errors.concat().contains("hush"), "{errors:#?}");
        assert!(errors.iter().all(|error| error.contains("x.toml, line ")), "{errors:#?}");
    }
}

#[test]
fn mistakes_of_several_plugins_are_told_at_once_and_the_good_ones_are_kept() {
    let folder = folder();
    let text = "[[plugin]]\nname = 'a'\nfile = 'no'\ngrant = { secrets = ['x'] }\n\
                [[plugin]]\nname = 'b'\nfile = 'a.wasm'\n[[plugin]]\nname = 3\ncolour = 1\n";
    let (wanted, _, errors) = read(folder.path(), text);
    assert_eq!(wanted.iter().map(|wanted| &*wanted.config.name).collect::<Vec<_>>(), ["b"]);
    for says in ["line 3, plugin.file", "line 4, plugin.grant.secrets", "`colour`"] {
        assert!(errors.iter().any(|error| error.contains(says)), "{says}: {errors:#?}");
    }
}

#[test]
fn what_was_read_tells_whether_anything_changed() {
    let folder = folder();
    let text = "[[plugin]]\nname = 'a'\nfile = 'a.wasm'\ngrant = { secrets = { x = { file = 'secret' } } }\n";
    let (_, before, _) = read(folder.path(), text);
    assert_eq!(before.paths().count(), 2);
    assert_eq!(read(folder.path(), text).1, before);
    fs::write(folder.path().join("secret"), b"another").unwrap();
    assert_ne!(read(folder.path(), text).1, before);
    fs::remove_file(folder.path().join("secret")).unwrap();
    let (_, without, errors) = read(folder.path(), text);
    assert_eq!((without.paths().count(), errors.len()), (2, 1), "it may come back");
}

#[test]
fn plugins_of_the_command_line_get_names_of_their_own() {
    let folder = folder();
    let file = folder.path().join("a.wasm");
    let flag = |config| flags::PluginFlag { file: file.clone(), config };
    let (toml, bad) = (folder.path().join("c.toml"), folder.path().join("bad.toml"));
    fs::write(&toml, "list = [1, 2]").unwrap();
    fs::write(&bad, "list = [1,\n2").unwrap();
    let flat = vec![("realm".to_owned(), "\"x\"".to_owned())];
    let mut mistakes = Mistakes::default();
    let named = wanted::of_flags(
        &[
            flag(flags::FlagConfig::None),
            flag(flags::FlagConfig::Flat(flat)),
            flag(flags::FlagConfig::File(toml)),
        ],
        &read(folder.path(), "[[plugin]]\nname = 'a'\nfile = 'a.wasm'\n").0,
        &mut Sources::default(),
        &mut mistakes,
    );
    let told: Vec<_> = named.iter().map(|wanted| (&*wanted.config.name, &*wanted.config.config)).collect();
    assert_eq!(told, [("a-2", "{}"), ("a-3", r#"{"realm":"\"x\""}"#), ("a-4", r#"{"list":[1,2]}"#)]);
    assert!(mistakes.errors.is_empty());
    let missing = flags::PluginFlag { file: "no.wasm".into(), config: flags::FlagConfig::None };
    let flags = [flag(flags::FlagConfig::File(bad)), missing];
    assert!(wanted::of_flags(&flags, &[], &mut Sources::default(), &mut mistakes).is_empty());
    let told = mistakes.settle().unwrap_err().to_string();
    assert!(
        told.contains("bad.toml, line 2") && told.contains("--plugin no.wasm: it can't be read"),
        "{told}"
    );
}

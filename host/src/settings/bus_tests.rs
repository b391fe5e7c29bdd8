//! Which Redis is meant, with which password, and what is said when it doesn't answer.

use std::path::Path;

use super::*;
use crate::{
    redis::{cmd, tests::redis},
    settings::{
        cli::{self, Cli},
        document,
        file::ProxyFile,
    },
};

/// What came of a command line and a file.
struct Chosen {
    bus: Option<RedisBus>,
    advice: Vec<String>,
    errors: Vec<String>,
    warnings: Vec<String>,
    sources: Sources,
}

impl Chosen {
    fn address(&self) -> &Address {
        assert_eq!(self.errors, [""; 0]);
        self.bus.as_ref().expect("a Redis").redis.address()
    }
}

fn flag(line: &str) -> Option<BusFlag> {
    let Some(cli::Command::Proxy(args)) = Cli::of(line).unwrap().command else { panic!("not the proxy") };
    args.bus
}

fn choose_in(folder: &Path, flag: Option<BusFlag>, text: &str) -> Chosen {
    let (mut mistakes, mut sources, mut advice) = (Mistakes::default(), Sources::default(), Vec::new());
    let (file, lines): (ProxyFile, _) = document::parse(&folder.join("proxy.toml"), text, &mut mistakes);
    let file = InFile { bus: file.bus, password: file.bus_password.as_ref(), lines: &lines };
    let bus = file.choose(flag, &mut sources, &mut mistakes, &mut advice);
    let words = |said: &[SettingsError]| said.iter().map(ToString::to_string).collect();
    let (errors, warnings) = (words(&mistakes.errors), words(&mistakes.warnings));
    Chosen { bus, advice, errors, warnings, sources }
}

fn choose(line: &str, text: &str) -> Chosen {
    choose_in(Path::new(""), flag(line), text)
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// An address at which nobody listens any more.
fn nobody() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("redis://127.0.0.1:{port}")
}

#[test]
fn the_flag_goes_before_the_file_and_memory_is_the_default() {
    assert!(choose("tunnel proxy", "").bus.is_none());
    assert!(choose("tunnel proxy", "bus = 'memory'").bus.is_none());
    assert!(choose("tunnel proxy --bus memory", "bus = 'redis://file'").bus.is_none());
    assert_eq!(*choose("tunnel proxy", "bus = 'redis://file/2'").address(), address("redis://file/2"));
    let both = choose("tunnel proxy --bus rediss://flag", "bus = 'redis://file'");
    assert_eq!(*both.address(), address("rediss://flag"));
    assert_eq!((both.advice, both.warnings), (vec![], vec![]));
}

#[test]
fn what_is_no_bus_is_refused_without_repeating_it() {
    let line = "tunnel proxy --bus http://:hush@host";
    let error = Cli::of(line).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    for says in ["--bus: http:// is not redis://", "rediss:// for TLS", "memory"] {
        assert!(text.contains(says), "{text}");
    }
    assert!(!text.contains("hush"), "{text}");
    let error = BusParser.parse_ref_(&Command::new("x"), None, OsStr::new("hush"), ValueSource::EnvVariable);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("TUNNEL_BUS: it isn't a URL") && !text.contains("hush"), "{text}");
    let errors = choose("tunnel proxy", "\nbus = 'redis://:hush@host/zero'").errors;
    assert!(errors[0].starts_with("proxy.toml, line 2, bus: "), "{errors:?}");
    assert!(!errors[0].contains("hush"), "{errors:?}");
}

#[test]
fn the_password_comes_from_a_file_or_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "hush\r\n").unwrap();
    let text = "bus = 'redis://user@host'\nbus_password = { file = 'password' }";
    let chosen = choose_in(folder.path(), None, text);
    assert_eq!(*chosen.address(), address("redis://user:hush@host"));
    assert!(chosen.sources.paths().any(|path| path.ends_with("password")), "it is watched");
    assert_eq!(chosen.warnings, [""; 0]);
    // Cargo sets this variable for every test.
    let chosen = choose("tunnel proxy --bus redis://host", "bus_password = { env = 'CARGO_PKG_NAME' }");
    assert_eq!(*chosen.address(), address("redis://:tunnel@host"));
    assert_eq!(chosen.advice, [""; 0]);
}

#[test]
fn a_password_in_sight_is_advised_against() {
    let chosen = choose("tunnel proxy --bus redis://:hush@host", "bus_password = { env = 'CARGO_PKG_NAME' }");
    assert_eq!(*chosen.address(), address("redis://:hush@host"), "the flag goes before the file");
    let [advice] = &chosen.advice[..] else { panic!("{:?}", chosen.advice) };
    for says in ["file = ", "env = ", "TUNNEL_BUS"] {
        assert!(advice.contains(says) && !advice.contains("hush"), "{advice}");
    }
    let by_environment =
        BusFlag { in_sight: false, ..flag("tunnel proxy --bus redis://:hush@host").unwrap() };
    assert_eq!(choose_in(Path::new(""), Some(by_environment), "").advice, [""; 0]);
    let warnings = choose("tunnel proxy", "bus = 'redis://:hush@host'").warnings;
    assert!(warnings[0].starts_with("proxy.toml, line 1, bus: ") && !warnings[0].contains("hush"));
}

#[test]
fn mistakes_with_the_password_name_line_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    std::fs::write(folder.path().join("bytes"), b"\xff").unwrap();
    for (text, says) in [
        ("bus = 'redis://h'\nbus_password = 'hush'", "write { file = "),
        ("bus = 'redis://h'\nbus_password = { file = 'missing' }", "can't be read"),
        ("bus = 'redis://h'\nbus_password = { file = 'empty' }", "is empty; leave bus_password out"),
        ("bus = 'redis://h'\nbus_password = { file = 'bytes' }", "isn't UTF-8"),
        ("bus = 'redis://h'\nbus_password = { env = 'TUNNEL_NO_SUCH' }", "TUNNEL_NO_SUCH isn't set"),
        ("bus = 'redis://:a@h'\nbus_password = { env = 'CARGO_PKG_NAME' }", "leave it out there"),
    ] {
        let chosen = choose_in(folder.path(), None, text);
        let [error] = &chosen.errors[..] else { panic!("{text}: {:?}", chosen.errors) };
        assert!(error.contains("line 2, bus_password: ") && error.contains(says), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
    let unused = choose("tunnel proxy", "\nbus_password = { env = 'CARGO_PKG_NAME' }");
    assert!(unused.bus.is_none());
    assert!(unused.warnings[0].contains("line 2, bus_password: it is for a bus that is a Redis"));
}

#[tokio::test]
async fn a_redis_that_is_away_is_a_mistake_for_check_and_none_for_a_start() {
    let url = nobody();
    let bus = choose("tunnel proxy", &format!("\nbus = '{url}'")).bus.unwrap();
    let error = bus.check().await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("proxy.toml, line 2, bus: Redis can't be reached at {url}/0")),
        "{error}"
    );
    assert!(error.ends_with("start it, or correct the address"), "{error}");
    bus.welcome().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_refuses_is_a_mistake_for_both() {
    let server = redis();
    let user = format!("test-{:016x}", getrandom::u64().unwrap());
    let users = |verb: &str, more: &[&str]| cmd("ACL").arg(verb).arg(&user).arg(more).to_owned();
    server.call::<()>(&users("SETUSER", &["on", ">right", "+@all"])).await.unwrap();
    let plain = server.address().to_string();
    let with = |password: &str| plain.replace("redis://", &format!("redis://{user}:{password}@"));
    let bus = |url: &str| choose("tunnel proxy", &format!("bus = '{url}'")).bus.unwrap();

    bus(&with("right")).welcome().await.unwrap();
    let no_such_database = format!("{}/1000000", plain.rsplit_once('/').unwrap().0);
    for url in [with("wrong"), no_such_database] {
        for refused in [bus(&url).check().await, bus(&url).welcome().await] {
            let error = refused.unwrap_err().to_string();
            assert!(error.starts_with("proxy.toml, line 1, bus: redis://"), "{error}");
            assert!(error.contains("Redis refused: ") && !error.contains("wrong"), "{error}");
        }
    }
    let flagged = choose(&format!("tunnel proxy --bus {}", with("wrong")), "").bus.unwrap();
    let error = flagged.check().await.unwrap_err().to_string();
    assert!(error.starts_with("--bus: redis://"), "{error}");
    server.call::<u64>(&users("DELUSER", &[])).await.unwrap();
}

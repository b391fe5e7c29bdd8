use clap::FromArgMatches;

use super::*;
use crate::settings::cli::LogFormat;

const FILE: &str = r#"
proxy = "https://file.example"
key = "keys/mine.pem"
session = "from-file"
connections = 3
host_header = "origin"
log_format = "json"
connect_timeout = "2s"

[targets.api]
target = "api.lan:80"
session = "api-label"
host_header = "keep"
connections = 5

[targets.web]
target = 3000
insecure_origin = true
"#;

fn settings(line: &str, file: &str) -> Result<ClientSettings, SettingsError> {
    let args = Cli::of(line).unwrap().client;
    let path = Path::new("/etc/t/tunnel.toml");
    let mut mistakes = Mistakes::default();
    let folder = Path::new("/home/me/.config/tunnel");
    let settings = ClientSettings::of_text(&args, Some((path, file)), Some(folder), &mut mistakes)?;
    mistakes.settle().map(|()| settings)
}

/// What a client is started with, and the service that it was made for.
struct Only {
    config: Config,
    origin: OriginConfig,
}

impl std::ops::Deref for Only {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

fn only(settings: &ClientSettings) -> Only {
    assert_eq!(settings.published.len(), 1);
    config(settings, &settings.published[0])
}

fn config(settings: &ClientSettings, published: &Published) -> Only {
    let origin = published.origin.clone();
    let pipeline = Arc::new(crate::client::Origin::new(&origin, settings.max_websocket_message()).unwrap());
    let config = settings.config(published, pipeline, SigningKey::from_bytes(&[1; 32]), Arc::new(|_| {}));
    Only { config, origin }
}

fn target(config: &Only) -> String {
    config.target.clone()
}

#[test]
fn defaults_without_a_file() {
    let settings = settings("tunnel", "").unwrap();
    assert_eq!(settings.key, Path::new("/home/me/.config/tunnel/key.pem"));
    assert_eq!(settings.output.format, LogFormat::Text);
    let config = only(&settings);
    assert_eq!(config.proxy, "http://localhost:6519/");
    assert_eq!(target(&config), "http://localhost:8080");
    assert_eq!((config.session.as_deref(), config.connections), (None, 1));
    assert_eq!(config.origin.host_header, HostHeader::Keep);
    assert!(!config.origin.insecure);
}

#[test]
fn the_file_goes_before_defaults() {
    let settings = settings("tunnel 4000", FILE).unwrap();
    assert_eq!(settings.key, Path::new("/etc/t/keys/mine.pem"));
    assert_eq!(settings.output.format, LogFormat::Json);
    let config = only(&settings);
    assert_eq!(config.proxy, "https://file.example/");
    assert_eq!(target(&config), "http://localhost:4000");
    assert_eq!((config.session.as_deref(), config.connections), (Some("from-file"), 3));
    assert_eq!(config.origin.host_header, HostHeader::Origin);
    assert_eq!(config.origin.connect_timeout, Duration::from_secs(2));
}

#[test]
fn flags_go_before_the_file() {
    let line = "tunnel api --proxy http://flag.example --key k.pem --session s --connections 2 \
                --host-header x.lan --insecure-origin --log-format text";
    let settings = settings(line, FILE).unwrap();
    assert_eq!(settings.key, Path::new("k.pem"));
    assert_eq!(settings.output.format, LogFormat::Text);
    let config = only(&settings);
    assert_eq!(config.proxy, "http://flag.example/");
    assert_eq!(target(&config), "http://api.lan:80");
    assert_eq!((config.session.as_deref(), config.connections), (Some("s"), 2));
    assert_eq!(config.origin.host_header, "x.lan".parse().unwrap());
    assert!(config.origin.insecure);
}

/// Cargo sets a variable that can stand for TUNNEL_KEY.
#[test]
fn the_environment_goes_between_flags_and_file() {
    let key = |line: &str| {
        let command = Cli::command().mut_args(|arg| arg.env(None));
        let command = command.mut_arg("key", |arg| arg.env("CARGO_MANIFEST_DIR"));
        let matches = command.try_get_matches_from(line.split_whitespace()).unwrap();
        let args = Cli::from_arg_matches(&matches).unwrap().client;
        let path = Path::new("/etc/t/tunnel.toml");
        let mut mistakes = Mistakes::default();
        ClientSettings::of_text(&args, Some((path, FILE)), None, &mut mistakes).unwrap().key
    };
    assert_eq!(key("tunnel 3000"), Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(key("tunnel 3000 --key k.pem"), Path::new("k.pem"));
}

#[test]
fn a_named_target_has_its_own_label_and_settings() {
    let config = only(&settings("tunnel api", FILE).unwrap());
    assert_eq!((config.session.as_deref(), config.connections), (Some("api-label"), 5));
    assert_eq!(config.origin.host_header, HostHeader::Keep);
    let config = only(&settings("tunnel web", FILE).unwrap());
    assert_eq!((config.session.as_deref(), config.connections), (Some("web"), 3));
    assert!(config.origin.insecure);
    assert_eq!(config.origin.host_header, HostHeader::Origin);
}

#[test]
fn all_publishes_each_target_under_its_own_label() {
    let settings = settings("tunnel --all", FILE).unwrap();
    let labels: Vec<_> = settings.published.iter().map(|one| one.session.clone().unwrap()).collect();
    assert_eq!(labels, ["api-label", "web"]);
}

#[test]
fn the_file_may_choose_the_target() {
    let file = format!("target = \"web\"\n{FILE}");
    assert_eq!(target(&only(&settings("tunnel", &file).unwrap())), "http://localhost:3000");
}

#[test]
fn what_can_not_work_is_said() {
    let twins = "[targets.a]\ntarget = 1\n[targets.b]\ntarget = 2\nsession = \"a\"";
    for (line, file, says) in [
        ("tunnel", FILE, "api, web"),
        ("tunnel nope", FILE, "api, web"),
        ("tunnel nope", "", "write a port"),
        ("tunnel -v proxy", "", "tunnel proxy"),
        ("tunnel --all", "", "[targets.NAME]"),
        ("tunnel --all", twins, "targets.b.session: a has the same label"),
        ("tunnel", "key = \"~/k.pem\"", "write the whole path"),
    ] {
        let why = settings(line, file).err().unwrap().to_string();
        assert!(why.contains(says), "{line}: {why}");
    }
}

#[test]
fn without_a_config_folder_a_key_has_to_be_named() {
    let why = ClientSettings::load(&ClientArgs::default(), None, &mut Mistakes::default());
    let why = why.err().unwrap().to_string();
    assert!(why.contains("--key FILE"), "{why}");
}

//! What goes wrong at the start is said in one sentence, with an exit code for programs.

use crate::harness::{Client, Exit, Proxy, Relay, path_text, tunnel::Home};

/// The last line of stderr: one sentence for a person.
#[track_caller]
fn sentence(exit: &Exit) -> &str {
    assert!(!exit.stderr.contains("panicked"), "{}", exit.stderr);
    exit.stderr.trim_end().lines().last().unwrap_or_else(|| panic!("nothing on stderr: {exit:?}"))
}

#[tokio::test]
async fn wrong_usage_is_exit_code_2() {
    let home = Home::new();
    for (arguments, says) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["proxy", "--listen", "nowhere"], "nowhere"),
        (&["proxy", "--max-body", "big"], "unlimited"),
        (&["http://localhost/with/a/path"], "path"),
        (&["--connections", "0"], "1 to"),
        (&["completions", "klingon"], "bash"),
    ] {
        let exit = home.run(arguments).await;
        assert_eq!(exit.code, Some(2), "{arguments:?}: {exit:?}");
        assert!(exit.stderr.contains(says), "{arguments:?}: {}", exit.stderr);
        assert!(exit.stdout.is_empty(), "{}", exit.stdout);
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_to_be_taken() {
    let proxy = Proxy::start(&[]).await;
    let address = proxy.address.to_string();
    let exit = Home::new().run(&["proxy", "--listen", &address]).await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let sentence = sentence(&exit);
    assert!(sentence.contains(&address), "{sentence}");
    assert!(sentence.contains("use") || sentence.contains("taken"), "{sentence}");
}

/// Settings that can't become right by waiting end the start; a Redis that is away comes back.
#[tokio::test]
async fn a_bus_that_refuses_ends_the_start_and_one_that_is_away_does_not() {
    let redis = std::env::var("TUNNEL_TEST_REDIS").expect("TUNNEL_TEST_REDIS, as `cargo xtask test` sets it");
    let redis: http::Uri = redis.parse().expect("a URL");
    let refuses = format!("redis://{}/1000000", redis.authority().expect("a URL names a server"));
    let exit = Home::new().run(&["proxy", "--listen", "127.0.0.1:0", "--bus", &refuses]).await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let sentence = sentence(&exit);
    assert!(sentence.contains("--bus: ") && sentence.contains("database's number"), "{sentence}");

    let nobody = format!("redis://:hush@{}", nobody().await);
    let mut proxy = Proxy::start(&["--bus", &nobody]).await;
    proxy.process.words("bus_password").await;
    proxy.process.words("those of other nodes don't until it is back").await;
    let exit = proxy.process.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(!format!("{exit:?}").contains("hush"), "{exit:?}");
}

#[tokio::test]
async fn check_asks_the_bus_and_tells_of_it_with_every_other_mistake() {
    let home = Home::new();
    let nobody = nobody().await;
    let file = home.file("proxy.toml");
    std::fs::write(&file, format!("bus = 'redis://{nobody}'\n[[policy]]\ndomain = 'http://x/'\n"))
        .expect("a file");
    let exit = home.run(&["proxy", "--config", path_text(&file), "--check"]).await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    for says in ["2 mistakes", "line 3, policy.domain", "line 1, bus: Redis can't be reached at", &nobody] {
        assert!(exit.stderr.contains(says), "{says}: {}", exit.stderr);
    }
}

/// An address at which nobody listens any more.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("a listening socket has an address").to_string()
}

#[tokio::test]
async fn a_registration_refused_for_good_ends_the_client() {
    // A proxy that is dialled by a URL it doesn't know as its own: the registration could be someone else's, passed on.
    let proxy = Proxy::start(&[]).await;
    let relay = Relay::start().await;
    relay.lead_to(proxy.address);
    let home = Home::new();
    for format in ["text", "json"] {
        let key = home.file("key.pem");
        let arguments = ["9", "--proxy", &relay.url(), "--key", path_text(&key), "--log-format", format];
        let exit = home.run(&arguments).await;
        assert_eq!(exit.code, Some(1), "{exit:?}");
        let said = format!("{}{}", exit.stdout, exit.stderr);
        assert!(said.contains(&relay.url()) || said.contains("also_known_as"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_dialled_wrongly_says_how_to_dial_it() {
    let proxy = Proxy::start(&[]).await;
    let (port, home) = (proxy.address.port(), Home::new());
    for (url, says) in [
        // This machine, by a name that no proxy has.
        (format!("http://127.1:{port}"), format!("--also-known-as http://127.1:{port}")),
        (
            format!("https://127.0.0.1:{port}"),
            format!("speaks no TLS; if it is a plain proxy, dial http://127.0.0.1:{port}"),
        ),
    ] {
        let key = home.file("key.pem");
        let arguments = ["9", "--proxy", &url, "--key", path_text(&key)];
        let mut client = crate::harness::Process::start("client", home.path(), arguments);
        client.words(&says).await;
        let exit = client.stop().await;
        assert!(!exit.stdout.contains("Is the proxy running"), "{}", exit.stdout);
    }
}

#[tokio::test]
async fn a_settings_file_with_a_mistake_is_named_with_its_line() {
    let home = Home::new();
    for (name, arguments) in [("proxy.toml", &["proxy", "--config"][..]), ("tunnel.toml", &["--config"])] {
        let path = home.file(name);
        std::fs::write(&path, "# a comment\nno_such_setting = 1\n")
            .expect("a temporary folder can be written to");
        let arguments: Vec<&str> = arguments.iter().copied().chain([path_text(&path)]).collect();
        let exit = home.run(&arguments).await;
        assert!(matches!(exit.code, Some(1 | 2)), "{exit:?}");
        let sentence = sentence(&exit);
        for part in [name, "line 2", "no_such_setting"] {
            assert!(sentence.contains(part), "{part} is not in {sentence}");
        }
    }
}

#[tokio::test]
async fn the_proxys_url_may_come_from_the_settings_file() {
    let proxy = Proxy::start(&[]).await;
    let home = Home::new();
    let text = format!(
        "proxy = '{}'\nkey = 'k.pem'\nlog_format = 'json'\n[targets.web]\ntarget = 9\n[targets.api]\ntarget = 10\n",
        proxy.url()
    );
    std::fs::write(home.file("tunnel.toml"), text).expect("a temporary folder can be written to");
    let file = home.file("tunnel.toml");
    let arguments = ["--all", "--config", path_text(&file)];
    let mut process = crate::harness::Process::start("client", home.path(), arguments);
    let (one, two) = (process.event("registered").await, process.event("registered").await);
    assert_ne!(one["public_url"], two["public_url"]);
    assert!(home.file("k.pem").exists());
    assert_eq!(process.stop().await.code, Some(0));
}

#[tokio::test]
async fn what_people_read_has_no_colour_in_a_pipe_and_no_json() {
    let proxy = Proxy::start(&[]).await;
    let home = Home::new();
    let key = home.file("key.pem");
    let arguments = ["9", "--proxy", &proxy.url(), "--key", path_text(&key)];
    let mut process = crate::harness::Process::start("client", home.path(), arguments);
    let line = process.words(".localhost:").await;
    assert!(line.contains("http://"), "{line}");
    let exit = process.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(!exit.stdout.contains('\u{1b}') && !exit.stdout.contains("{\""), "{}", exit.stdout);
}

#[tokio::test]
async fn json_on_stdout_is_json_alone() {
    let proxy = Proxy::start(&[]).await;
    let home = Home::new();
    let mut client = Client::start(&proxy.url(), "9", &home.file("key.pem"), &["-vv"]).await;
    let exit = client.process.stop().await;
    for line in exit.stdout.lines() {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(value["event"].is_string(), "{line}");
    }
}

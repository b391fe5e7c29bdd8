//! The small things: version, help, completions, keys.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Client, Proxy, path_text, tunnel::Home};

#[tokio::test]
async fn the_version_is_the_packages() {
    let exit = Home::new().run(&["--version"]).await;
    assert_eq!(exit.code, Some(0));
    assert_eq!(exit.stdout.trim(), concat!("tunnel ", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn the_help_shows_examples() {
    for (arguments, example) in [
        (&["--help"][..], "tunnel demo"),
        (&["--help"], "--proxy https://"),
        (&["proxy", "--help"], "tunnel proxy --"),
        (&["key", "--help"], "new"),
    ] {
        let exit = Home::new().run(arguments).await;
        assert_eq!(exit.code, Some(0), "{arguments:?}: {exit:?}");
        assert!(exit.stdout.contains(example), "{example} is not in {}", exit.stdout);
        assert!(exit.stderr.is_empty(), "{}", exit.stderr);
    }
}

#[tokio::test]
async fn completions_are_written_for_each_shell() {
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef tunnel"), ("fish", "complete -c tunnel")]
    {
        let exit = Home::new().run(&["completions", shell]).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        assert!(exit.stdout.contains(sign), "{shell}: {sign} is missing");
        assert!(exit.stdout.contains("host-header"), "{shell} knows the flags");
    }
}

#[tokio::test]
async fn a_key_is_made_once_and_readable_by_its_owner_alone() {
    let home = Home::new();
    let key = home.file("my.pem");
    let exit = home.run(&["key", "new", "--key", path_text(&key)]).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let pem = std::fs::read_to_string(&key).expect("the key is there");
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS#8");
    let mode = std::fs::metadata(&key).expect("the key is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!exit.stdout.contains("PRIVATE") && !exit.stderr.contains("PRIVATE"));

    let again = home.run(&["key", "new", "--key", path_text(&key)]).await;
    assert_ne!(again.code, Some(0), "an existing key is never overwritten: {again:?}");
    assert_eq!(std::fs::read_to_string(&key).expect("the key is there"), pem);
}

#[tokio::test]
async fn a_key_shows_the_name_that_its_tunnel_gets() {
    let home = Home::new();
    let key = home.file("my.pem");
    home.run(&["key", "new", "--key", path_text(&key)]).await;
    let shown = home.run(&["key", "show", "--key", path_text(&key)]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert_eq!(shown.stdout, home.run(&["key", "show", "--key", path_text(&key)]).await.stdout);
    let labelled = home.run(&["key", "show", "--key", path_text(&key), "--session", "b"]).await.stdout;

    let proxy = Proxy::start(&[]).await;
    let client = Client::start(&proxy.url(), "9", &key, &[]).await;
    assert_eq!(client.label().len(), 52);
    assert!(shown.stdout.contains(client.label()), "{}", shown.stdout);
    let client = Client::start(&proxy.url(), "9", &key, &["--session", "b"]).await;
    assert!(labelled.contains(client.label()), "{labelled}");
}

#[tokio::test]
async fn a_key_is_made_on_first_use_and_kept() {
    let proxy = Proxy::start(&[]).await;
    let home = Home::new();
    let key = home.file("first.pem");
    let mut first = Client::start(&proxy.url(), "9", &key, &[]).await;
    assert_eq!(std::fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);
    assert_eq!(first.process.stop().await.code, Some(0));
    let second = Client::start(&proxy.url(), "9", &key, &[]).await;
    assert_eq!(second.label(), first.label());
}

#[tokio::test]
async fn a_key_that_is_none_is_said_to_be_none() {
    let home = Home::new();
    let key = home.file("bad.pem");
    std::fs::write(&key, "not a key").expect("a temporary folder can be written to");
    for arguments in [&["key", "show", "--key", path_text(&key)][..], &["9", "--key", path_text(&key)]] {
        let exit = home.run(arguments).await;
        assert!(matches!(exit.code, Some(1..)), "{exit:?}");
        assert!(exit.stderr.contains("bad.pem"), "{}", exit.stderr);
        assert!(!exit.stderr.contains("panicked"), "{}", exit.stderr);
    }
    assert_eq!(std::fs::read_to_string(&key).expect("still there"), "not a key");
}

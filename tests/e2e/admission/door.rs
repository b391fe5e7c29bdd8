//! Who comes in: at a proxy that others reach, only those whom its operator has let in.

use crate::harness::{
    Client, Exit, OldClient, Origin, Proxy, applicant, applicant::Applicant, origin::ok, path_text,
    tunnel::Home,
};

/// What a client that isn't let in ends with.
async fn turned_away(proxy: &Proxy, arguments: &[&str]) -> Exit {
    let home = Home::new();
    let mut client = Client::spawn(&proxy.url(), "http://127.0.0.1:9", &home.file("key.pem"), arguments);
    client.exit().await
}

#[tokio::test]
async fn a_proxy_that_others_reach_does_not_start_until_it_is_said_who_may_register() {
    let home = Home::new();
    for arguments in [
        &["proxy", "--listen", "0.0.0.0:0"][..],
        &["proxy", "--listen", "127.0.0.1:0", "--domain", "tunnels.example"],
        &["proxy", "--listen", "127.0.0.1:0", "--public-url", "https://tunnels.example"],
        &["proxy", "--listen", "0.0.0.0:0", "--check"],
    ] {
        let exit = home.run(arguments).await;
        assert_eq!(exit.code, Some(1), "{arguments:?}: {exit:?}");
        for word in ["who may register", "--allow-key", "--open-registration", "[registration]"] {
            assert!(exit.stderr.contains(word), "{arguments:?}: {word} in {}", exit.stderr);
        }
    }
    let name = "a".repeat(52);
    for (arguments, says) in [
        (&["--open-registration"][..], "0 keys, 0 invitations and every other key"),
        (&["--allow-key", &name], "1 key, 0 invitations and nobody else"),
    ] {
        let fixed = ["proxy", "--check", "--listen", "0.0.0.0:0"];
        let exit = home.run(&[&fixed[..], arguments].concat()).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        assert!(exit.stdout.contains(says), "{}", exit.stdout);
    }
}

#[tokio::test]
async fn a_listed_key_comes_in_and_others_are_told_what_to_do() {
    let origin = Origin::start().await.answering(|_| ok("in"));
    let home = Home::new();
    let (key, name) = home.key("key.pem").await;
    let proxy = Proxy::start(&["--allow-key", &name]).await;
    let exit = turned_away(&proxy, &[]).await;
    assert_eq!(exit.code, Some(1), "it doesn't try again: {exit:?}");
    assert!(exit.stderr.contains("only keys that its operator has listed or invited"), "{}", exit.stderr);
    let client = Client::start(&proxy.url(), &origin.url(), &key, &["--session", "any"]).await;
    let door = crate::harness::Door { address: proxy.address, host: client.host().to_owned() };
    assert_eq!(door.get("/").await.text(), "in");
}

#[tokio::test]
async fn clients_of_the_original_s_dialect_come_in_by_the_same_rules() {
    let open = Proxy::start(&[]).await;
    let mut of_key = OldClient::start(open.address, &["--key", "eddsa"]);
    let door = of_key.registered().await;
    let name = door.host.strip_suffix(".localhost").expect("a name under the domain");
    let proxy = Proxy::start(&["--allow-key", name]).await;
    OldClient::start(proxy.address, &["--key", "eddsa"]).registered().await;
    let mut other = OldClient::start(proxy.address, &["--key", "es256"]);
    let text = other.process.event("text").await;
    assert!(text["text"].as_str().is_some_and(|text| text.contains("listed or invited")), "{text}");
}

#[tokio::test]
async fn refusals_have_codes_and_are_counted() {
    let name = "a".repeat(52);
    let proxy = Proxy::start(&["--allow-key", &name, "--admin", "127.0.0.1:0"]).await;
    let mut applicant = Applicant::connect(proxy.address).await;
    let signed = applicant::statement(proxy.address, applicant.nonce).sign(&applicant::key(1));
    let refusal = applicant.apply(signed).await.expect_err("not listed");
    assert_eq!((refusal.code.as_str(), refusal.retry), ("not-admitted", false));
    assert_eq!(applicant.frames.next().await.code(), Some(1008));
    applicant::ask(proxy.address, "Origin: https://page.example\r\n").await;
    let admin =
        crate::harness::Door { address: proxy.admin.expect("an admin listener"), host: "localhost".into() };
    let numbers = admin.get("/metrics").await.text();
    for line in [
        "tunnel_registrations_total{outcome=\"not-admitted\"} 1",
        "tunnel_registrations_total{outcome=\"not-a-client\"} 1",
    ] {
        assert!(numbers.lines().any(|it| it == line), "{line} in:\n{numbers}");
    }
}

#[tokio::test]
async fn keys_may_stand_in_a_file_that_is_taken_over_when_it_changes() {
    let origin = Origin::start().await.answering(|_| ok("in"));
    let home = Home::new();
    let (key, name) = home.key("key.pem").await;
    home.write("keys.toml", "");
    let settings = home.write("proxy.toml", "[registration]\nkeys_file = 'keys.toml'\n");
    let mut proxy = Proxy::start(&["--config", path_text(&settings)]).await;
    assert_eq!(turned_away(&proxy, &[]).await.code, Some(1));
    home.write("keys.toml", &format!("[[key]]\nname = '{name}'\ncomment = 'the shop'\n"));
    proxy.process.event("reloaded").await;
    Client::start(&proxy.url(), &origin.url(), &key, &[]).await;
}

//! Chosen names and hostnames of one's own: for the keys that they are listed with, and met by routes and policies.

use crate::harness::{Client, Door, Origin, Proxy, Tunnel, origin::ok, path_text, tunnel::Home};

fn listed(name: &str, more: &str) -> String {
    format!("[[registration.key]]\nname = '{name}'\n{more}\n")
}

#[tokio::test]
async fn a_chosen_name_leads_to_the_tunnel_of_the_key_that_it_is_listed_with() {
    let origin = Origin::start().await.answering(|_| ok("in"));
    let home = Home::new();
    let (key, name) = home.key("key.pem").await;
    let (other, _) = home.key("other.pem").await;
    let text = format!(
        "registration.open = true\n{}[[policy]]\ndomain = 'blog.localhost'\npath = '/large'\nmax_body = 'unlimited'\n\
         [[policy]]\ndomain = 'www.example.org'\nmax_body = '4B'\n[[policy]]\ndomain = 'blog'\nmax_body = '4B'\n",
        listed(&name, "hostnames = ['blog']\ndomains = ['www.example.org']")
    );
    let settings = home.write("proxy.toml", &text);
    let mut proxy = Proxy::start(&["--config", path_text(&settings)]).await;
    let port = proxy.address.port();
    for (wish, host) in [
        ("blog", format!("blog.localhost:{port}")),
        ("Blog.localhost", format!("blog.localhost:{port}")),
        ("www.example.org", format!("www.example.org:{port}")),
    ] {
        let mut client = Client::start(&proxy.url(), &origin.url(), &key, &["--hostname", wish]).await;
        assert_eq!(client.host(), host);
        let known = proxy.process.event("registered").await["tunnel"].as_str().expect("a name").to_owned();
        let door = Door { address: proxy.address, host };
        assert_eq!(door.get("/").await.text(), "in");
        let own = Door { address: proxy.address, host: proxy.address.to_string() };
        assert_eq!(own.get(&format!("/proxy/request/{known}/")).await.text(), "in");
        assert_eq!(door.post("/", b"too much").await.status(), 413, "by its policy");
        let large = if known == "blog" { 200 } else { 413 };
        assert_eq!(door.post("/large", b"too much").await.status(), large, "by its policy");
        client.process.stop().await;
        proxy.process.event("unregistered").await;
        door.get("/").await.explained(503, "tunnel-offline");
    }
    // Everybody may come in here, but not by these names.
    for wish in
        ["blog", "www.example.org", "free", "localhost", &format!("{name}.localhost"), "www.example.com"]
    {
        let exit = Client::spawn(&proxy.url(), &origin.url(), &other, &["--hostname", wish]).exit().await;
        assert_eq!(exit.code, Some(1), "{wish}: {exit:?}");
        assert!(exit.stderr.contains("isn't yours at this proxy"), "{wish}: {}", exit.stderr);
    }
    assert!(proxy.process.events("registered").len() == 3);
}

#[tokio::test]
async fn reserved_names_are_given_to_nobody_unless_they_are_named_with_the_key() {
    let home = Home::new();
    let (key, name) = home.key("key.pem").await;
    let text = listed(&name, "hostnames = ['w*', 'admin', 'wi-*']") + "[registration]\nreserved = ['wiki']\n";
    // `[registration]` stands before its tables.
    let (table, rest) = text.split_at(text.find("[registration]").expect("it is there"));
    let settings = home.write("proxy.toml", &format!("{rest}{table}"));
    let proxy = Proxy::start(&["--config", path_text(&settings)]).await;
    for wish in ["www", "wpad", "wiki", "webmail"] {
        let exit =
            Client::spawn(&proxy.url(), "http://127.0.0.1:9", &key, &["--hostname", wish]).exit().await;
        assert!(exit.stderr.contains("is reserved"), "{wish}: {exit:?}");
    }
    for wish in ["admin", "wall"] {
        let client = Client::start(&proxy.url(), "http://127.0.0.1:9", &key, &["--hostname", wish]).await;
        assert_eq!(client.label(), wish);
    }
}

#[tokio::test]
async fn what_is_no_name_is_refused_where_it_is_written() {
    let home = Home::new();
    for wish in ["a_b", "-a", "a..b", "127.0.0.1", "bücher", "a/b", &"a".repeat(52)] {
        let exit = home.run(&["3000", "--hostname", wish]).await;
        assert_eq!(exit.code, Some(2), "{wish}: {exit:?}");
    }
}

#[tokio::test]
async fn the_names_of_a_settings_file_are_wished_for_too() {
    let origin = Origin::start().await.answering(|_| ok("in"));
    let home = Home::new();
    let (key, name) = home.key("key.pem").await;
    let settings = home.write("proxy.toml", &listed(&name, "hostnames = ['blog', 'pr-*']"));
    let mut proxy = Proxy::start(&["--config", path_text(&settings)]).await;
    let file = home.write(
        "tunnel.toml",
        &format!(
            "[targets.a]\ntarget = '{0}'\nhostname = 'blog'\n[targets.b]\ntarget = '{0}'\nhostname = 'pr-7'\n[targets.c]\n\
             target = '{0}'\n",
            origin.url()
        ),
    );
    let url = proxy.url();
    let arguments = ["--all", "--config", path_text(&file), "--proxy", &url, "--key", path_text(&key)];
    let mut client = crate::harness::Process::start("client", home.path(), arguments);
    for wish in ["blog", "pr-7"] {
        proxy.process.event_where("registered", |event| event["tunnel"] == wish).await;
    }
    let third = proxy.process.event("registered").await["tunnel"].as_str().expect("a name").to_owned();
    assert_eq!(third.len(), 52, "made from the key and the target's label");
    client.stop().await;
    let double = "[targets.a]\ntarget = 1\nhostname = 'x'\n[targets.b]\ntarget = 2\nhostname = 'x'\n";
    let file = home.write("double.toml", double);
    let exit = home.run(&["--all", "--config", path_text(&file)]).await;
    assert!(exit.stderr.contains("a has the same hostname"), "{exit:?}");
}

/// An offline or unknown chosen name is told like any other.
#[tokio::test]
async fn a_name_that_nobody_has_is_not_found() {
    let tunnel = Tunnel::to("http://127.0.0.1:9").await;
    for (host, status) in [("free.localhost", 404), ("www.example.org", 404), ("a_b.localhost", 404)] {
        let door = Door { address: tunnel.proxy.address, host: host.to_owned() };
        assert_eq!(door.get("/").await.status(), status, "{host}");
    }
}

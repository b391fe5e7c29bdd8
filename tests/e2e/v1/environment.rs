//! A proxy that is started where the original's server was.

use crate::harness::{Door, Process, Redis, process::TUNNEL, tunnel::Home};

#[tokio::test]
async fn the_original_s_variables_start_a_proxy_that_names_what_to_write_in_their_place() {
    let (redis, home) = (Redis::start().await, Home::new());
    let place = redis.address().to_string();
    let variables = [
        ("ADDR", ":0"),
        ("BASE", "https://old.example"),
        ("DOMAIN", "old.example"),
        ("PUBSUB", "redis"),
        ("CACHE", "redis"),
        ("REDIS", &place),
    ];
    let arguments = ["proxy", "--log-format", "json"];
    // What the original didn't ask is asked now.
    let exit = Process::run("proxy", home.path(), TUNNEL, arguments, &variables).exit().await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr.contains("--open-registration"), "{exit:?}");
    let arguments = ["proxy", "--log-format", "json", "--open-registration"];
    let mut proxy = Process::run("proxy", home.path(), TUNNEL, arguments, &variables);
    let event = proxy.event("listening").await;
    assert_eq!(event["public_url"], "https://old.example");
    let address = event["address"].as_str().expect("an address");
    let port = address.strip_prefix("0.0.0.0:").unwrap_or_else(|| panic!("not everybody's: {address}"));
    for setting in ["--listen", "--public-url", "--domain", "--bus"] {
        proxy.words(&format!("is taken for {setting}")).await;
    }
    proxy.words("CACHE has no meaning here").await;
    let own = Door {
        address: format!("127.0.0.1:{port}").parse().expect("an address"),
        host: "old.example".into(),
    };
    assert_eq!(own.get("/healthz").await.status(), 200);
    own.get("/proxy/request/sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq/")
        .await
        .explained(404, "no-such-tunnel");
    assert_eq!(proxy.stop().await.code, Some(0));
}

#[tokio::test]
async fn flags_go_before_them_and_what_is_no_setting_is_left_out_in_words() {
    let home = Home::new();
    let variables = [("ADDR", "nonsense"), ("BASE", "/srv/app"), ("DOMAIN", "old.example")];
    let arguments = ["proxy", "--listen", "127.0.0.1:0", "--domain", "localhost", "--log-format", "json"];
    let mut proxy = Process::run("proxy", home.path(), TUNNEL, arguments, &variables);
    let event = proxy.event("listening").await;
    assert!(event["public_url"].as_str().is_some_and(|url| url.starts_with("http://localhost:")), "{event}");
    proxy.words("BASE in the environment is left out").await;
    let exit = proxy.stop().await;
    assert!(!exit.stderr.contains("ADDR") && !exit.stderr.contains("DOMAIN"), "{}", exit.stderr);
}

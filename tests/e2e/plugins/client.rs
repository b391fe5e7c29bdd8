//! Plugins at the client: what they refuse never reaches the origin.

use crate::harness::{
    Client, Origin, Process, Proxy, Setup, compiled, guest, origin::ok, path_text, tunnel::Home,
};

#[tokio::test]
async fn what_a_plugin_answers_the_origin_never_sees() {
    let origin = Origin::start().await.answering(|_| ok("from the origin"));
    let (wasm, cache) = (guest("hostile"), compiled());
    let plugin = format!("{}?on-request=respond", path_text(&wasm));
    let tunnel =
        Setup::new().client(&["--plugin", &plugin, "--plugin-cache", &cache]).start(&origin.url()).await;
    let reply = tunnel.get("/").await;
    assert_eq!((reply.status(), reply.text().as_str()), (418, "a teapot"));
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn requests_pass_plugins_in_order_and_answers_in_reverse() {
    let origin = Origin::start().await.answering(|_| ok("from the origin"));
    let (wasm, cache, home) = (guest("hostile"), compiled(), Home::new());
    let configured = home.file("second.toml");
    std::fs::write(&configured, "on-request = 'mark:second'\non-response = 'mark:second'\n").expect("a file");
    let file = format!(
        "[[plugin]]\nname = 'first'\nfile = {wasm:?}\n\
         config = {{ on-request = 'mark:first', on-response = 'mark:first' }}\n"
    );
    let third = format!("{}?on-request=mark%3Athird&on-response=mark:third", path_text(&wasm));
    let arguments = [
        "--plugin-cache",
        &cache,
        "--plugin",
        path_text(&wasm),
        "--plugin-config",
        path_text(&configured),
        "--plugin",
        &third,
    ];
    let tunnel = Setup::new().client_file(&file).client(&arguments).start(&origin.url()).await;
    let reply = tunnel.get("/").await;
    assert_eq!(reply.text(), "from the origin");
    assert_eq!(origin.seen()[0].head.texts("x-mark"), ["first", "second", "third"]);
    assert_eq!(reply.head.texts("x-mark"), ["third", "second", "first"]);
}

#[tokio::test]
async fn a_target_may_choose_its_plugins() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let (wasm, proxy, home) = (guest("hostile"), Proxy::start(&[]).await, Home::new());
    let plugin = |name: &str| {
        format!("[[plugin]]\nname = '{name}'\nfile = {wasm:?}\nconfig = {{ on-request = 'mark:{name}' }}\n")
    };
    let url = origin.url();
    let file = format!(
        "key = 'k.pem'\nproxy = '{}'\nlog_format = 'json'\nplugin_cache = '{}'\n{}{}\
         [targets.all]\ntarget = '{url}'\n[targets.none]\ntarget = '{url}'\nplugins = []\n\
         [targets.turned]\ntarget = '{url}'\nplugins = ['b', 'a']\n",
        proxy.url(),
        compiled(),
        plugin("a"),
        plugin("b")
    );
    let path = home.file("tunnel.toml");
    std::fs::write(&path, file).expect("a file");
    let mut client = Process::start("client", home.path(), ["--all", "--config", path_text(&path)]);
    for (name, marks) in [("all", &["a", "b"][..]), ("none", &[]), ("turned", &["b", "a"])] {
        let event = client.event_where("registered", |event| event["name"] == name).await;
        let host = event["public_url"].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL");
        let mut visitor = crate::harness::Wire::connect(proxy.address).await;
        visitor.send(format!("GET /{name} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(visitor.reply("GET").await.status(), 200);
        let seen = origin.seen();
        let request =
            seen.iter().find(|request| request.head.target() == format!("/{name}")).expect("it came");
        assert_eq!(request.head.texts("x-mark"), marks, "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_loaded_is_told_before_anything_begins() {
    let (wasm, home) = (guest("hostile"), Home::new());
    let text = home.file("text.wasm");
    std::fs::write(&text, "fn main() {}").expect("a file");
    let refused = format!("{}?init=fault", path_text(&wasm));
    let cache = compiled();
    for (arguments, says) in [
        (&["--plugin", path_text(&text)][..], "text.wasm: it is no WebAssembly: it is text"),
        (&["--plugin", "no.wasm"], "--plugin no.wasm: it can't be read"),
        (&["--plugin", &refused, "--plugin-cache", &cache], "its init refused the configuration: a fault"),
        (
            &["--plugin", path_text(&wasm), "--plugin-config", "no.toml"],
            "--plugin-config no.toml: it can't be read",
        ),
    ] {
        let exit = home.run(arguments).await;
        assert_eq!(exit.code, Some(1), "{exit:?}");
        assert!(exit.stderr.contains(says), "{says}: {}", exit.stderr);
        assert!(!home.file(".config/tunnel/key.pem").exists(), "nothing has begun");
    }
}

#[tokio::test]
async fn several_mistakes_of_a_file_are_told_at_once() {
    let home = Home::new();
    let path = home.file("tunnel.toml");
    let text = "connections = 99\n[[plugin]]\nname = 'a'\nfile = 'no.wasm'\n\
                [targets.web]\ntarget = 80\nplugins = ['b']\n";
    std::fs::write(&path, text).expect("a file");
    let exit = home.run(&["web", "--config", path_text(&path)]).await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    for says in [
        "line 1, connections",
        "line 4, plugin.file",
        "line 7, targets.web.plugins: there is no plugin \"b\"",
    ] {
        assert!(exit.stderr.contains(says), "{says}: {}", exit.stderr);
    }
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_done_without() {
    let origin = Origin::start().await.answering(|_| ok("from the origin"));
    let (wasm, home, proxy) = (guest("hostile"), Home::new(), Proxy::start(&[]).await);
    let file = home.file("file");
    std::fs::write(&file, "").expect("a file");
    let arguments = ["--plugin", path_text(&wasm), "--plugin-cache", path_text(&file)];
    let mut client = Client::start(&proxy.url(), &origin.url(), &home.file("key.pem"), &arguments).await;
    client.process.words("can't keep compiled plugins").await;
}

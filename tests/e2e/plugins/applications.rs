//! Applications in place of a service.

use crate::harness::{Origin, Proxy, Setup, Wire, compiled, guest, origin::ok, path_text, tunnel::Home};

#[tokio::test]
async fn a_client_serves_an_application_without_any_service() {
    let (proxy, home, wasm, cache) = (Proxy::start(&[]).await, Home::new(), guest("application"), compiled());
    let key = home.file("key.pem");
    let arguments =
        ["--proxy", &proxy.url(), "--key", path_text(&key), "--log-format", "json", "--plugin-cache", &cache];
    let arguments = arguments.into_iter().chain(["--serve", path_text(&wasm)]);
    let mut process = crate::harness::Process::start("client", home.path(), arguments);
    let registered = process.event("registered").await;
    assert!(registered["target"].as_str().expect("a target").contains("the application"), "{registered}");
    let host = registered["public_url"].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL");
    let mut visitor = Wire::connect(proxy.address).await;
    visitor.send(format!("POST /echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello")).await;
    assert_eq!(visitor.reply("POST").await.text(), "hello");
    assert_eq!(process.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_policy_serves_one_and_the_client_is_not_asked() {
    let origin = Origin::start().await.answering(|_| ok("from the origin"));
    let (application, hostile) = (guest("application"), guest("hostile"));
    let file = format!(
        "[[application]]\nname = 'site'\nfile = {application:?}\n\
         [[plugin]]\nname = 'marks'\nfile = {hostile:?}\nconfig = {{ on-response = 'mark:seen' }}\n\
         [[policy]]\ndomain = '*'\npath = '/status/*'\nserve = 'site'\nplugins = ['marks']\n\
         [[policy]]\ndomain = '*'\npath = '/ignore'\nserve = {application:?}\n"
    );
    let tunnel =
        Setup::new().proxy_file(&file).proxy(&["--plugin-cache", &compiled()]).start(&origin.url()).await;
    let reply = tunnel.get("/status/203").await;
    assert_eq!((reply.status(), reply.head.texts("x-mark")), (203, vec!["seen".to_owned()]));
    assert_eq!(tunnel.get("/ignore").await.text(), "ignored");
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(tunnel.get("/other").await.text(), "from the origin");
}

#[tokio::test]
async fn each_is_told_from_the_other() {
    let (home, cache) = (Home::new(), compiled());
    let (application, plugin) = (guest("application"), guest("hostile"));
    let key = home.file("key.pem");
    for (flag, file, says) in [
        ("--plugin", &application, "it is an application"),
        ("--serve", &plugin, "it is a plugin, not an application"),
    ] {
        let arguments = [flag, path_text(file), "--plugin-cache", &cache, "--key", path_text(&key)];
        let exit = home.run(&arguments).await;
        assert_eq!(exit.code, Some(1), "{exit:?}");
        assert!(exit.stderr.contains(says), "{}", exit.stderr);
    }
    let exit = home.run(&["3000", "--serve", path_text(&application)]).await;
    assert_eq!(exit.code, Some(2), "one or the other: {exit:?}");
}

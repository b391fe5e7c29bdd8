//! The listener for plain HTTP beside TLS.

use crate::harness::{Origin, Reply, Wire, origin, path_text, secured::Secured, tunnel::Home};

async fn ask(tunnel: &Secured, line: &str, host: &str) -> Reply {
    let mut wire = Wire::connect(tunnel.proxy.http.expect("a plain listener")).await;
    wire.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    wire.reply(line.split(' ').next().expect("a method")).await
}

#[tokio::test]
async fn everything_is_led_to_https_and_to_no_host_but_ours() {
    let origin = Origin::start().await.answering(|_| origin::ok(""));
    let tunnel = Secured::start(&origin.url(), "hsts = '1d'", &["--http", "127.0.0.1:0"]).await;
    let (name, port) = (tunnel.name(), tunnel.address().port());
    let own = format!("https://tunnels.test:{port}");
    for (line, host, expected) in [
        ("GET /a?b=c", name.to_owned(), format!("https://{name}:{port}/a?b=c")),
        ("POST /a", format!("{name}:80"), format!("https://{name}:{port}/a")),
        ("GET /a", name.to_uppercase(), format!("https://{name}:{port}/a")),
        ("GET //evil.example/", name.to_owned(), format!("https://{name}:{port}//evil.example/")),
        ("OPTIONS *", name.to_owned(), format!("https://{name}:{port}/")),
        ("GET /", "localhost".to_owned(), format!("https://localhost:{port}/")),
        // Whoever names an address names none of ours.
        ("GET /x", "203.0.113.7".to_owned(), format!("{own}/x")),
        ("GET /proxy/subscribe", "tunnels.test:80".to_owned(), format!("{own}/proxy/subscribe")),
    ] {
        let reply = ask(&tunnel, line, &host).await;
        assert_eq!((reply.status(), reply.head.texts("location")), (308, vec![expected]), "{line} {host}");
        // RFC 6797 section 7.2.
        assert!(!reply.head.has("strict-transport-security"));
    }
    for host in ["evil.example", "tunnels.test.evil.example", "not_a_name.tunnels.test", "evil.example:443"] {
        let reply = ask(&tunnel, "GET /", host).await;
        assert_eq!((reply.status(), reply.head.has("location")), (404, false), "{host}");
    }
    let mut wire = Wire::connect(tunnel.proxy.http.expect("a plain listener")).await;
    wire.send(format!("GET http://evil.example/ HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
    assert!(!wire.reply("GET").await.head.has("location"));
    assert_eq!(origin.seen().len(), 0, "nothing reaches a service without TLS");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(&tunnel, &format!("GET {path}"), "127.0.0.1").await.status(), 200);
    }
}

#[tokio::test]
async fn challenges_of_an_authority_are_answered_from_the_folder_and_from_nowhere_else() {
    let origin = Origin::start().await.answering(|_| origin::ok(""));
    let folder = Home::new();
    let nested = folder.file(".well-known/acme-challenge");
    std::fs::create_dir_all(&nested).expect("a folder");
    std::fs::write(nested.join("token-1_A"), "token-1_A.thumbprint").expect("a file");
    std::fs::write(folder.file("flat"), "flat.thumbprint").expect("a file");
    std::fs::write(folder.file("with.dot"), "secret").expect("a file");
    let more = format!("acme_challenges = '{}'", path_text(folder.path()));
    let tunnel = Secured::start(&origin.url(), &more, &["--http", "127.0.0.1:0"]).await;
    // Whichever of the names is to be proved.
    for host in ["localhost", tunnel.name(), "www.example.org"] {
        for (token, text) in [("token-1_A", "token-1_A.thumbprint"), ("flat", "flat.thumbprint")] {
            let reply = ask(&tunnel, &format!("GET /.well-known/acme-challenge/{token}"), host).await;
            assert_eq!((reply.status(), reply.text().as_str()), (200, text), "{host}");
        }
    }
    for token in ["with.dot", "../flat", "..%2fflat", "none", "", "%2e", "x/../flat"] {
        let reply = ask(&tunnel, &format!("GET /.well-known/acme-challenge/{token}"), "localhost").await;
        assert_eq!(reply.status(), 308, "{token}");
    }
}

//! TLS at the proxy's own listener: visitors, clients, and who is refused.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{
    Frame, Frames, Opcode, Origin, Process, Wire,
    certificate::{Authority, Secure},
    load, origin, path_text,
    process::find,
    secured::{NAMES, Secured},
    tunnel::Home,
    websocket, within,
};

#[tokio::test]
async fn a_visitor_and_a_client_come_by_tls_and_the_service_hears_of_https() {
    let origin = Origin::start().await.answering(|_| origin::ok("hello"));
    let tunnel = Secured::start(&origin.url(), "", &[]).await;
    assert!(tunnel.client.public_url.starts_with("https://"), "{}", tunnel.client.public_url);
    for (by, first) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200")] {
        let answer = tunnel.curl(&[by, "-H", "X-Forwarded-Proto: http"]).await;
        assert!(answer.starts_with(first) && answer.ends_with("hello"), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("strict-transport-security"), "{answer}");
        let seen = &origin.seen().pop().expect("a request").head;
        assert_eq!(seen.text("x-forwarded-proto").as_deref(), Some("https"));
        assert!(seen.text("forwarded").is_some_and(|text| text.ends_with(";proto=https")), "{seen:?}");
    }
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let origin = Origin::start().await.answering(|_| origin::ok("hello"));
    let tunnel = Secured::start(&origin.url(), "", &[]).await;
    for by in ["--tlsv1.3", "--tls-max=1.2"] {
        let flags = by.split('=').collect::<Vec<_>>();
        assert!(tunnel.curl(&flags).await.ends_with("hello"), "{by}");
    }
    let Some(openssl) = find("openssl") else { return };
    let address = tunnel.address().to_string();
    for (version, spoken) in [("-tls1_3", true), ("-tls1_2", true), ("-tls1_1", false), ("-tls1", false)] {
        let arguments = ["s_client", "-connect", &address, "-cipher", "ALL:@SECLEVEL=0", version];
        let exit = Process::run("openssl", tunnel.proxy.home.path(), &openssl, arguments, &[]).exit().await;
        assert_eq!(exit.stdout.contains("BEGIN CERTIFICATE"), spoken, "{version} {exit:?}");
    }
}

#[tokio::test]
async fn the_certificate_is_that_of_the_name_and_the_first_where_none_fits() {
    let (authority, home) = (Authority::new(), Home::new());
    let pairs = [
        ("first", authority.server(NAMES)),
        ("other", authority.server(&["www.example.org"])),
        ("wild", authority.server(&["*.example.org"])),
    ];
    let origin = Origin::start().await.answering(|_| origin::ok(""));
    let tunnel = Secured::with(authority, home, &pairs, "", &[], &origin.url()).await;
    let visitor = tunnel.visitor();
    let of = |name: &'static str| {
        let visitor = &visitor;
        let address = tunnel.address();
        async move { visitor.try_visit(address, name).await }
    };
    for name in ["localhost", "x.tunnels.test", "www.example.org", "WWW.EXAMPLE.ORG", "other.example.org"] {
        of(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // The first one is shown, and isn't for these.
    for name in ["example.org", "a.b.example.org", "nobody.example"] {
        let error = of(name).await.expect_err(name);
        assert!(error.to_string().contains("not valid for name"), "{name}: {error}");
    }
    // No name is asked for by an address.
    assert!(of("127.0.0.1").await.is_err());
}

#[tokio::test]
async fn a_websocket_goes_over_tls() {
    let origin = Origin::start().await;
    let tunnel = Secured::start(&origin.url(), "", &[]).await;
    let mut visitor = tunnel.visit().await;
    let door = crate::harness::Door { address: tunnel.address(), host: tunnel.client.host().to_owned() };
    visitor.send(websocket::request(&door, "/socket", &[])).await;
    let (mut answers, request) = origin.request().await;
    websocket::accept(&mut answers, &request.head, &[]).await;
    websocket::accepted(&mut visitor).await;
    let (mut near, mut far) = (Frames::of_visitor(visitor), Frames::of_origin(answers));
    near.send(Frame::whole(Opcode::Text, "there")).await;
    assert_eq!(far.message().await.payload, b"there");
    far.send(Frame::whole(Opcode::Text, "and back")).await;
    assert_eq!(near.message().await.payload, b"and back");
}

#[tokio::test]
async fn an_end_is_said_in_tls_and_a_body_that_breaks_off_is_cut_off() {
    let origin = Origin::start().await;
    let tunnel = Secured::start(&origin.url(), "", &[]).await;
    let ask = |stream| async {
        let mut visitor = Wire::over(stream);
        let head = tunnel.get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        visitor.send(head).await;
        visitor
    };
    // rustls takes an end without close_notify for what it may be, an attack.
    let stream = tunnel.visitor().try_visit(tunnel.address(), tunnel.name()).await.expect("a handshake");
    let visitor = ask(stream).await;
    let (mut answers, _) = origin.request().await;
    answers.send(origin::ok("whole")).await;
    let (mut io, read) = visitor.into_parts();
    let mut rest = read.to_vec();
    within("the end", io.read_to_end(&mut rest)).await.expect("a regular end");
    assert!(rest.ends_with(b"whole"));
    drop(answers);

    let stream = tunnel.visitor().try_visit(tunnel.address(), tunnel.name()).await.expect("a handshake");
    let visitor = ask(stream).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf").await;
    drop(answers);
    let (mut io, _) = visitor.into_parts();
    let error = within("the end", io.read_to_end(&mut Vec::new())).await.expect_err("no regular end");
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
}

#[tokio::test]
async fn an_answer_arrives_whole_though_the_upload_goes_on() {
    let origin = Origin::start().await.answering(|_| origin::ok(""));
    let tunnel = Secured::start(&origin.url(), "", &["--max-body", "10kB"]).await;
    let mut visitor = tunnel.visit().await;
    let head =
        tunnel.get("/").replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 10000000\r\n\r\n");
    visitor.send(head).await;
    visitor.send(vec![b'x'; 100_000]).await;
    visitor.reply("POST").await.explained(413, "request-too-large");
}

#[tokio::test]
async fn sessions_are_resumed() {
    let origin = Origin::start().await.answering(|_| origin::ok("hello"));
    let tunnel = Secured::start(&origin.url(), "", &[]).await;
    let config = std::sync::Arc::new(tunnel.visitor().config());
    let connector = tokio_rustls::TlsConnector::from(config);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let socket = tokio::net::TcpStream::connect(tunnel.address()).await.expect("a connection");
        let name = tunnel.name().to_owned().try_into().expect("a name");
        let mut stream = connector.connect(name, socket).await.expect("a handshake");
        stream.write_all(tunnel.get("/").as_bytes()).await.expect("bytes are taken");
        let mut some = [0; 64];
        // Tickets come with the first answer.
        let read = within("an answer", stream.read(&mut some)).await.expect("an answer");
        assert!(read > 0);
        kinds.push(stream.get_ref().1.handshake_kind().expect("it is done"));
    }
    use tokio_rustls::rustls::HandshakeKind::{Full, Resumed};
    assert_eq!(kinds, [Full, Resumed]);
}

#[tokio::test]
async fn alpn_is_agreed_on_or_left_out() {
    let origin = Origin::start().await.answering(|_| origin::ok(""));
    let tunnel = Secured::start(&origin.url(), "", &[]).await;
    let agreed = |protocols: &'static [&'static str]| {
        let visitor = tunnel.visitor().offering(protocols);
        let (address, name) = (tunnel.address(), tunnel.name().to_owned());
        async move {
            let stream = visitor.try_visit(address, &name).await?;
            let agreed =
                stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
            std::io::Result::Ok(agreed)
        }
    };
    assert_eq!(agreed(&["http/1.1"]).await.expect("a handshake").as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&[]).await.expect("a handshake"), None);
    // What has no protocol in common isn't served as if it had (the class of ALPACA).
    assert!(agreed(&["imap"]).await.is_err());
}

#[tokio::test]
async fn whoever_speaks_no_tls_is_told_and_holds_up_nobody() {
    let origin = Origin::start().await.answering(|_| origin::ok("hello"));
    let tunnel = Secured::start(&origin.url(), "handshake_timeout = '1s'", &["--admin", "127.0.0.1:0"]).await;
    let mut plain = Wire::connect(tunnel.address()).await;
    plain.send(tunnel.get("/")).await;
    let told = plain.reply("GET").await;
    assert_eq!(told.status(), 400);
    assert!(told.text().contains("https"), "{}", told.text());
    // Some say nothing, or not enough.
    let mut silent = Vec::new();
    for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut wire = Wire::connect(tunnel.address()).await;
        wire.send(begun).await;
        silent.push(wire);
    }
    assert!(tunnel.curl(&[]).await.ends_with("hello"));
    for mut wire in silent {
        wire.closed().await;
    }
    let mut admin = Wire::connect(tunnel.proxy.admin.expect("an admin listener")).await;
    admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let text = admin.reply("GET").await.text();
    for line in [
        "tunnel_tls_handshakes_total{outcome=\"plain\"} 1",
        "tunnel_tls_handshakes_total{outcome=\"late\"} 3",
        "tunnel_tls_handshakes_total{outcome=\"done\"} 2",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_client_trusts_its_proxys_authority_and_no_other() {
    let origin = Origin::start().await.answering(|_| origin::ok(""));
    let tunnel = Secured::start(&origin.url(), "", &[]).await;
    let home = Home::new();
    std::fs::write(home.file("other.pem"), Authority::new().pem()).expect("a file");
    let (key, other) = (home.file("key.pem"), home.file("other.pem"));
    let url = format!("https://localhost:{}", tunnel.address().port());
    let mut client =
        crate::harness::Client::spawn(&url, &origin.url(), &key, &["--proxy-ca", path_text(&other)]);
    let event = client.event("disconnected").await;
    let reason = event["reason"].as_str().expect("a sentence");
    assert!(reason.contains("no TLS with https://localhost") && reason.contains("--proxy-ca"), "{reason}");
}

#[tokio::test]
async fn hsts_is_said_by_tls_unless_the_service_says_its_own() {
    let origin = Origin::start().await.answering(|request| match request.head.target() {
        "/own" => {
            b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
        _ => origin::ok(""),
    });
    let tunnel = Secured::start(&origin.url(), "hsts = '180d'", &[]).await;
    let mut visitor = tunnel.visit().await;
    for (target, expected) in [("/", "max-age=15552000"), ("/own", "max-age=1")] {
        visitor.send(tunnel.get(target)).await;
        let reply = visitor.reply("GET").await;
        assert_eq!(reply.head.texts("strict-transport-security"), [expected], "{target}");
    }
    // Errors of the proxy's own too.
    visitor.send("GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n").await;
    let reply = visitor.reply("GET").await;
    assert_eq!(reply.status(), 404);
    assert_eq!(reply.head.texts("strict-transport-security"), ["max-age=15552000"]);
}

#[tokio::test]
async fn visitors_by_tls_come_in_numbers() {
    let origin = load::echoing().await;
    let tunnel = Secured::start(&origin.url(), "", &["--rate", "off"]).await;
    let secure = Secure::trusting(&tunnel.authority);
    let visits = (0..50).map(|number| {
        let (secure, tunnel) = (&secure, &tunnel);
        async move {
            let mut visitor = secure.visit(tunnel.address(), tunnel.name()).await;
            for turn in 0..4 {
                visitor.send(tunnel.get(&format!("/{number}/{turn}"))).await;
                assert_eq!(visitor.reply("GET").await.status(), 200);
            }
        }
    });
    futures_util::future::join_all(visits).await;
}

//! Requests to servers on this machine, good and bad.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::Instant,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::*;

/// Knows one answer for every name, and counts how often it was asked.
#[derive(Clone)]
struct Always(Vec<IpAddr>, Arc<AtomicUsize>);

impl Always {
    fn new(address: &str) -> Self {
        Self(vec![address.parse().unwrap()], Arc::default())
    }
}

impl Resolve for Always {
    fn resolve(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.1.fetch_add(1, SeqCst);
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

fn allowed(sender: &Sender, origin: &str) -> Allowed {
    Allowed::new(&[origin.parse().unwrap()], sender).unwrap()
}

/// May send to this machine's address at a port.
fn local(port: u16) -> Allowed {
    allowed(
        &Sender::with(Always::new("192.0.2.1"), Some(RootCertStore::empty())),
        &format!("http://127.0.0.1:{port}"),
    )
}

fn get(url: impl Into<String>) -> http_client::Request {
    let method = "GET".to_owned();
    http_client::Request { method, url: url.into(), headers: vec![], body: vec![], timeout_ms: 0 }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Reads a request's head, and its body if the head says how long it is.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(stream.read_u8().await.unwrap());
    }
    let mut text = String::from_utf8(read).unwrap();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    text.push_str(std::str::from_utf8(&body).unwrap());
    text
}

/// Answers the requests of one connection with these bytes, one after the other, and gives back what it was asked.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, replies: Vec<Vec<u8>>) -> Vec<String> {
    let mut asked = Vec::new();
    for reply in replies {
        asked.push(request(&mut stream).await);
        // Whoever has enough of it may go.
        let _ = stream.write_all(&reply).await;
    }
    asked
}

async fn serve(replies: &[&[u8]]) -> (u16, JoinHandle<Vec<String>>) {
    let (listener, port) = listen().await;
    let replies = replies.iter().map(|reply| reply.to_vec()).collect();
    let served = tokio::spawn(async move { answer(listener.accept().await.unwrap().0, replies).await });
    (port, served)
}

async fn outcome(reply: &[u8], limit: usize) -> Result<Answer, Error> {
    let (port, _served) = serve(&[reply]).await;
    local(port).send(get(format!("http://127.0.0.1:{port}/")), limit).await
}

#[tokio::test]
async fn a_request_arrives_as_asked_and_its_answer_comes_back() {
    let reply = b"HTTP/1.1 404 Not Found\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nTunnel-Error: no\r\nA: 1\r\na: 2\r\n\
        Content-Length: 4\r\n\r\nnone";
    let (port, served) = serve(&[reply]).await;
    let request = http_client::Request {
        method: "POST".to_owned(),
        headers: vec![("Authorization".to_owned(), b"Bearer x".to_vec())],
        body: b"question".to_vec(),
        ..get(format!("http://127.0.0.1:{port}/a?b=c%20#fragment"))
    };
    let answer = local(port).send(request, 100).await.unwrap();
    assert_eq!((answer.status, &*answer.body), (404, &b"none"[..]));
    let headers: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
        .collect();
    assert_eq!(headers, ["a: 1", "a: 2", "content-length: 4"]);
    let asked = served.await.unwrap().remove(0);
    let expected = format!(
        "POST /a?b=c%20 HTTP/1.1\r\nauthorization: Bearer x\r\nhost: 127.0.0.1:{port}\r\ncontent-length: 8\r\n\r\nquestion"
    );
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn a_redirect_comes_back_and_is_not_followed() {
    let (elsewhere, other) = listen().await;
    let reply =
        format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{other}/\r\nContent-Length: 0\r\n\r\n");
    let answer = outcome(reply.as_bytes(), 0).await.unwrap();
    assert_eq!(answer.status, 302);
    assert!(answer.headers.iter().any(|(name, _)| name == "location"));
    assert!(elsewhere.accept().now_or_never().is_none(), "nobody came");
}

#[tokio::test]
async fn a_granted_name_that_leads_to_this_machine_is_denied() {
    let (listener, port) = listen().await;
    let url = format!("http://idp.example.com:{port}");
    let denied = allowed(&Sender::with(Always::new("127.0.0.1"), Some(RootCertStore::empty())), &url);
    let error = denied.send(get(url), 0).await.unwrap_err();
    let Error::Denied(text) = error else { panic!("{error:?}") };
    assert!(text.starts_with("idp.example.com resolves to 127.0.0.1, a loopback address"), "{text}");
    assert!(listener.accept().now_or_never().is_none(), "nobody came");
}

#[tokio::test]
async fn a_name_is_resolved_once_for_a_connection() {
    let (port, _served) = serve(&[b"HTTP/1.1 204 No Content\r\n\r\n"]).await;
    let resolver = Always::new("127.0.0.1");
    let url = format!("http://localhost:{port}");
    let allowed = allowed(&Sender::with(resolver.clone(), Some(RootCertStore::empty())), &url);
    assert_eq!(allowed.send(get(url), 0).await.unwrap().status, 204);
    // A second answer, which may be another, is what a check and its use must not have between them.
    assert_eq!(resolver.1.load(SeqCst), 1);
}

#[tokio::test]
async fn what_is_not_granted_is_not_even_resolved() {
    let resolver = Always::new("127.0.0.1");
    let sender = Sender::with(resolver.clone(), Some(RootCertStore::empty()));
    let allowed = allowed(&sender, "http://a.test");
    assert!(matches!(allowed.send(get("http://b.test/"), 0).await, Err(Error::Denied(_))));
    assert_eq!(resolver.1.load(SeqCst), 0);
}

#[tokio::test]
async fn connections_are_kept() {
    let reply = &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"[..];
    let (port, served) = serve(&[reply, reply]).await;
    let allowed = local(port);
    for _ in 0..2 {
        allowed.send(get(format!("http://127.0.0.1:{port}/")), 1).await.unwrap();
    }
    assert_eq!(served.await.unwrap().len(), 2, "by one connection");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_cut_off() {
    let said = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n";
    let until_close = b"HTTP/1.1 200 OK\r\n\r\n12345";
    for reply in [&said[..], chunked, until_close] {
        assert_eq!(outcome(reply, 5).await.unwrap().body, b"12345");
        assert!(matches!(outcome(reply, 4).await, Err(Error::TooLarge)));
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let (listener, port) = listen().await;
    let _served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    let sent = local(port).send(get(format!("http://127.0.0.1:{port}/")), 100_000).await;
    assert!(matches!(sent, Err(Error::TooLarge)), "{sent:?}");
}

#[tokio::test]
async fn answers_that_are_none_are_told_so() {
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(4 * MAX_HEAD));
    for reply in [
        &b"SSH-2.0-x\r\n"[..],
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        head.as_bytes(),
    ] {
        let sent = outcome(reply, 100).await.map(|answer| answer.status);
        assert!(
            matches!(sent, Err(Error::Protocol(_))),
            "{}: {sent:?}",
            String::from_utf8_lossy(&reply[..9])
        );
    }
}

#[tokio::test]
async fn nobody_there_is_told_so() {
    let (listener, port) = listen().await;
    drop(listener);
    let sent = local(port).send(get(format!("http://127.0.0.1:{port}/")), 0).await;
    assert!(matches!(&sent, Err(Error::Connect(text)) if text.contains("refused")), "{sent:?}");
}

/// Time passes only when there is nothing else to do: until the request gives up.
#[tokio::test(start_paused = true)]
async fn silence_ends_in_time() {
    let slow: &[&[u8]] = &[b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"];
    for reply in slow {
        for (asked, held_to) in [(50, 50), (0, 10_000), (60_000, 10_000)] {
            let (listener, port) = listen().await;
            let (done, held) = tokio::sync::oneshot::channel::<()>();
            let reply = reply.to_vec();
            let served = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                request(&mut stream).await;
                stream.write_all(&reply).await.unwrap();
                let _ = held.await;
            });
            let began = Instant::now();
            let request =
                http_client::Request { timeout_ms: asked, ..get(format!("http://127.0.0.1:{port}/")) };
            let sent = local(port).send(request, 100).await;
            assert!(matches!(sent, Err(Error::Timeout)), "{sent:?}");
            assert_eq!(began.elapsed().as_millis(), held_to);
            drop(done);
            drop(served);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_over_the_bound_wait_within_their_time() {
    let (port, _served) = serve(&[b"HTTP/1.1 204 No Content\r\n\r\n"]).await;
    let allowed = local(port);
    let url = format!("http://127.0.0.1:{port}/");
    let places = allowed.places.try_acquire_many(u32::try_from(AT_ONCE).unwrap()).unwrap();
    assert!(matches!(allowed.send(get(url.clone()), 0).await, Err(Error::Timeout)));
    let sent = async {
        tokio::task::yield_now().await;
        drop(places);
    };
    let (sent, ()) = tokio::join!(allowed.send(get(url), 0), sent);
    assert_eq!(sent.unwrap().status, 204);
}

/// A certificate for `localhost`, and a server that shows it.
async fn tls() -> (RootCertStore, u16) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            answer(stream, vec![b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret".to_vec()]).await;
        }
    });
    (roots, port)
}

#[tokio::test]
async fn by_https_the_certificate_has_to_be_good() {
    let (roots, port) = tls().await;
    let url = format!("https://localhost:{port}");
    let trusting = allowed(&Sender::with(Always::new("127.0.0.1"), Some(roots)), &url);
    assert_eq!(trusting.send(get(url), 100).await.unwrap().body, b"secret");

    let (_, port) = tls().await;
    let (others, _) = tls().await;
    let url = format!("https://localhost:{port}");
    let doubting = allowed(&Sender::with(Always::new("127.0.0.1"), Some(others)), &url);
    let sent = doubting.send(get(url), 100).await;
    assert!(matches!(&sent, Err(Error::Connect(text)) if text.contains("isn't trusted")), "{sent:?}");
}

#[tokio::test]
async fn https_without_anything_to_trust_is_refused_when_the_plugin_is_loaded() {
    let sender = Sender::with(Always::new("192.0.2.1"), Some(RootCertStore::empty()));
    let refused = Allowed::new(&["https://a.test".parse().unwrap()], &sender).err().unwrap();
    assert!(refused.to_string().contains("no trusted certificates"), "{refused}");
    let refused = Allowed::new(&["http://a.test/x".parse().unwrap()], &sender).err().unwrap();
    assert!(refused.to_string().contains("http = [\"http://a.test/x\"] has a path"), "{refused}");
}

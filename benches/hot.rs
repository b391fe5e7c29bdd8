//! What one exchange costs in the parts that every exchange passes: messages to bytes and back, the multiplexer, header
//! hygiene, the session's socket, and a session as a whole. Run `cargo bench --bench hot`.
//!
//! One thread, and no sockets but in memory: the time of an iteration is CPU time. Plugins have `benches/plugins.rs`, whole
//! programs `cargo xtask bench`.

use std::{
    future::poll_fn,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use http_body_util::BodyExt;
use tokio::{io::DuplexStream, runtime::Runtime};
use tunnel::{
    exchange::{
        Answer, Body, Context, ExchangeId, Forward, ForwardFuture, Request, RequestHead, RequestKind,
        Response, Scheme, hygiene, websocket::Role,
    },
    session::{
        self, Arrival, Handle, Settings, Transport,
        mux::{Mux, Received, Side},
        part::Part,
    },
    wire::{
        Limits, MAX_HEADERS, Message, Notes,
        message::{BodyPart, ExchangeNumber, RequestStart, ResponseStart, WsKind, WsPart},
    },
};

/// A whole run takes about a minute.
const EACH: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(500);

const LIMITS: Limits = Limits { headers: MAX_HEADERS };

/// A part of a body as a busy socket gives it.
const PART: usize = 16 * 1024;

/// A body that needs more than the first window of credit.
const BODY: usize = 1024 * 1024;

/// Messages that are written before one flush.
const BURST: usize = 100;

/// What a browser sends beside `Host`.
const ASKED: [(&str, &str); 12] = [
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("cookie", "session=0123456789abcdef0123456789abcdef"),
    ("referer", "https://example.localhost/"),
    ("cache-control", "no-cache"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("priority", "u=0, i"),
    ("connection", "keep-alive"),
];

/// What a server answers with.
const ANSWERED: [(&str, &str); 8] = [
    ("date", "Mon, 30 Nov 2026 08:00:00 GMT"),
    ("server", "nginx"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "100"),
    ("last-modified", "Sun, 29 Nov 2026 08:00:00 GMT"),
    ("etag", "\"656f1c30-64\""),
    ("cache-control", "max-age=60"),
    ("connection", "keep-alive"),
];

fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |&(name, value): &(_, _)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    of.iter().map(pair).collect()
}

fn request_start(id: ExchangeNumber, end: bool) -> Box<RequestStart> {
    Box::new(RequestStart {
        id,
        tunnel: None,
        exchange: 0x1234_5678_9abc_def0,
        method: Method::GET,
        secure: true,
        authority: "example.localhost".to_owned(),
        target: PathAndQuery::from_static("/index.html?page=1"),
        headers: headers(&ASKED),
        visitor: Some("203.0.113.7:50123".to_owned()),
        tls: None,
        notes: Notes::default(),
        body: Bytes::new(),
        end,
    })
}

fn response_start(id: ExchangeNumber) -> Box<ResponseStart> {
    Box::new(ResponseStart {
        id,
        status: StatusCode::OK,
        headers: headers(&ANSWERED),
        body: Bytes::from_static(&[b'x'; 100]),
        end: true,
    })
}

fn ws_message(id: ExchangeNumber) -> Message {
    Message::WsMessage(WsPart { id, kind: WsKind::Binary, data: Bytes::from_static(&[7; 64]), end: true })
}

fn messages(criterion: &mut Criterion) {
    let body = BodyPart { id: 7, data: Bytes::from_static(&[b'x'; PART]), end: false, trailers: None };
    let all = [
        ("request head, 12 headers", Message::HttpRequest(request_start(7, true))),
        ("response head, 8 headers, 100 bytes", Message::HttpResponse(response_start(7))),
        ("body, 16 KiB", Message::Body(body)),
        ("WebSocket message, 64 bytes", ws_message(7)),
    ];
    let mut group = criterion.benchmark_group("message");
    for (name, message) in &all {
        let encoded = message.encode();
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group
            .bench_function(format!("encode {name}"), |bencher| bencher.iter(|| black_box(message).encode()));
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| Message::decode(black_box(&encoded).clone(), &LIMITS).expect("what was encoded"));
        });
    }
    group.finish();
}

/// Both sides of a session, joined by nothing but calls.
struct Pair {
    opener: Mux<()>,
    acceptor: Mux<()>,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let side = |side| Mux::new(side, 1024, Duration::from_secs(10), now);
        Self { opener: side(Side::Opener), acceptor: side(Side::Acceptor), now }
    }

    /// As many exchanges at once as there are requests: all are opened, all are answered.
    fn exchange(&mut self, requests: Vec<(Box<RequestStart>, Box<ResponseStart>)>) {
        let mut answers = Vec::with_capacity(requests.len());
        for (request, response) in requests {
            self.opener.open(request, false, ());
            answers.push(response);
        }
        while let Some((message, _)) = self.opener.transmit() {
            let received = self.acceptor.receive(message, || (), self.now).expect("a request in its order");
            let Received::Request(request, false) = received else { panic!("{received:?}") };
            self.acceptor.accept(request.id, ());
            let mut response = answers.pop().expect("one for each request");
            response.id = request.id;
            self.acceptor.respond(response, false);
            black_box(request);
        }
        while let Some((message, _)) = self.acceptor.transmit() {
            let received = self.opener.receive(message, || (), self.now).expect("a response in its order");
            let Received::Response(id, response) = received else { panic!("{received:?}") };
            self.opener.close_if_done(id);
            black_box(response);
        }
        assert_eq!((self.opener.open_streams(), self.acceptor.open_streams()), (0, 0));
    }

    /// One request with a body in parts, for each of which its reader grants credit; then the answer.
    fn upload(&mut self, request: Box<RequestStart>, mut response: Box<ResponseStart>) {
        let id = self.opener.open(request, false, ());
        let mut left = BODY;
        while left > 0 {
            left -= PART;
            let data = Bytes::from_static(&[b'x'; PART]);
            assert!(self.opener.part(id, Part::Body { data, end: left == 0, trailers: None }));
            while let Some((message, _)) = self.opener.transmit() {
                match self.acceptor.receive(message, || (), self.now).expect("what there is credit for") {
                    Received::Request(..) => self.acceptor.accept(id, ()),
                    Received::Part(id, part) => self.acceptor.grant(id, part.cost()),
                    other => panic!("{other:?}"),
                }
            }
            self.hear();
        }
        response.id = id;
        self.acceptor.respond(response, false);
        self.hear();
        self.opener.close_if_done(id);
        assert_eq!((self.opener.open_streams(), self.acceptor.open_streams()), (0, 0));
    }

    /// What the acceptor says goes to the opener.
    fn hear(&mut self) {
        while let Some((message, _)) = self.acceptor.transmit() {
            black_box(self.opener.receive(message, || (), self.now).expect("credit or an answer"));
        }
    }
}

fn multiplexer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("multiplexer");
    let exchange = (request_start(0, true), response_start(0));
    for at_once in [1, 100] {
        let mut pair = Pair::new();
        group.throughput(Throughput::Elements(at_once as u64));
        group.bench_function(format!("{at_once} at once"), |bencher| {
            let heads = || vec![exchange.clone(); at_once];
            bencher.iter_batched(heads, |heads| pair.exchange(heads), BatchSize::SmallInput);
        });
    }
    let mut pair = Pair::new();
    let upload = (request_start(0, false), response_start(0));
    group.throughput(Throughput::Bytes(BODY as u64));
    group.bench_function("body of 1 MiB in parts of 16 KiB", |bencher| {
        let heads = || upload.clone();
        bencher.iter_batched(heads, |(head, answer)| pair.upload(head, answer), BatchSize::SmallInput);
    });
    group.finish();
}

fn header_hygiene(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hygiene");
    let mut asked = headers(&ASKED);
    asked.insert("host", HeaderValue::from_static("example.localhost"));
    let answered = headers(&ANSWERED);
    let arrival = hygiene::Arrival {
        peer: "203.0.113.7:50123".parse().expect("an address"),
        scheme: Scheme::Https,
        authority: "example.localhost",
        trusted: &[],
    };
    let alone = hygiene::Description::of(&arrival);
    group.throughput(Throughput::Elements(asked.len() as u64));
    group.bench_function("request, 13 headers", |bencher| {
        let clean = |mut headers| {
            hygiene::request(&mut headers, RequestKind::Http, &arrival, &alone);
            headers
        };
        bencher.iter_batched(|| asked.clone(), clean, BatchSize::SmallInput);
    });
    group.throughput(Throughput::Elements(answered.len() as u64));
    group.bench_function("response, 8 headers", |bencher| {
        let clean = |mut headers| {
            hygiene::response(&mut headers);
            headers
        };
        bencher.iter_batched(|| answered.clone(), clean, BatchSize::SmallInput);
    });
    group.finish();
}

type Socket = session::Socket<DuplexStream>;

/// A proxy's end of a session's socket, and the client's.
fn sockets() -> (Socket, Socket) {
    let (near, far) = tokio::io::duplex(256 * 1024);
    (Socket::over(near, Role::Server, &[]), Socket::over(far, Role::Client, &[]))
}

/// Writes a burst of messages with one flush, and reads it at the other end.
async fn burst(from: &mut Socket, to: &mut Socket, message: &Message) {
    for _ in 0..BURST {
        poll_fn(|cx| from.poll_ready(cx)).await.expect("room");
        from.put(message).expect("a socket that is open");
    }
    poll_fn(|cx| from.poll_flush(cx)).await.expect("a socket that is open");
    for _ in 0..BURST {
        let arrival = poll_fn(|cx| to.poll_receive(cx)).await.expect("what was sent");
        assert!(matches!(black_box(arrival), Arrival::Message(_)));
    }
}

fn socket(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("socket");
    group.throughput(Throughput::Elements(BURST as u64));
    let requests = Message::HttpRequest(request_start(7, true));
    for (name, message) in [("100 request heads", requests), ("100 WebSocket messages", ws_message(7))] {
        let (mut proxy, mut client) = sockets();
        // A client masks what it sends (RFC 6455 section 5.3).
        group.bench_function(format!("{name}, proxy to client"), |bencher| {
            bencher.iter(|| runtime.block_on(burst(&mut proxy, &mut client, &message)));
        });
        group.bench_function(format!("{name}, client to proxy"), |bencher| {
            bencher.iter(|| runtime.block_on(burst(&mut client, &mut proxy, &message)));
        });
    }
    group.finish();
}

/// Answers with 100 bytes.
struct Origin;

impl Forward for Origin {
    fn forward(&self, _: Request) -> ForwardFuture<'_> {
        Box::pin(async {
            Ok(Answer::Http(Response {
                status: StatusCode::OK,
                headers: headers(&ANSWERED),
                body: Body::full(&[b'x'; 100][..]),
            }))
        })
    }
}

fn request() -> Request {
    Request {
        head: RequestHead {
            kind: RequestKind::Http,
            method: Method::GET,
            scheme: Scheme::Https,
            authority: "example.localhost".to_owned(),
            target: PathAndQuery::from_static("/index.html?page=1"),
            headers: headers(&ASKED),
        },
        body: Body::empty(),
        context: Context {
            exchange: ExchangeId(1),
            tunnel: "a".repeat(52).parse().expect("52 letters of base32"),
            visitor: None,
            tls: None,
            notes: Notes::default(),
            interim: None,
            witness: None,
        },
    }
}

async fn exchange(session: &Handle) {
    match session.forward(request()).await {
        Ok(Answer::Http(response)) => drop(response.body.collect().await.expect("the origin's body")),
        other => panic!("{other:?}"),
    }
}

/// Both drivers, all queues and both sockets; what is missing is HTTP at either end.
fn whole_session(criterion: &mut Criterion) {
    let runtime = runtime();
    let settings = Settings {
        tunnel: Some("a".repeat(52).parse().expect("52 letters of base32")),
        max_exchanges: 1024,
        max_websocket_message: 1 << 20,
        ping_after: Duration::from_secs(10),
    };
    let (proxy, _client) = runtime.block_on(async {
        let (near, far) = sockets();
        let (proxy, driver) = session::open(near, settings.clone());
        tokio::spawn(driver.run());
        let (client, driver) = session::serve(far, settings, Arc::new(Origin));
        tokio::spawn(driver.run());
        (proxy, client)
    });
    let mut group = criterion.benchmark_group("session");
    for at_once in [1, 32, 256] {
        group.throughput(Throughput::Elements(at_once));
        group.bench_function(format!("{at_once} at once"), |bencher| {
            bencher.iter(|| runtime.block_on(join_all((0..at_once).map(|_| exchange(&proxy)))));
        });
    }
    group.finish();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(EACH).warm_up_time(WARM_UP);
    targets = messages, multiplexer, header_hygiene, socket, whole_session
}
criterion_main!(benches);

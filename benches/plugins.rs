//! What plugins add to an exchange: nothing, an edit, a whole body, with instances that are used again and with one for
//! each exchange. Run `cargo xtask guests`, then `cargo bench --bench plugins`.
//!
//! One thread and no sockets: the time of an iteration is the CPU time of one exchange.

use std::{fs, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use http_body_util::BodyExt;
use tunnel::{
    exchange::{
        Answer, Body, Context, ExchangeId, Forward, ForwardFuture, Request, RequestHead, RequestKind,
        Response, Scheme,
    },
    plugin::{Chain, Config, Host, Isolation, Options, Role},
};

const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests/hostile.wasm");

/// What the guest does, by the name of the measurement.
const DEEDS: &[(&str, &str)] = &[
    ("no-op", r#"{}"#),
    ("header", r#"{"on-request": "good"}"#),
    ("whole body", r#"{"on-request": "whole", "on-request-body": "upper"}"#),
];

/// Reads the request, and answers.
struct Origin;

impl Forward for Origin {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        Box::pin(async move {
            request.body.collect().await?;
            Ok(Answer::Http(Response {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: Body::full("hello"),
            }))
        })
    }
}

/// A request as a browser sends it: twelve headers, and a form of 1 kB.
fn request() -> Request {
    let headers = [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
        ("authorization", "Basic dXNlcjpwYXNzd29yZA=="),
        ("referer", "https://example.localhost/"),
        ("cache-control", "no-cache"),
        ("content-length", "1000"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.7;proto=https"),
    ];
    Request {
        head: RequestHead {
            kind: RequestKind::Http,
            method: Method::POST,
            scheme: Scheme::Https,
            authority: "example.localhost".to_owned(),
            target: PathAndQuery::from_static("/index.html?page=1"),
            headers: headers
                .into_iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect(),
        },
        body: Body::full(vec![b'x'; 1000]),
        context: Context {
            exchange: ExchangeId(1),
            tunnel: "a".repeat(52).parse().expect("52 letters of base32"),
            visitor: None,
            tls: None,
            notes: Default::default(),
            interim: None,
            witness: None,
        },
    }
}

async fn exchange(stage: &Arc<dyn Forward>) {
    match stage.forward(request()).await {
        Ok(Answer::Http(response)) => drop(response.body.collect().await.expect("the origin's body")),
        other => panic!("{other:?}"),
    }
}

fn plugins(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Plugins tick on it.
    let _context = runtime.enter();
    let wasm = fs::read(GUEST).expect("`cargo xtask guests` built it");
    let host = Host::new(&Options::default()).expect("this machine runs WebAssembly");
    let mut group = criterion.benchmark_group("exchange");
    let mut measure = |name: &str, stage: Arc<dyn Forward>| {
        group.bench_function(name, |bencher| bencher.to_async(&runtime).iter(|| exchange(&stage)));
    };
    measure("no plugin", Arc::new(Origin));
    for (name, deed) in DEEDS {
        for (isolation, life) in [(Isolation::Pool, "reused"), (Isolation::Exchange, "fresh")] {
            let mut config = Config::new("bench", Role::Proxy);
            config.config = (*deed).to_owned();
            config.isolation = isolation;
            let plugin = runtime.block_on(host.load(&wasm, config)).expect("the guest loads");
            measure(&format!("{name}, {life}"), Arc::new(Chain::new(vec![plugin], Arc::new(Origin))));
        }
    }
    group.finish();
}

criterion_group!(benches, plugins);
criterion_main!(benches);

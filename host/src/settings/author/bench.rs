//! `tunnel plugin bench`: what a plugin adds to an exchange.

use std::{
    fmt::Write,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use http_body_util::BodyExt;

use super::{AuthorError, LoadArgs, host, read, tunnel};
use crate::{
    exchange::{
        Answer, Body, Context, ExchangeId, Forward, ForwardFuture, Request, RequestHead, RequestKind,
        Response, Scheme,
    },
    plugin::{Chain, Host, Isolation, Plugin},
};

/// `tunnel plugin bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    load: LoadArgs,

    /// Exchanges of each round
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    exchanges: u32,

    /// Bytes of the request's body
    #[arg(long, value_name = "N", default_value_t = 0)]
    body: usize,
}

/// An address for documentation (RFC 5737).
const VISITOR: std::net::Ipv4Addr = std::net::Ipv4Addr::new(203, 0, 113, 7);

/// Rounds, of which the median counts: whatever else the machine does falls into some of them.
const ROUNDS: usize = 5;

pub(super) async fn bench(args: &BenchArgs) -> Result<String, AuthorError> {
    let host = host()?;
    let wasm = read(&args.load.file)?;
    let reused = load(&host, &wasm, args, Isolation::Pool).await?;
    let fresh = load(&host, &wasm, args, Isolation::Exchange).await?;
    let stages: [(&str, Arc<dyn Forward>); 3] = [
        ("no plugin", Arc::new(Nowhere)),
        ("reused instance", Arc::new(Chain::new(vec![reused], Arc::new(Nowhere)))),
        ("fresh instance", Arc::new(Chain::new(vec![fresh], Arc::new(Nowhere)))),
    ];
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for ((_, stage), times) in stages.iter().zip(&mut times) {
            times.push(round(stage, args).await?);
        }
    }
    let medians = times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2].as_secs_f64() * 1e6
    });
    let mut out = String::new();
    let (exchanges, body) = (args.exchanges, args.body);
    let _ = writeln!(
        out,
        "microseconds an exchange, median of {ROUNDS} rounds of {exchanges}, body of {body} bytes"
    );
    for ((name, _), median) in stages.iter().zip(medians) {
        let _ = writeln!(out, "  {name:16} {median:7.2}  (+{:.2})", median - medians[0]);
    }
    Ok(out)
}

async fn load(
    host: &Host,
    wasm: &[u8],
    args: &BenchArgs,
    isolation: Isolation,
) -> Result<Arc<Plugin>, AuthorError> {
    let loaded = host.load(wasm, args.load.config(isolation)?).await;
    loaded.map_err(|error| AuthorError::Load { path: args.load.file.clone(), error })
}

/// The time of one exchange, averaged over a round.
async fn round(stage: &Arc<dyn Forward>, args: &BenchArgs) -> Result<Duration, AuthorError> {
    let head = head();
    let body = bytes::Bytes::from(vec![b'x'; args.body]);
    let tunnel = tunnel();
    let started = Instant::now();
    for n in 0..args.exchanges {
        let context = Context {
            exchange: ExchangeId(u64::from(n)),
            tunnel: tunnel.clone(),
            visitor: Some(SocketAddr::from((VISITOR, 0)).into()),
            tls: None,
            notes: Default::default(),
            interim: None,
            witness: None,
        };
        let request = Request { head: head.clone(), body: Body::full(body.clone()), context };
        let failed = |error: crate::exchange::ForwardError| {
            let cause = error.cause().map(|cause| format!(" ({cause})")).unwrap_or_default();
            AuthorError::Usage(format!("an exchange failed: {error}{cause}"))
        };
        if let Answer::Http(response) = stage.forward(request).await.map_err(failed)? {
            response.body.collect().await.map_err(failed)?;
        }
    }
    Ok(started.elapsed() / args.exchanges.max(1))
}

/// What a browser sends: twelve headers.
fn head() -> RequestHead {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
        ("authorization", "Basic dXNlcjpwYXNzd29yZA=="),
        ("referer", "https://example.localhost/"),
        ("cache-control", "no-cache"),
        ("sec-fetch-mode", "navigate"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.7;proto=https"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    RequestHead {
        kind: RequestKind::Http,
        method: Method::GET,
        scheme: Scheme::Https,
        authority: "example.localhost".to_owned(),
        target: PathAndQuery::from_static("/index.html?page=1"),
        headers,
    }
}

/// Answers at once, after it has read the request.
struct Nowhere;

impl Forward for Nowhere {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        Box::pin(async move {
            request.body.collect().await?;
            let headers =
                HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
            Ok(Answer::Http(Response { status: StatusCode::OK, headers, body: Body::full("hello") }))
        })
    }
}

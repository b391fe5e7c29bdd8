//! Plugins that misbehave, before a chain and an origin in memory.

mod application;
mod bodies;
mod heads;
mod hostile;
mod lent;
mod reload;
mod sealed;
mod sockets;
mod time;

use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use http_body_util::BodyExt;

use super::*;
use crate::exchange::{
    Answer, Body, Context, ExchangeId, Forward, ForwardError, ForwardFuture, Request, RequestHead,
    RequestKind, Response, Scheme,
};

/// The guests that `cargo xtask guests` built.
const GUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests");

fn guest(name: &str) -> Vec<u8> {
    let path = format!("{GUESTS}/{name}.wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}; run `cargo xtask guests` first"))
}

/// One engine for all tests: each has the addresses of a thousand instances.
fn host() -> &'static Host {
    static HOST: LazyLock<Host> = LazyLock::new(|| {
        let cache = Some(std::path::absolute(format!("{GUESTS}/compiled")).unwrap());
        Host::new(&Options { cache, ..Options::default() }).unwrap()
    });
    &HOST
}

/// The settings of a guest that misbehaves in a hook.
fn hostile(hook: &str, deed: &str) -> Config {
    let mut config = Config::new("hostile", Role::Proxy);
    config.config = format!("{{\"{hook}\": \"{deed}\"}}");
    config
}

async fn load(config: Config) -> Arc<Plugin> {
    host().load(&guest("hostile"), config).await.unwrap()
}

/// Remembers what reached it, and answers.
#[derive(Default)]
struct Origin {
    seen: Mutex<Vec<(RequestHead, Bytes)>>,
}

impl Origin {
    fn seen(&self) -> Vec<(RequestHead, Bytes)> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Forward for Origin {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        Box::pin(async move {
            let body = request.body.collect().await?.to_bytes();
            self.seen.lock().unwrap().push((request.head, body));
            let headers = headers(&[("content-length", "6"), ("x-origin", "yes")]);
            Ok(Answer::Http(Response { status: StatusCode::OK, headers, body: Body::full("answer") }))
        })
    }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

fn request(body: &'static str) -> Request {
    Request {
        head: RequestHead {
            kind: RequestKind::Http,
            method: Method::POST,
            scheme: Scheme::Https,
            authority: "example.localhost".to_owned(),
            target: PathAndQuery::from_static("/a%2Fb?c"),
            headers: headers(&[("x-remove", "1"), ("x-keep", "2")]),
        },
        body: Body::full(body),
        context: Context {
            exchange: ExchangeId(7),
            tunnel: "a".repeat(52).parse().unwrap(),
            visitor: None,
            tls: None,
            notes: Default::default(),
            interim: None,
            witness: None,
        },
    }
}

/// A chain of one plugin, and what it leads to.
async fn chain(config: Config) -> (Chain, Arc<Origin>) {
    let origin = Arc::new(Origin::default());
    (Chain::new(vec![load(config).await], Arc::clone(&origin) as Arc<dyn Forward>), origin)
}

/// Status, headers and body of an answer.
async fn exchange(chain: &Chain, request: Request) -> Result<(StatusCode, HeaderMap, Bytes), ForwardError> {
    match chain.forward(request).await? {
        Answer::Http(response) => {
            Ok((response.status, response.headers, response.body.collect().await?.to_bytes()))
        }
        Answer::WebSocket(_) => panic!("nobody asked for a WebSocket"),
    }
}

/// The settings of a guest that does what it is told, under a name of its own: what a plugin keeps is kept by name.
fn probe(name: &str) -> Config {
    let mut config = Config::new(name, Role::Proxy);
    // It imports everything.
    config.grant.kv = true;
    config.grant.secrets.insert("key".to_owned(), b"open sesame".to_vec());
    config.grant.http = vec!["http://127.0.0.1:1".parse().unwrap()];
    config
}

async fn load_probe(config: Config) -> Chain {
    let plugin = host().load(&guest("probe"), config).await.unwrap();
    Chain::new(vec![plugin], Arc::new(Origin::default()))
}

/// Runs the steps of a script, and gives back what came of each.
async fn run(chain: &Chain, script: serde_json::Value) -> serde_json::Value {
    let (_, _, results) = try_run(chain, script).await.unwrap();
    serde_json::from_slice(&results).unwrap()
}

async fn try_run(
    chain: &Chain,
    script: serde_json::Value,
) -> Result<(StatusCode, HeaderMap, Bytes), ForwardError> {
    let mut request = request("");
    request.head.headers.insert("script", HeaderValue::try_from(script.to_string()).unwrap());
    exchange(chain, request).await
}

/// What this thread logs while it is there.
struct Logged {
    bytes: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Logged {
    fn begin() -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&bytes);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(move || Shared(Arc::clone(&writer)))
            .finish();
        Self { bytes, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines so far of the plugin of this name.
    fn lines(&self, plugin: &str) -> Vec<String> {
        let text = String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap();
        let named = format!("plugin=\"{plugin}\"");
        text.lines().filter(|line| line.contains(&named)).map(|line| line.trim().to_owned()).collect()
    }
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

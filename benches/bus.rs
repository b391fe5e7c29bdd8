//! What an exchange costs by each bus: in memory, over Redis with its session at the visitor's node, and over Redis with its
//! session at another node. Run `cargo bench --bench bus`; it takes `redis-server`.
//!
//! Real processes over loopback, measured by the system's own accounts (proc(5), utime and stime): CPU time of all proxies,
//! the client and Redis for each request. The load generator and the origin are in this process and don't count. The cases are
//! measured in turns, several rounds each, and the medians are shown; what matters is their ratio, which a busy machine
//! changes little.

#[allow(dead_code, unused_imports)]
#[path = "../tests/harness/mod.rs"]
mod harness;

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    body::Incoming, client::conn::http1 as client, server::conn::http1 as server, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use harness::{Client, Process, Proxy, Redis};

const ROUNDS: usize = 5;

/// Visitors' connections, and requests of each round over all of them.
const LOADS: &[(usize, usize)] = &[(1, 3_000), (32, 30_000), (256, 30_000)];

/// proc(5) counts in these; every Linux of today has 100 of them in a second.
const MICROS_PER_TICK: u64 = 10_000;

/// One way from a visitor to the origin.
struct Case {
    name: &'static str,
    door: SocketAddr,
    host: String,
    /// All that works for it.
    processes: Vec<(&'static str, u32)>,
}

/// One measurement.
#[derive(Clone)]
struct Sample {
    per_second: f64,
    /// CPU time of each kind of process for one request, in microseconds.
    cpu: BTreeMap<&'static str, f64>,
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(measure());
}

async fn measure() {
    let origin = origin().await;
    let target = format!("http://{origin}");
    let redis = Redis::start().await;
    let bus = ["--rate", "off", "--bus", &redis.url()].map(str::to_owned);
    let bus: Vec<&str> = bus.iter().map(String::as_str).collect();
    let keys = tempfile::tempdir().expect("a temporary folder");
    let alone = Proxy::start(&["--rate", "off"]).await;
    let (here, there) = (Proxy::start(&bus).await, Proxy::start(&bus).await);
    let mut clients = Vec::new();
    for (proxy, key) in [(&alone, "a"), (&here, "b"), (&there, "c")] {
        let key = keys.path().join(key);
        clients.push(Client::start(&proxy.url(), &target, &key, &[]).await);
    }
    let case = |name, door: &Proxy, client: &Client, others: &[(&'static str, &Process)]| {
        let own = [("proxies", &door.process), ("client", &client.process)];
        let processes = own.iter().chain(others).map(|(kind, process)| (*kind, process.pid())).collect();
        Case { name, door: door.address, host: client.host().to_owned(), processes }
    };
    let server = ("redis", redis.process());
    let cases = [
        case("memory", &alone, &clients[0], &[]),
        case("redis, session here", &here, &clients[1], &[server]),
        case("redis, session elsewhere", &here, &clients[2], &[("proxies", &there.process), server]),
    ];
    println!(
        "{:>5} {:26} {:>9} {:>9} {:>7}  CPU us a request of each",
        "conns", "bus", "requests/s", "CPU us", "ratio"
    );
    for &(connections, requests) in LOADS {
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); cases.len()];
        for round in 0..=ROUNDS {
            for (case, samples) in cases.iter().zip(&mut samples) {
                let sample = run(case, connections, requests).await;
                // The first round fills caches and opens connections.
                if round > 0 {
                    samples.push(sample);
                }
            }
        }
        report(&cases, connections, samples);
    }
}

fn report(cases: &[Case], connections: usize, samples: Vec<Vec<Sample>>) {
    let mut base = None;
    for (case, mut samples) in cases.iter().zip(samples) {
        let total = |sample: &Sample| sample.cpu.values().sum::<f64>();
        samples.sort_by(|a, b| total(a).total_cmp(&total(b)));
        let median = &samples[samples.len() / 2];
        let ratio = total(median) / *base.get_or_insert(total(median));
        let parts: Vec<_> = median.cpu.iter().map(|(kind, cpu)| format!("{kind} {cpu:.0}")).collect();
        println!(
            "{connections:>5} {:26} {:>9.0} {:>9.0} {ratio:>7.2}  {}",
            case.name,
            median.per_second,
            total(median),
            parts.join(", ")
        );
    }
}

async fn run(case: &Case, connections: usize, requests: usize) -> Sample {
    let before = case.ticks();
    let start = Instant::now();
    let mut visitors = JoinSet::new();
    for _ in 0..connections {
        let (door, host) = (case.door, case.host.clone());
        visitors.spawn(async move { visit(door, &host, requests / connections).await });
    }
    visitors.join_all().await;
    let elapsed = start.elapsed().as_secs_f64();
    let done = (requests / connections * connections) as f64;
    let cpu = case.ticks().into_iter().map(|(kind, ticks)| {
        let used = (ticks - before[kind]) * MICROS_PER_TICK;
        (kind, used as f64 / done)
    });
    Sample { per_second: done / elapsed, cpu: cpu.collect() }
}

/// Sends requests one after the other on one connection.
async fn visit(door: SocketAddr, host: &str, requests: usize) {
    let socket = TcpStream::connect(door).await.expect("the proxy listens");
    socket.set_nodelay(true).expect("a socket takes TCP_NODELAY");
    let (mut sender, connection) =
        client::handshake(TokioIo::new(socket)).await.expect("the proxy speaks HTTP");
    let driver = tokio::spawn(connection);
    for _ in 0..requests {
        let request = http::Request::get("/").header("host", host).body(Empty::<Bytes>::new());
        let response = sender.send_request(request.expect("a request")).await.expect("an answer");
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.expect("a body");
    }
    drop(sender);
    let _ = driver.await;
}

impl Case {
    /// CPU time used so far.
    fn ticks(&self) -> BTreeMap<&'static str, u64> {
        let mut ticks = BTreeMap::new();
        for (kind, pid) in &self.processes {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
            // Behind the name, which may hold anything: the 12th and 13th field are utime and stime.
            let fields = stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace();
            let used = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number"));
            *ticks.entry(*kind).or_default() += used.sum::<u64>();
        }
        ticks
    }
}

/// Answers everything with 100 bytes.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a listening socket has an address");
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a listening socket accepts");
            let _ = socket.set_nodelay(true);
            let answer = service_fn(async |_: http::Request<Incoming>| {
                Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from_static(
                    &[b'x'; 100],
                ))))
            });
            tokio::spawn(server::Builder::new().serve_connection(TokioIo::new(socket), answer));
        }
    });
    address
}

//! The visitors: connections that send one request after the other, for a while.
//!
//! Requests are written as they are, and of answers only what ends them is read, so that this end takes as little as
//! possible of the cores that it shares with what is measured.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{
    account::Parts,
    cell::{Cell, Work},
};

/// Connections are opened and caches filled before anything counts.
const WARM_UP: Duration = Duration::from_millis(700);

/// Longest time for one bulk exchange.
const PATIENCE: Duration = Duration::from_secs(120);

const BUFFER: usize = 256 * 1024;

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// Where visitors knock, and whom they ask for.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
}

/// What came of it.
pub(crate) struct Load {
    /// Exchanges that ended in the time that counts.
    pub(crate) exchanges: u64,
    /// That time.
    pub(crate) lasted: Duration,
    /// How long each took, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// CPU time of each part of the system in that time, in microseconds.
    pub(crate) cpu: Parts,
}

/// Puts one cell's load on a system. `cpu` says what the system has used so far.
pub(crate) async fn run(
    door: &Door,
    cell: &Cell,
    lasting: Duration,
    cpu: impl Fn() -> Result<Parts>,
) -> Result<Load> {
    let phase = Arc::new(AtomicU8::new(if cell.work.is_bulk() { COUNTING } else { WARMING }));
    let mut visitors = JoinSet::new();
    let (mut before, mut start) = (cpu()?, Instant::now());
    for _ in 0..cell.connections {
        let visitor = Visitor { address: door.address, host: door.host.clone(), phase: Arc::clone(&phase) };
        visitors.spawn(visitor.visit(cell.work));
    }
    if !cell.work.is_bulk() {
        sleep(WARM_UP).await;
        (before, start) = (cpu()?, Instant::now());
        phase.store(COUNTING, Ordering::Relaxed);
        sleep(lasting).await;
        phase.store(OVER, Ordering::Relaxed);
    }
    let (mut lasted, mut after) = (start.elapsed(), cpu()?);
    let mut latency = histogram();
    while let Some(visited) =
        tokio::time::timeout(PATIENCE, visitors.join_next()).await.context("it never ended")?
    {
        latency.add(visited??).context("histograms of one kind")?;
    }
    if cell.work.is_bulk() {
        (lasted, after) = (start.elapsed(), cpu()?);
    }
    ensure!(!latency.is_empty(), "no exchange came to its end");
    let cpu = after.into_iter().map(|(part, used)| {
        let used = used - before.get(&part).copied().unwrap_or(0);
        (part, used)
    });
    Ok(Load { exchanges: latency.len(), lasted, cpu: cpu.collect(), latency })
}

/// One request, to see whether there is an answer.
pub(crate) async fn once(door: &Door) -> Result<()> {
    let mut socket = TcpStream::connect(door.address).await?;
    let head = format!("GET /100 HTTP/1.1\r\nHost: {}\r\n\r\n", door.host);
    let exchange = async {
        socket.write_all(head.as_bytes()).await?;
        receive(&mut socket, &mut vec![0; BUFFER], 100).await
    };
    tokio::time::timeout(Duration::from_secs(5), exchange).await.context("no answer")?
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are few enough")
}

struct Visitor {
    address: SocketAddr,
    host: String,
    phase: Arc<AtomicU8>,
}

impl Visitor {
    async fn visit(self, work: Work) -> Result<Histogram<u64>> {
        let socket = TcpStream::connect(self.address).await.context("nobody listens")?;
        socket.set_nodelay(true)?;
        match work {
            Work::Get(length) => {
                let head = format!("GET /{length} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
                self.exchange(socket, head, 0, length, work).await
            }
            Work::Post(length) => {
                let head =
                    format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n", self.host);
                self.exchange(socket, head, length, 0, work).await
            }
            Work::Echo(length) => self.echo(socket, length).await,
        }
    }

    async fn exchange(
        &self,
        socket: TcpStream,
        head: String,
        upload: u64,
        download: u64,
        work: Work,
    ) -> Result<Histogram<u64>> {
        let mut latency = histogram();
        let (mut reader, mut writer) = socket.into_split();
        let mut buffer = vec![0; BUFFER];
        let piece = vec![0; BUFFER];
        loop {
            let counts = match self.phase.load(Ordering::Relaxed) {
                OVER => return Ok(latency),
                phase => phase == COUNTING,
            };
            let start = Instant::now();
            let send = async {
                writer.write_all(head.as_bytes()).await?;
                let mut left = upload;
                while left > 0 {
                    let now = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
                    writer.write_all(&piece[..now]).await?;
                    left -= now as u64;
                }
                Ok::<_, anyhow::Error>(())
            };
            if upload == 0 {
                send.await?;
                receive(&mut reader, &mut buffer, download).await?;
            } else {
                tokio::try_join!(send, receive(&mut reader, &mut buffer, download))?;
            }
            if counts {
                latency.record(micros(start.elapsed())).context("a histogram that grows")?;
            }
            if work.is_bulk() {
                return Ok(latency);
            }
        }
    }

    async fn echo(&self, socket: TcpStream, length: usize) -> Result<Histogram<u64>> {
        let mut latency = histogram();
        let request = format!("ws://{}/", self.host).into_client_request()?;
        let (mut socket, _): (WebSocketStream<TcpStream>, _) =
            client_async(request, socket).await.context("no WebSocket")?;
        loop {
            let counts = match self.phase.load(Ordering::Relaxed) {
                OVER => return Ok(latency),
                phase => phase == COUNTING,
            };
            let start = Instant::now();
            socket.send(Message::binary(vec![7; length])).await?;
            match socket.next().await {
                Some(Ok(message)) if message.len() == length => {}
                other => bail!("no echo: {other:?}"),
            }
            if counts {
                latency.record(micros(start.elapsed())).context("a histogram that grows")?;
            }
        }
    }
}

/// Reads one answer of known length to its end.
async fn receive(reader: &mut (impl AsyncReadExt + Unpin), buffer: &mut [u8], expected: u64) -> Result<()> {
    let mut filled = 0;
    let (head, length) = loop {
        let read = reader.read(&mut buffer[filled..]).await?;
        ensure!(read > 0, "the connection ended before an answer");
        filled += read;
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        if let httparse::Status::Complete(head) = response.parse(&buffer[..filled])? {
            ensure!(response.code == Some(200), "the answer is {:?}", response.code);
            let length =
                response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length = length.context("the answer has no Content-Length")?;
            break (head, std::str::from_utf8(length.value)?.parse::<u64>()?);
        }
    };
    ensure!(length == expected, "the answer has {length} bytes, not {expected}");
    let mut left = length - (filled - head) as u64;
    while left > 0 {
        let read = reader.read(buffer).await?;
        ensure!(read > 0, "the answer broke off");
        left = left.checked_sub(read as u64).context("the answer is too long")?;
    }
    Ok(())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

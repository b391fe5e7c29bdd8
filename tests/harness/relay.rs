//! A network that can fail: a TCP relay between any two that goes silent, is cut, holds everything back, or is slow.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::within;

/// Pieces that may be on their way at once in one direction; then the sender has to wait, as for a full window.
const ON_THE_WAY: usize = 256;

/// What happens to connections.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Connections below this number are black holes.
    silent_below: u64,
    /// Connections below this number are closed.
    cut_below: u64,
    /// Nothing gets through, of any connection; what is sent waits, as what TCP sends again does.
    held: bool,
    /// How late each piece is, at least, and by how much more at most.
    delay: Duration,
    jitter: Duration,
}

/// Where connections go.
#[derive(Debug, Clone)]
enum Target {
    All(SocketAddr),
    /// Each by its number; further ones wait.
    Each(Vec<SocketAddr>),
}

impl Target {
    fn of(&self, number: u64) -> Option<SocketAddr> {
        match self {
            Self::All(address) => Some(*address),
            Self::Each(addresses) => addresses.get(usize::try_from(number).ok()?).copied(),
        }
    }
}

/// A relay on a port of its own; stops when dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    target: watch::Sender<Target>,
    faults: watch::Sender<Faults>,
    accepted: watch::Sender<u64>,
    carried: watch::Sender<u64>,
    _task: JoinSet<()>,
}

impl Relay {
    /// Starts a relay; connections wait until [`Self::lead_to`] or [`Self::lead_next_to`] says where they go.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a listening socket has an address");
        let target = watch::Sender::new(Target::Each(Vec::new()));
        let faults = watch::Sender::new(Faults::default());
        let (accepted, carried) = (watch::Sender::new(0), watch::Sender::new(0));
        let mut task = JoinSet::new();
        let way = Way { target: target.clone(), faults: faults.clone(), carried: carried.clone() };
        task.spawn(accept_all(listener, way, accepted.clone()));
        Self { address, target, faults, accepted, carried, _task: task }
    }

    /// The relay's own URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where connections go, those that wait too.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(Target::All(target));
    }

    /// Where the next connections go, one each, as a load balancer that takes turns would have it; those after them wait
    /// until more is said.
    pub(crate) fn lead_next_to(&self, targets: &[SocketAddr]) {
        self.target.send_modify(|target| match target {
            Target::Each(addresses) => addresses.extend(targets),
            Target::All(_) => panic!("all connections lead to one place"),
        });
    }

    /// Makes every connection of now a black hole: what is sent vanishes, and nobody is told. Later ones work.
    pub(crate) fn silence(&self) {
        let count = self.accepted();
        self.faults.send_modify(|faults| faults.silent_below = count);
    }

    /// Breaks every connection of now. Later ones work.
    pub(crate) fn cut(&self) {
        let count = self.accepted();
        self.faults.send_modify(|faults| faults.cut_below = count);
    }

    /// Holds back whatever comes, on connections of now and later, without a word; [`Self::release`] lets it through,
    /// as late as it is.
    pub(crate) fn hold(&self) {
        self.faults.send_modify(|faults| faults.held = true);
    }

    /// Ends a [`Self::hold`].
    pub(crate) fn release(&self) {
        self.faults.send_modify(|faults| faults.held = false);
    }

    /// Makes every piece late from now on, by `delay` and up to `jitter` more; none overtakes another. Above TCP that is
    /// what loss looks like too: the lost piece comes late, and all behind it wait.
    pub(crate) fn slow(&self, delay: Duration, jitter: Duration) {
        self.faults.send_modify(|faults| (faults.delay, faults.jitter) = (delay, jitter));
    }

    /// Waits until so many more pieces, of either direction, have passed.
    pub(crate) async fn carries(&self, pieces: u64) {
        let mut carried = self.carried.subscribe();
        let enough = *carried.borrow() + pieces;
        let carried = within("traffic through the relay", carried.wait_for(|carried| *carried >= enough));
        carried.await.expect("the counter lives as long as the relay");
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> u64 {
        *self.accepted.borrow()
    }
}

/// What every connection needs to know.
#[derive(Clone)]
struct Way {
    target: watch::Sender<Target>,
    faults: watch::Sender<Faults>,
    carried: watch::Sender<u64>,
}

impl Way {
    async fn free(&self) {
        let mut faults = self.faults.subscribe();
        faults.wait_for(|faults| !faults.held).await.expect("the relay's own sender lives here");
    }

    /// When a piece that comes now is due. Chance differs from run to run; no test counts on a certain delay.
    fn due(&self) -> Instant {
        let Faults { delay, jitter, .. } = *self.faults.borrow();
        Instant::now() + delay + jitter.mul_f64(rand::random())
    }
}

async fn accept_all(listener: TcpListener, way: Way, accepted: watch::Sender<u64>) {
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.expect("a listening socket accepts");
        let number = *accepted.borrow();
        accepted.send_replace(number + 1);
        connections.spawn(carry(near, way.clone(), number));
    }
}

async fn carry(near: TcpStream, way: Way, number: u64) {
    let mut target = way.target.subscribe();
    let known = target.wait_for(|target| target.of(number).is_some()).await;
    let Some(address) = known.ok().and_then(|target| target.of(number)) else { return };
    way.free().await;
    let Ok(far) = TcpStream::connect(address).await else { return };
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("a socket takes TCP_NODELAY");
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let mut faults = way.faults.subscribe();
    tokio::select! {
        _ = async { tokio::join!(pump(near_in, far_out, &way, number), pump(far_in, near_out, &way, number)) } => {}
        _ = faults.wait_for(|faults| number < faults.cut_below) => {}
    }
}

/// One direction of one connection.
async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, way: &Way, number: u64) {
    let (pieces, queue) = mpsc::channel(ON_THE_WAY);
    tokio::join!(take_in(from, pieces, way, number), let_out(queue, to, way));
}

/// Reads pieces, and says when each is due.
async fn take_in(mut from: OwnedReadHalf, pieces: mpsc::Sender<(Instant, Vec<u8>)>, way: &Way, number: u64) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        let silent = number < way.faults.borrow().silent_below;
        match read {
            // A black hole passes the end on no more than the bytes.
            Ok(0) | Err(_) if silent => return std::future::pending().await,
            Ok(1..) if silent => {}
            Ok(length @ 1..) if pieces.send((way.due(), buffer[..length].to_vec())).await.is_ok() => {}
            // The queue's end is the connection's.
            _ => return,
        }
    }
}

/// Writes pieces when they are due, and then the end.
async fn let_out(mut queue: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf, way: &Way) {
    while let Some((due, piece)) = queue.recv().await {
        if due > Instant::now() {
            // Not a test that waits for time, but a slow network that is played.
            let _ = timeout_at(due, std::future::pending::<()>()).await;
        }
        way.free().await;
        if to.write_all(&piece).await.is_err() {
            return;
        }
        way.carried.send_modify(|pieces| *pieces += 1);
    }
    way.free().await;
    // Where it fails the other side is gone already.
    let _ = to.shutdown().await;
}

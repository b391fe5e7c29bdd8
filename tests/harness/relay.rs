//! A network that can fail: a TCP relay between client and proxy that goes silent, or is cut.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use super::within;

/// What happens to connections that are open when it is said.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Connections below this number are black holes.
    silent_below: u64,
    /// Connections below this number are closed.
    cut_below: u64,
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

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: &Way, number: u64) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        let silent = number < way.faults.borrow().silent_below;
        match read {
            // A black hole passes the end on no more than the bytes.
            Ok(0) | Err(_) if silent => return std::future::pending().await,
            Ok(1..) if silent => {}
            Ok(length @ 1..) if to.write_all(&buffer[..length]).await.is_ok() => {
                way.carried.send_modify(|pieces| *pieces += 1);
            }
            _ => return drop(to.shutdown().await),
        }
    }
}

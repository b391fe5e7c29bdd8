//! A way to the tests' Redis that can be cut and held up.

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

use crate::redis::{Redis, tests};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    /// What is said stays on the way.
    Held,
    /// Connections end, and new ones at once.
    Cut,
}

pub(super) struct Relay {
    pub(super) redis: Redis,
    way: watch::Sender<Way>,
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let real = tests::redis().address().to_string();
        let (_, real) = real.split_once("://").unwrap();
        let (real, database) = real.split_once('/').unwrap();
        let redis = Redis::new(format!("redis://127.0.0.1:{port}/{database}").parse().unwrap());
        let (way, seen) = watch::channel(Way::Open);
        let task = tokio::spawn(accept(listener, real.to_owned(), seen));
        Self { redis, way, _task: AbortOnDropHandle::new(task) }
    }

    pub(super) fn turn(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn accept(listener: TcpListener, real: String, way: watch::Receiver<Way>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        if *way.borrow() != Way::Cut {
            let far = TcpStream::connect(&real).await.unwrap();
            tokio::spawn(join(near, far, way.clone()));
        }
    }
}

async fn join(near: TcpStream, far: TcpStream, mut way: watch::Receiver<Way>) {
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    tokio::select! {
        () = pump(from_near, to_far, way.clone()) => {}
        () = pump(from_far, to_near, way.clone()) => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
) {
    let mut bytes = vec![0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if way.wait_for(|way| *way == Way::Open).await.is_err() || to.write_all(&bytes[..read]).await.is_err()
        {
            return;
        }
    }
}

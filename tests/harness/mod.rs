//! What the end-to-end tests stand on: the real program as child processes, and both ends of its wire.
//!
//! The two ends are played by the test itself, line by line, over real sockets: it sends what a visitor sends, takes
//! what the origin gets, answers, and reads what the visitor sees. Kernel buffers make that work in one task, so that
//! a test reads as a dialogue. Nothing here knows how the program works inside.
//!
//! Whatever is awaited here ends within [`PATIENCE`] or fails with a sentence; when a test fails, all output of the
//! programs that it started follows.

pub(crate) mod applicant;
pub(crate) mod certificate;
pub(crate) mod cluster;
pub(crate) mod collector;
pub(crate) mod door;
pub(crate) mod exposition;
pub(crate) mod grpc;
pub(crate) mod guest;
pub(crate) mod h2;
pub(crate) mod http1;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod netns;
pub(crate) mod nginx;
pub(crate) mod origin;
pub(crate) mod pattern;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod relay;
pub(crate) mod secured;
pub(crate) mod tunnel;
pub(crate) mod v1;
pub(crate) mod websocket;

pub(crate) use cluster::Cluster;
pub(crate) use collector::Collector;
pub(crate) use door::Door;
pub(crate) use exposition::Exposition;
pub(crate) use guest::{compiled, guest};
pub(crate) use http1::Wire;
pub(crate) use message::{Head, Reply, Request};
pub(crate) use nginx::Nginx;
pub(crate) use origin::Origin;
pub(crate) use pattern::Pattern;
pub(crate) use process::{Exit, Process, Signal, program};
pub(crate) use redis::Redis;
pub(crate) use relay::Relay;
pub(crate) use tunnel::{Client, Proxy, Setup, Tunnel, path_text};
pub(crate) use v1::OldClient;
pub(crate) use websocket::{Frame, Frames, Opcode};

use std::{future::Future, time::Duration};

/// How long a test waits for anything. Nothing should ever take as long; only a failure is waited out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The future's output, or a failure that says what was waited for.
#[track_caller]
pub(crate) fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> + use<F> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("waited {} s in vain for {what} ({caller})", PATIENCE.as_secs()),
        }
    }
}

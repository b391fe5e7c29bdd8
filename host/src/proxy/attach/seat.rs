//! A session in its place: known to the bus by its names, until it ends.

use std::{net::SocketAddr, sync::Arc};

use super::super::{Event, Shared, roster::Listed};
use crate::{
    bus::{Registration, Seat, SeatState, TooManySeats},
    exchange::{Forward, ForwardFuture, Request},
    session::{self, Driver, Ended, Handle, State, Transport},
    wire::{MAX_EXCHANGES, TunnelName},
};

/// The bounds of a session with a client.
pub(super) fn settings(shared: &Shared, name: &TunnelName) -> session::Settings {
    let limits = &shared.config.limits;
    session::Settings {
        tunnel: Some(name.clone()),
        max_exchanges: limits.max_exchanges.min(MAX_EXCHANGES),
        max_websocket_message: limits.max_websocket_message,
        ping_after: limits.ping_after,
    }
}

/// Takes a seat for a name, and waits until other nodes know: before the client hears that it has one. What visitors ask
/// meanwhile waits behind the answer in the session's own queue.
pub(super) async fn take(
    shared: &Shared,
    name: &TunnelName,
    handle: &Handle,
    listed: &Listed,
) -> Result<Registration, TooManySeats> {
    let number = listed.entry.number;
    let seat = shared.bus.register(name.clone(), Arc::new(SessionSeat { handle: handle.clone(), number }))?;
    listed.entry.named(name);
    shared.bus.announced(name).await;
    Ok(seat)
}

/// Tells the operator.
pub(super) fn report_registered(shared: &Shared, tunnel: TunnelName, client: SocketAddr) {
    let public_url = shared.public_url_of(&tunnel);
    (shared.config.report)(Event::Registered { tunnel, public_url, client });
}

/// Tells the operator.
pub(super) fn report_unregistered(shared: &Shared, tunnel: TunnelName, ended: &Ended) {
    (shared.config.report)(Event::Unregistered { tunnel, reason: ended.to_string() });
}

/// Runs a session to its end. A node that drains tells it, and at the end of its patience closes it.
pub(super) async fn run<T: Transport>(shared: &Shared, handle: &Handle, driver: Driver<T>) -> Ended {
    let watch = async {
        shared.drain.cancelled().await;
        handle.go_away(shared.config.grace_period);
        shared.kill.cancelled().await;
        handle.close();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = driver.run() => ended,
        () = watch => unreachable!("it waits for the driver"),
    }
}

/// A session as the bus sees it.
struct SessionSeat {
    handle: Handle,
    /// In the list of sessions.
    number: u64,
}

impl Forward for SessionSeat {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        if let Some(witness) = &request.context.witness {
            witness.taken(self.number);
        }
        self.handle.forward(request)
    }
}

impl Seat for SessionSeat {
    fn busy(&self) -> usize {
        self.handle.busy()
    }

    fn state(&self) -> SeatState {
        match self.handle.state() {
            State::Open => SeatState::Open,
            State::Leaving => SeatState::Leaving,
            State::Draining | State::Ended => SeatState::Closed,
        }
    }
}

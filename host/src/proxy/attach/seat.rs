//! A session in its place: known to the bus by its names, until it ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::super::{
    Event, Shared,
    admission::{Applicant, Dismissal, NotAdmitted, Seated},
    cores::Core,
    roster::Listed,
};
use crate::{
    bus::{Registration, Seat, SeatState, TooManySeats},
    exchange::{Forward, ForwardFuture, Request},
    session::{self, Driver, Ended, Handle, State, Transport},
    wire::{MAX_EXCHANGES, TunnelName, message::Refusal},
};

/// How long a client whose session was ended may take to read why.
const LAST_READ: Duration = Duration::from_millis(500);

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

/// What a session has while it lives under a name.
pub(super) struct Taken {
    _place: Seated,
    _seat: Registration,
}

/// Why it has none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSeat {
    #[error(transparent)]
    Full(TooManySeats),
    #[error(transparent)]
    NotAdmitted(NotAdmitted),
}

impl NoSeat {
    /// What is counted.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Full(_) => "too-many-sessions",
            Self::NotAdmitted(_) => "refused",
        }
    }
}

impl From<NoSeat> for Refusal {
    fn from(reason: NoSeat) -> Self {
        match reason {
            NoSeat::Full(full) => Self {
                code: "too-many-sessions".into(),
                text: full.to_string(),
                retry: true,
                retry_after: None,
            },
            NoSeat::NotAdmitted(reason) => reason.into(),
        }
    }
}

/// Takes a seat for a name, and waits until other nodes know: before the client hears that it has one. What visitors ask
/// meanwhile waits behind the answer in the session's own queue.
///
/// When the session has to end because the client may not have it any more, the dismissal is given.
pub(super) async fn take(
    shared: &Shared,
    applicant: &Applicant,
    handle: &Handle,
    dismissal: &Arc<Dismissal>,
    listed: &Listed,
) -> Result<Taken, NoSeat> {
    let (name, admission) = (&applicant.name, &shared.admission);
    let place = admission.place(applicant, handle, dismissal).map_err(NoSeat::NotAdmitted)?;
    if name.is_chosen() && shared.bus.tie(name, &applicant.key).await.is_err() {
        let taken = NotAdmitted::Taken { name: name.clone() };
        admission.refused(taken.code());
        return Err(NoSeat::NotAdmitted(taken));
    }
    let number = listed.entry.number;
    // The session's driver is started where this runs.
    let seat = SessionSeat { handle: handle.clone(), number, core: Core::here() };
    let seat = shared.bus.register(name.clone(), Arc::new(seat));
    let seat = seat.map_err(NoSeat::Full).inspect_err(|_| admission.refused("too-many-sessions"))?;
    listed.entry.named(name);
    shared.bus.announced(name).await;
    admission.accepted();
    Ok(Taken { _place: place, _seat: seat })
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

/// Runs a session to its end. A node that drains tells it, and at the end of its patience closes it. One that was dismissed is
/// dropped if its client doesn't read.
pub(super) async fn run<T: Transport>(
    shared: &Shared,
    handle: &Handle,
    driver: Driver<T>,
    dismissal: &Arc<Dismissal>,
) -> Ended {
    let watch = async {
        shared.drain.cancelled().await;
        handle.go_away(shared.config.grace_period);
        shared.kill.cancelled().await;
        handle.close();
        std::future::pending::<()>().await;
    };
    let thrown_out = async {
        let reason = dismissal.given().await;
        tokio::time::sleep(LAST_READ).await;
        reason
    };
    tokio::select! {
        ended = driver.run() => ended,
        reason = thrown_out => Ended::Dismissed(reason),
        () = watch => unreachable!("it waits for the driver"),
    }
}

/// A session as the bus sees it.
struct SessionSeat {
    handle: Handle,
    /// In the list of sessions.
    number: u64,
    core: Option<Core>,
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

    fn core(&self) -> Option<usize> {
        self.core.map(Core::number)
    }
}

//! What every bus must do, written once; each backend runs [`suite!`] over itself.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode};

use super::{Bus, Registration, Seat, SeatState};
use crate::{
    exchange::{
        Answer, Body, Context, ErrorKind, ExchangeId, Forward, ForwardError, ForwardFuture, Request,
        RequestHead, RequestKind, Response, Scheme,
    },
    wire::TunnelName,
};

/// Seats for one name that a bus under test must allow.
pub(crate) const MAX_SEATS: usize = 3;

/// What comes of forwarding.
pub(crate) type Answered = Result<Answer, ForwardError>;

/// A seat, or any other stage, made of a function.
pub(crate) struct Fake<F>(F);

impl<F, Fut> Fake<F>
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answered> + Send + 'static,
{
    pub(crate) fn new(answer: F) -> Arc<Self> {
        Arc::new(Self(answer))
    }
}

impl<F, Fut> Forward for Fake<F>
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answered> + Send + 'static,
{
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        Box::pin((self.0)(request))
    }
}

impl<F> Seat for Fake<F>
where
    Self: Forward,
{
    fn busy(&self) -> usize {
        0
    }

    fn state(&self) -> SeatState {
        SeatState::Open
    }
}

/// A bus from both of its ends. Between nodes they are two buses.
pub(crate) struct Ends {
    /// Where visitors come.
    here: Arc<dyn Bus>,
    /// Where seats are taken.
    there: Arc<dyn Bus>,
    /// Waits until `here` knows what was told there.
    caught_up: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    salt: u64,
}

impl Ends {
    /// Visitors and seats at one node.
    pub(crate) fn same(bus: Arc<dyn Bus>) -> Self {
        Self::of(bus.clone(), bus, || Box::pin(std::future::ready(())))
    }

    /// Visitors and seats at two nodes.
    pub(crate) fn of(
        here: Arc<dyn Bus>,
        there: Arc<dyn Bus>,
        caught_up: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        // Tests may share a server.
        let salt = getrandom::u64().expect("randomness");
        Self { here, there, caught_up: Box::new(caught_up), salt }
    }

    fn name(&self, n: u64) -> TunnelName {
        name(self.salt.wrapping_add(n))
    }

    async fn register(&self, n: u64, seat: Arc<FakeSeat>) -> Registration {
        let registration = self.there.register(self.name(n), seat).unwrap();
        self.settle(n).await;
        registration
    }

    async fn unregister(&self, n: u64, registration: Registration) {
        drop(registration);
        self.settle(n).await;
    }

    async fn settle(&self, n: u64) {
        self.there.announced(&self.name(n)).await;
        (self.caught_up)().await;
    }

    async fn answers(&self, n: u64) -> String {
        match self.here.forward(request(self.name(n))).await.unwrap() {
            Answer::Http(response) => {
                let body = http_body_util::BodyExt::collect(response.body).await.unwrap().to_bytes();
                assert_eq!(body, "whole", "the request arrives whole, also at the second seat");
                response.headers["seat"].to_str().unwrap().to_owned()
            }
            Answer::WebSocket(_) => panic!("not asked for"),
        }
    }

    async fn fails(&self, n: u64) -> ErrorKind {
        fails(&*self.here, self.name(n)).await
    }
}

/// Makes a test of each item of the contract; the argument is a future of the ends of an empty bus.
macro_rules! suite {
    ($bus:expr) => {
        $crate::bus::contract::suite!($bus;
            routes_by_name, unknown_then_offline_then_back, least_busy_first, equals_take_turns,
            closed_seats_are_passed_over, leaving_seats_are_the_last_resort, unsent_is_tried_on_another, sent_is_never_tried_again,
            all_seats_refuse, too_many_seats, late_drop_keeps_the_newer);
    };
    ($bus:expr; $($test:ident),*) => {
        mod contract_suite {
            use super::*;
            $(#[tokio::test]
            async fn $test() {
                contract::$test(&$bus.await).await;
            })*
        }
    };
}
pub(crate) use suite;

/// A seat that answers with its own name in the header `seat`.
pub(crate) struct FakeSeat {
    name: &'static str,
    busy: AtomicUsize,
    state: Mutex<SeatState>,
    calls: AtomicUsize,
    fails: Option<(ErrorKind, bool)>,
}

pub(crate) fn seat(name: &'static str) -> Arc<FakeSeat> {
    failing(name, None)
}

fn failing(name: &'static str, fails: Option<(ErrorKind, bool)>) -> Arc<FakeSeat> {
    let (busy, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Arc::new(FakeSeat { name, busy, state: Mutex::new(SeatState::Open), calls, fails })
}

impl FakeSeat {
    fn becomes(&self, state: SeatState) {
        *self.state.lock().unwrap() = state;
    }
}

impl Seat for FakeSeat {
    fn busy(&self) -> usize {
        self.busy.load(Ordering::SeqCst)
    }

    fn state(&self) -> SeatState {
        *self.state.lock().unwrap()
    }
}

impl Forward for FakeSeat {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match self.fails {
                Some((kind, true)) => Err(ForwardError::new(kind, "as told").unsent(request)),
                Some((kind, false)) => Err(ForwardError::new(kind, "as told")),
                None => {
                    let mut headers = HeaderMap::new();
                    headers.insert("seat", self.name.parse().unwrap());
                    Ok(Answer::Http(Response { status: StatusCode::OK, headers, body: request.body }))
                }
            }
        })
    }
}

pub(crate) fn name(n: u64) -> TunnelName {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&n.to_be_bytes());
    base32::encode(base32::Alphabet::Rfc4648Lower { padding: false }, &digest).parse().unwrap()
}

pub(crate) fn request(tunnel: TunnelName) -> Request {
    Request {
        head: RequestHead {
            kind: RequestKind::Http,
            method: Method::POST,
            scheme: Scheme::Http,
            authority: format!("{tunnel}.localhost"),
            target: "/".parse().unwrap(),
            headers: HeaderMap::new(),
        },
        body: Body::full("whole"),
        context: Context {
            exchange: ExchangeId(1),
            tunnel,
            visitor: None,
            tls: None,
            notes: Default::default(),
            interim: None,
            witness: None,
        },
    }
}

pub(crate) async fn fails(bus: &dyn Bus, tunnel: TunnelName) -> ErrorKind {
    bus.forward(request(tunnel)).await.unwrap_err().kind()
}

pub(crate) async fn routes_by_name(ends: &Ends) {
    let _a = ends.register(1, seat("a")).await;
    let _b = ends.register(2, seat("b")).await;
    assert_eq!(ends.answers(2).await, "b");
    assert_eq!(ends.answers(1).await, "a");
}

pub(crate) async fn unknown_then_offline_then_back(ends: &Ends) {
    assert_eq!(ends.fails(1).await, ErrorKind::NoSuchTunnel);
    let a = ends.register(1, seat("a")).await;
    ends.unregister(1, a).await;
    assert_eq!(ends.fails(1).await, ErrorKind::Offline);
    let _b = ends.register(1, seat("b")).await;
    assert_eq!(ends.answers(1).await, "b");
}

pub(crate) async fn least_busy_first(ends: &Ends) {
    let seats = [seat("a"), seat("b"), seat("c")];
    let _guards = seats.each_ref().map(|seat| ends.there.register(ends.name(1), seat.clone()).unwrap());
    ends.settle(1).await;
    for (busy, expected) in [([2, 1, 3], "b"), ([2, 5, 0], "c"), ([7, 8, 9], "a")] {
        for (seat, busy) in seats.iter().zip(busy) {
            seat.busy.store(busy, Ordering::SeqCst);
        }
        for _ in 0..3 {
            assert_eq!(ends.answers(1).await, expected);
        }
    }
}

pub(crate) async fn equals_take_turns(ends: &Ends) {
    let seats = [seat("a"), seat("b"), seat("c")];
    let _guards = seats.each_ref().map(|seat| ends.there.register(ends.name(1), seat.clone()).unwrap());
    ends.settle(1).await;
    for _ in 0..9 {
        ends.answers(1).await;
    }
    assert_eq!(seats.map(|seat| seat.calls.load(Ordering::SeqCst)), [3, 3, 3]);
}

pub(crate) async fn closed_seats_are_passed_over(ends: &Ends) {
    let (a, b) = (seat("a"), seat("b"));
    let _a = ends.register(1, a.clone()).await;
    let _b = ends.register(1, b.clone()).await;
    a.becomes(SeatState::Closed);
    b.busy.store(100, Ordering::SeqCst);
    assert_eq!(ends.answers(1).await, "b");
    b.becomes(SeatState::Closed);
    assert_eq!(ends.fails(1).await, ErrorKind::Offline);
}

pub(crate) async fn leaving_seats_are_the_last_resort(ends: &Ends) {
    let (a, b) = (seat("a"), seat("b"));
    a.becomes(SeatState::Leaving);
    b.busy.store(100, Ordering::SeqCst);
    let _a = ends.register(1, a).await;
    assert_eq!(ends.answers(1).await, "a");
    let _b = ends.register(1, b.clone()).await;
    assert_eq!(ends.answers(1).await, "b");
    b.becomes(SeatState::Closed);
    assert_eq!(ends.answers(1).await, "a");
}

pub(crate) async fn unsent_is_tried_on_another(ends: &Ends) {
    let gone = failing("gone", Some((ErrorKind::TunnelGone, true)));
    let b = seat("b");
    b.busy.store(100, Ordering::SeqCst);
    let _a = ends.register(1, gone.clone()).await;
    let _b = ends.register(1, b).await;
    assert_eq!(ends.answers(1).await, "b");
    assert_eq!(gone.calls.load(Ordering::SeqCst), 1);
}

pub(crate) async fn sent_is_never_tried_again(ends: &Ends) {
    let b = seat("b");
    b.busy.store(100, Ordering::SeqCst);
    let _a = ends.register(1, failing("gone", Some((ErrorKind::TunnelGone, false)))).await;
    let _b = ends.register(1, b.clone()).await;
    assert_eq!(ends.fails(1).await, ErrorKind::TunnelGone);
    assert_eq!(b.calls.load(Ordering::SeqCst), 0);
}

pub(crate) async fn all_seats_refuse(ends: &Ends) {
    let full = failing("full", Some((ErrorKind::TooManyExchanges, true)));
    let _a = ends.register(1, full.clone()).await;
    let _b = ends.register(1, full.clone()).await;
    assert_eq!(ends.fails(1).await, ErrorKind::TooManyExchanges);
    assert_eq!(full.calls.load(Ordering::SeqCst), 2, "each seat is tried once");
    let _c = ends.register(2, failing("gone", Some((ErrorKind::TunnelGone, true)))).await;
    assert_eq!(ends.fails(2).await, ErrorKind::Offline, "nothing was sent, so trying later is safe");
}

pub(crate) async fn too_many_seats(ends: &Ends) {
    let mut guards: Vec<_> =
        (0..MAX_SEATS).map(|_| ends.there.register(ends.name(1), seat("a")).unwrap()).collect();
    assert_eq!(
        ends.there.register(ends.name(1), seat("b")).err(),
        Some(super::TooManySeats { limit: MAX_SEATS })
    );
    assert!(ends.there.register(ends.name(2), seat("b")).is_ok(), "the limit is for each name");
    guards.pop();
    assert!(ends.there.register(ends.name(1), seat("b")).is_ok());
}

pub(crate) async fn late_drop_keeps_the_newer(ends: &Ends) {
    let same = seat("same");
    let old = ends.register(1, same.clone()).await;
    let _new = ends.register(1, same).await;
    ends.unregister(1, old).await;
    assert_eq!(ends.answers(1).await, "same");
}

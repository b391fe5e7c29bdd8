//! What every bus must do, written once; each backend runs [`suite!`] over itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use http::{HeaderMap, Method, StatusCode};

use super::{Bus, Seat};
use crate::{
    exchange::{
        Answer, Body, Context, ErrorKind, ExchangeId, Forward, ForwardError, ForwardFuture, Request,
        RequestHead, RequestKind, Response, Scheme,
    },
    wire::TunnelName,
};

/// Seats for one name that a bus under test must allow.
pub(crate) const MAX_SEATS: usize = 3;

/// Makes a test of each item of the contract; the argument is a future of an empty bus.
macro_rules! suite {
    ($bus:expr) => {
        $crate::bus::contract::suite!($bus;
            routes_by_name, unknown_then_offline_then_back, least_busy_first, equals_take_turns,
            closed_seats_are_passed_over, unsent_is_tried_on_another, sent_is_never_tried_again,
            all_seats_refuse, too_many_seats, late_drop_keeps_the_newer);
    };
    ($bus:expr; $($test:ident),*) => {
        mod contract_suite {
            use super::*;
            $(#[tokio::test]
            async fn $test() {
                contract::$test(&*$bus.await).await;
            })*
        }
    };
}
pub(crate) use suite;

/// A seat that answers with its own name in the header `seat`.
pub(crate) struct FakeSeat {
    name: &'static str,
    busy: AtomicUsize,
    open: AtomicBool,
    calls: AtomicUsize,
    fails: Option<(ErrorKind, bool)>,
}

pub(crate) fn seat(name: &'static str) -> Arc<FakeSeat> {
    failing(name, None)
}

fn failing(name: &'static str, fails: Option<(ErrorKind, bool)>) -> Arc<FakeSeat> {
    let (busy, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Arc::new(FakeSeat { name, busy, open: AtomicBool::new(true), calls, fails })
}

impl Seat for FakeSeat {
    fn busy(&self) -> usize {
        self.busy.load(Ordering::SeqCst)
    }

    fn open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
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
            notes: Default::default(),
            interim: None,
        },
    }
}

async fn answers(bus: &dyn Bus, tunnel: TunnelName) -> String {
    match bus.forward(request(tunnel)).await.unwrap() {
        Answer::Http(response) => {
            let body = http_body_util::BodyExt::collect(response.body).await.unwrap().to_bytes();
            assert_eq!(body, "whole", "the request arrives whole, also at the second seat");
            response.headers["seat"].to_str().unwrap().to_owned()
        }
        Answer::WebSocket(_) => panic!("not asked for"),
    }
}

pub(crate) async fn fails(bus: &dyn Bus, tunnel: TunnelName) -> ErrorKind {
    bus.forward(request(tunnel)).await.unwrap_err().kind()
}

pub(crate) async fn routes_by_name(bus: &dyn Bus) {
    let _a = bus.register(name(1), seat("a")).unwrap();
    let _b = bus.register(name(2), seat("b")).unwrap();
    assert_eq!(answers(bus, name(2)).await, "b");
    assert_eq!(answers(bus, name(1)).await, "a");
}

pub(crate) async fn unknown_then_offline_then_back(bus: &dyn Bus) {
    assert_eq!(fails(bus, name(1)).await, ErrorKind::NoSuchTunnel);
    drop(bus.register(name(1), seat("a")).unwrap());
    assert_eq!(fails(bus, name(1)).await, ErrorKind::Offline);
    let _b = bus.register(name(1), seat("b")).unwrap();
    assert_eq!(answers(bus, name(1)).await, "b");
}

pub(crate) async fn least_busy_first(bus: &dyn Bus) {
    let seats = [seat("a"), seat("b"), seat("c")];
    let _guards = seats.each_ref().map(|seat| bus.register(name(1), seat.clone()).unwrap());
    for (busy, expected) in [([2, 1, 3], "b"), ([2, 5, 0], "c"), ([7, 8, 9], "a")] {
        for (seat, busy) in seats.iter().zip(busy) {
            seat.busy.store(busy, Ordering::SeqCst);
        }
        for _ in 0..3 {
            assert_eq!(answers(bus, name(1)).await, expected);
        }
    }
}

pub(crate) async fn equals_take_turns(bus: &dyn Bus) {
    let seats = [seat("a"), seat("b"), seat("c")];
    let _guards = seats.each_ref().map(|seat| bus.register(name(1), seat.clone()).unwrap());
    for _ in 0..9 {
        answers(bus, name(1)).await;
    }
    assert_eq!(seats.map(|seat| seat.calls.load(Ordering::SeqCst)), [3, 3, 3]);
}

pub(crate) async fn closed_seats_are_passed_over(bus: &dyn Bus) {
    let (a, b) = (seat("a"), seat("b"));
    let _a = bus.register(name(1), a.clone()).unwrap();
    let _b = bus.register(name(1), b.clone()).unwrap();
    a.open.store(false, Ordering::SeqCst);
    b.busy.store(100, Ordering::SeqCst);
    assert_eq!(answers(bus, name(1)).await, "b");
    b.open.store(false, Ordering::SeqCst);
    assert_eq!(fails(bus, name(1)).await, ErrorKind::Offline);
}

pub(crate) async fn unsent_is_tried_on_another(bus: &dyn Bus) {
    let gone = failing("gone", Some((ErrorKind::TunnelGone, true)));
    let b = seat("b");
    b.busy.store(100, Ordering::SeqCst);
    let _a = bus.register(name(1), gone.clone()).unwrap();
    let _b = bus.register(name(1), b).unwrap();
    assert_eq!(answers(bus, name(1)).await, "b");
    assert_eq!(gone.calls.load(Ordering::SeqCst), 1);
}

pub(crate) async fn sent_is_never_tried_again(bus: &dyn Bus) {
    let b = seat("b");
    b.busy.store(100, Ordering::SeqCst);
    let _a = bus.register(name(1), failing("gone", Some((ErrorKind::TunnelGone, false)))).unwrap();
    let _b = bus.register(name(1), b.clone()).unwrap();
    assert_eq!(fails(bus, name(1)).await, ErrorKind::TunnelGone);
    assert_eq!(b.calls.load(Ordering::SeqCst), 0);
}

pub(crate) async fn all_seats_refuse(bus: &dyn Bus) {
    let full = failing("full", Some((ErrorKind::TooManyExchanges, true)));
    let _a = bus.register(name(1), full.clone()).unwrap();
    let _b = bus.register(name(1), full.clone()).unwrap();
    assert_eq!(fails(bus, name(1)).await, ErrorKind::TooManyExchanges);
    assert_eq!(full.calls.load(Ordering::SeqCst), 2, "each seat is tried once");
    let _c = bus.register(name(2), failing("gone", Some((ErrorKind::TunnelGone, true)))).unwrap();
    assert_eq!(fails(bus, name(2)).await, ErrorKind::Offline, "nothing was sent, so trying later is safe");
}

pub(crate) async fn too_many_seats(bus: &dyn Bus) {
    let mut guards: Vec<_> = (0..MAX_SEATS).map(|_| bus.register(name(1), seat("a")).unwrap()).collect();
    assert_eq!(bus.register(name(1), seat("b")).err(), Some(super::TooManySeats { limit: MAX_SEATS }));
    assert!(bus.register(name(2), seat("b")).is_ok(), "the limit is for each name");
    guards.pop();
    assert!(bus.register(name(1), seat("b")).is_ok());
}

pub(crate) async fn late_drop_keeps_the_newer(bus: &dyn Bus) {
    let same = seat("same");
    let old = bus.register(name(1), same.clone()).unwrap();
    let _new = bus.register(name(1), same).unwrap();
    drop(old);
    assert_eq!(answers(bus, name(1)).await, "same");
}

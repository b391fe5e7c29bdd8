//! Many visitors at once, who keep count of what they get: requests on kept connections, and WebSockets that stay.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{sync::watch, task::JoinSet, time::interval};
use tokio_tungstenite::tungstenite::Message;

use super::{Door, Origin, PATIENCE, Wire, origin, origin::Handling, websocket, within};

/// How often each WebSocket says something.
const TALK: Duration = Duration::from_millis(100);

/// An origin that sends back what it is sent: a request's body, or else its target; and every WebSocket message.
pub(crate) async fn echoing() -> Handling {
    Origin::start().await.handling(|mut wire: Wire| async move {
        while let Ok(head) = wire.try_head().await {
            if head.has("sec-websocket-key") {
                websocket::accept(&mut wire, &head, &[]).await;
                return echo(wire).await;
            }
            let (body, _) = wire.rest_of_request(&head).await;
            let answer = if body.is_empty() { head.target().as_bytes() } else { &body };
            if wire.try_send(&origin::ok(answer)).await.is_err() {
                return;
            }
        }
    })
}

async fn echo(wire: Wire) {
    let mut socket = websocket::origin_socket(wire).await;
    while let Some(Ok(message)) = socket.next().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// What visitors got.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests that were answered as they should be.
    pub(crate) well: usize,
    /// What became of the others, in words.
    pub(crate) errors: Vec<String>,
}

impl Tally {
    /// Fails if there is any other.
    #[track_caller]
    pub(crate) fn all_well(&self) {
        let Self { well, errors } = self;
        let first = &errors[..errors.len().min(10)];
        assert!(errors.is_empty() && *well > 0, "{well} went well, {} didn't: {first:#?}", errors.len());
    }
}

/// Requests to an [`echoing`] origin, of which half are POSTs.
pub(crate) struct Load {
    answered: watch::Sender<usize>,
    over: watch::Sender<bool>,
    visitors: JoinSet<Tally>,
}

impl Load {
    /// So many visitors ask without pause, each on a connection that is kept, until [`Self::finish`].
    pub(crate) fn start(door: &Door, visitors: usize) -> Self {
        let (answered, over) = (watch::Sender::new(0), watch::Sender::new(false));
        let mut tasks = JoinSet::new();
        for first in 0..visitors {
            // Each has its own numbers.
            let numbers = (first..).step_by(visitors);
            tasks.spawn(visitor(door.clone(), numbers, answered.clone(), over.subscribe()));
        }
        Self { answered, over, visitors: tasks }
    }

    /// Waits until so many requests have come to their end since the start. That none hangs is each visitor's to see.
    pub(crate) async fn reaches(&self, count: usize) {
        let mut answered = self.answered.subscribe();
        answered
            .wait_for(|answered| *answered >= count)
            .await
            .expect("the counter lives as long as the load");
    }

    /// Waits until so many more have.
    pub(crate) async fn goes_on_for(&self, count: usize) {
        let so_far = *self.answered.borrow();
        self.reaches(so_far + count).await;
    }

    /// Waits for the last answers.
    pub(crate) async fn finish(mut self) -> Tally {
        self.over.send_replace(true);
        let mut all = Tally::default();
        while let Some(tally) = self.visitors.join_next().await {
            let tally = tally.expect("a visitor doesn't panic");
            all.well += tally.well;
            all.errors.extend(tally.errors);
        }
        all
    }
}

async fn visitor(
    door: Door,
    numbers: impl Iterator<Item = usize>,
    answered: watch::Sender<usize>,
    over: watch::Receiver<bool>,
) -> Tally {
    let mut tally = Tally::default();
    let mut kept = None;
    for number in numbers {
        match tokio::time::timeout(PATIENCE, exchange(&door, kept.take(), number)).await {
            Ok(Ok(wire)) => {
                tally.well += 1;
                kept = wire;
            }
            Ok(Err(error)) => tally.errors.push(format!("request {number}: {error}")),
            Err(_) => tally.errors.push(format!("request {number} hung")),
        }
        answered.send_modify(|answered| *answered += 1);
        if *over.borrow() {
            break;
        }
    }
    tally
}

/// One request that is answered as it should be, and the connection if it is kept.
async fn exchange(door: &Door, kept: Option<Wire>, number: usize) -> std::io::Result<Option<Wire>> {
    let mut wire = match kept {
        Some(wire) => wire,
        None => door.visit().await,
    };
    let target = format!("/{number}");
    let (method, request) = if number.is_multiple_of(2) {
        ("GET", door.head(&format!("GET {target}"), &[]))
    } else {
        let mut request = door.head("POST /", &[&format!("Content-Length: {}", target.len())]);
        request.extend_from_slice(target.as_bytes());
        ("POST", request)
    };
    wire.try_send(&request).await?;
    let head = wire.try_head().await?;
    let body = wire.rest_of_reply(method, &head).await;
    let (body, _) = body.map_err(|_| std::io::Error::other(format!("{} broke off", head.start)))?;
    if head.status() != 200 || body != target.as_bytes() {
        let (start, text) = (&head.start, String::from_utf8_lossy(&body));
        return Err(std::io::Error::other(format!("{method}: {start}: {text}")));
    }
    let close = head.texts("connection").iter().any(|value| value.eq_ignore_ascii_case("close"));
    Ok((!close).then_some(wire))
}

/// How a WebSocket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It didn't; it was closed by the visitor when the test was over.
    Alive,
    /// With a close frame.
    Closed { code: Option<u16>, reason: String },
    /// Without one.
    Lost(String),
}

/// WebSockets to an [`echoing`] origin that say numbers and hear them again.
pub(crate) struct Sockets {
    over: watch::Sender<bool>,
    visitors: JoinSet<End>,
}

impl Sockets {
    /// Opens so many.
    pub(crate) async fn open(door: &Door, count: usize) -> Self {
        let (over, mut visitors) = (watch::Sender::new(false), JoinSet::new());
        for number in 0..count {
            let mut wire = websocket::ask(door, &format!("/{number}"), &[]).await;
            websocket::accepted(&mut wire).await;
            let socket = websocket::visitor_socket(wire).await;
            visitors.spawn(talk(socket, over.subscribe()));
        }
        Self { over, visitors }
    }

    /// Ends the talk, and tells how each ended.
    pub(crate) async fn finish(mut self) -> Vec<End> {
        self.over.send_replace(true);
        let mut ends = Vec::new();
        while let Some(end) = within("a WebSocket to come to its end", self.visitors.join_next()).await {
            ends.push(end.expect("a visitor doesn't panic"));
        }
        ends
    }
}

async fn talk(mut socket: websocket::Socket, mut over: watch::Receiver<bool>) -> End {
    let mut pace = interval(TALK);
    for number in 0_u64.. {
        let last = tokio::select! {
            _ = pace.tick() => false,
            _ = over.wait_for(|over| *over) => true,
        };
        if let Err(error) = socket.send(Message::text(number.to_string())).await {
            // What the far end said before it left is still there to be read.
            if let Some(end) = heard(&mut socket, None).await {
                return end;
            }
            return End::Lost(format!("message {number} can't be sent: {error}"));
        }
        if let Some(end) = heard(&mut socket, Some(number)).await {
            return end;
        }
        if last {
            break;
        }
    }
    End::Alive
}

/// Waits for this number; an end if something else comes.
async fn heard(socket: &mut websocket::Socket, number: Option<u64>) -> Option<End> {
    loop {
        let message = match tokio::time::timeout(PATIENCE, socket.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Some(End::Lost("ended without a word".to_owned())),
            Err(_) => return Some(End::Lost(format!("hung, waiting for {number:?}"))),
        };
        match message {
            Ok(Message::Text(text)) if number.is_some_and(|number| *text == number.to_string()) => {
                return None;
            }
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(frame)) => {
                let (code, reason) = frame.map_or((None, String::new()), |frame| {
                    (Some(frame.code.into()), frame.reason.to_string())
                });
                return Some(End::Closed { code, reason });
            }
            Ok(other) if number.is_some() => {
                return Some(End::Lost(format!("{other:?} in place of {number:?}")));
            }
            // An answer that nobody waits for any more.
            Ok(_) => {}
            Err(error) => return Some(End::Lost(error.to_string())),
        }
    }
}

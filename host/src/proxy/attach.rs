//! A client's way in: what happens on `GET /proxy/subscribe`, from the upgrade to the session's end.
//!
//! Owns the nonce of each connection and the order of registration. What a statement must say is `wire`'s part.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, Uri, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message as Frame,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::{Event, Shared, answer, outgoing::Outgoing, upgrade};
use crate::{
    bus::{Seat, SeatState},
    exchange::{Body, ExchangeId, Forward, ForwardFuture, Request, hygiene},
    session::{self, Handle, State},
    wire::{
        Decoded, Limits, MAX_EXCHANGES, Message, NONCE_HEADER, SUBPROTOCOL, TunnelName,
        message::{Refusal, Registered},
        registration::{NONCE_LENGTH, Statement},
    },
};

/// A registration has no headers.
const REGISTRATION_LIMITS: Limits = Limits { headers: 0 };

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Answers a client that wants to attach; the session goes on in a task of its own.
pub(super) async fn subscribe<B: http_body::Body>(
    shared: &Arc<Shared>,
    mut request: http::Request<B>,
    peer: SocketAddr,
    exchange: ExchangeId,
) -> http::Response<Outgoing> {
    let refuse = |status, code, text: &str| refuse(status, code, text, exchange);
    // A browser sends Origin with every WebSocket; no client of ours does. A page must not register tunnels.
    if request.headers().contains_key(header::ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, "not-a-client", "clients attach here, pages of browsers don't");
    }
    let upgraded = match upgrade::offer(&mut request) {
        Some(Ok(offer)) => offer,
        Some(Err(_)) | None => {
            return refuse(
                StatusCode::UPGRADE_REQUIRED,
                "upgrade-required",
                "clients attach here, by a WebSocket of version 13",
            );
        }
    };
    if !hygiene::tokens(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL)
        .any(|it| it == SUBPROTOCOL.as_bytes())
    {
        let text = format!("this proxy speaks {SUBPROTOCOL}, which the client didn't offer");
        return refuse(StatusCode::BAD_REQUEST, "unknown-dialect", &text);
    }
    if shared.drain.is_cancelled() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "draining", "this node is shutting down");
    }
    let Ok(permit) = Arc::clone(&shared.unregistered).try_acquire_owned() else {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-registrations",
            "too many clients are registering; try again",
        );
    };
    let mut nonce = [0; NONCE_LENGTH];
    if getrandom::fill(&mut nonce).is_err() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "no-randomness", "the proxy has no randomness");
    }
    let (accept, upgraded) = upgraded.into_parts();
    let attachment = Attachment { shared: Arc::clone(shared), peer, nonce };
    shared.sessions.spawn(attachment.run(upgraded, permit));
    let mut response = http::Response::new(Outgoing::from(Body::empty()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let nonce = HeaderValue::try_from(URL_SAFE_NO_PAD.encode(nonce)).expect("base64url is plain text");
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    headers.insert(NONCE_HEADER, nonce);
    response
}

/// In plain words, which a client shows to its user.
fn refuse(
    status: StatusCode,
    code: &'static str,
    text: &str,
    exchange: ExchangeId,
) -> http::Response<Outgoing> {
    let mut response = http::Response::new(Outgoing::from(Body::full(format!("{text}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer::mark(headers, code, exchange);
    if status == StatusCode::UPGRADE_REQUIRED {
        // RFC 9110 section 15.5.22, and section 7.8: `Connection` has to name it.
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

/// One connected client.
struct Attachment {
    shared: Arc<Shared>,
    peer: SocketAddr,
    nonce: [u8; NONCE_LENGTH],
}

impl Attachment {
    async fn run(self, upgraded: OnUpgrade, permit: OwnedSemaphorePermit) {
        let registering = async {
            let upgraded = TokioIo::new(upgraded.await.ok()?);
            let mut socket =
                WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(session::socket_config()))
                    .await;
            let registration = self.read_registration(&mut socket).await;
            Some((socket, registration))
        };
        let registered = tokio::select! {
            registered = tokio::time::timeout(self.shared.config.limits.registration_timeout, registering) => registered,
            () = self.shared.kill.cancelled() => return,
        };
        drop(permit);
        match registered {
            Ok(Some((socket, Ok((id, name))))) => self.serve(socket, id, name).await,
            Ok(Some((socket, Err(problem)))) => self.turn_away(socket, problem).await,
            Ok(None) => {}
            Err(_) => tracing::debug!(client = %self.peer, "a client didn't register in time"),
        }
    }

    /// Reads the one message that an unregistered client may send.
    async fn read_registration(&self, socket: &mut Socket) -> Result<(u64, TunnelName), Problem> {
        let frame = match socket.next().await {
            Some(Ok(frame)) => frame,
            Some(Err(tungstenite::Error::Capacity(_))) => return Err(Problem::TooLarge),
            Some(Err(_)) | None => return Err(Problem::Gone),
        };
        let Frame::Binary(bytes) = frame else {
            return Err(Problem::Protocol("a registration is a binary frame".into()));
        };
        match Message::decode(bytes, &REGISTRATION_LIMITS) {
            Ok(Decoded::Message(Message::RegistrationRequest { id, statement })) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
                let now = i64::try_from(now).unwrap_or(i64::MAX);
                // The nonce is spent by this: there is no second attempt on a connection.
                match Statement::verify(&statement, &self.nonce, &self.shared.origins, now) {
                    Ok((statement, key)) => Ok((id, statement.name(&key))),
                    Err(error) => Err(Problem::Refused(id, error.into())),
                }
            }
            Ok(_) => Err(Problem::Protocol("a client registers first".into())),
            Err(error) => Err(Problem::Protocol(error.to_string())),
        }
    }

    async fn serve(&self, socket: Socket, id: u64, name: TunnelName) {
        let shared = &self.shared;
        let limits = &shared.config.limits;
        let settings = session::Settings {
            tunnel: Some(name.clone()),
            max_exchanges: limits.max_exchanges.min(MAX_EXCHANGES),
            max_websocket_message: limits.max_websocket_message,
            ping_after: limits.ping_after,
        };
        let (handle, driver) = session::open(socket, settings);
        // The seat is taken, and other nodes know, before the client hears that it has one. What visitors ask meanwhile waits behind
        // the answer in the session's own queue.
        let seat = match shared.bus.register(name.clone(), Arc::new(SessionSeat(handle.clone()))) {
            Ok(seat) => seat,
            Err(full) => {
                let refusal =
                    Refusal { code: "too-many-sessions".into(), text: full.to_string(), retry: true };
                driver.refuse(Message::RegistrationResponse { id, outcome: Err(refusal) }).await;
                return;
            }
        };
        shared.bus.announced(&name).await;
        let public_url = shared.public_url_of(&name);
        let registered = self.registered(name.clone(), public_url.clone());
        let driver = driver.greet(Message::RegistrationResponse { id, outcome: Ok(registered) });
        (shared.config.report)(Event::Registered { tunnel: name.clone(), public_url, client: self.peer });
        let watch = async {
            shared.drain.cancelled().await;
            handle.go_away(shared.config.grace_period);
            shared.kill.cancelled().await;
            handle.close();
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = driver.run() => ended,
            () = watch => unreachable!("it waits for the driver"),
        };
        drop(seat);
        (shared.config.report)(Event::Unregistered { tunnel: name, reason: ended.to_string() });
    }

    fn registered(&self, name: TunnelName, public_url: String) -> Registered {
        let config = &self.shared.config;
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Registered {
            hostname: format!("{name}.{}", config.domain),
            name,
            public_url,
            max_body: config.limits.max_body,
            max_websocket_message: wide(config.limits.max_websocket_message),
            max_exchanges: wide(config.limits.max_exchanges.min(MAX_EXCHANGES)),
            node: Some(self.shared.node),
        }
    }

    /// Says what was wrong and closes the connection.
    async fn turn_away(&self, mut socket: Socket, problem: Problem) {
        let (code, reason) = match problem {
            Problem::Gone => return,
            Problem::TooLarge => (CloseCode::Size, "a registration is shorter".into()),
            Problem::Protocol(reason) => (CloseCode::Protocol, reason),
            Problem::Refused(id, refusal) => {
                let reason = refusal.code.clone();
                tracing::debug!(client = %self.peer, refusal.code, refusal.text, "refused a registration");
                let response = Message::RegistrationResponse { id, outcome: Err(refusal) };
                // A client that is gone already needs no answer.
                let _ = socket.send(Frame::Binary(response.encode())).await;
                (CloseCode::Policy, reason)
            }
        };
        let frame = CloseFrame { code, reason: reason[..reason.floor_char_boundary(120)].into() };
        let closing = async {
            let _ = socket.close(Some(frame)).await;
            // Until the client has taken its leave too: closing earlier could reset what it hasn't read.
            while let Some(Ok(_)) = socket.next().await {}
        };
        let _ = tokio::time::timeout(super::LAST_WORDS, closing).await;
    }
}

/// Why a client isn't registered.
enum Problem {
    Gone,
    TooLarge,
    Protocol(String),
    Refused(u64, Refusal),
}

/// A session as the bus sees it.
struct SessionSeat(Handle);

impl Forward for SessionSeat {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        self.0.forward(request)
    }
}

impl Seat for SessionSeat {
    fn busy(&self) -> usize {
        self.0.busy()
    }

    fn state(&self) -> SeatState {
        match self.0.state() {
            State::Open => SeatState::Open,
            State::Leaving => SeatState::Leaving,
            State::Draining | State::Ended => SeatState::Closed,
        }
    }
}

/// The origins by which clients may dial this proxy. From settings and the listening address only: what a request
/// says of itself proves nothing.
pub(super) fn own_origins(config: &super::Config, address: SocketAddr, public_url: &str) -> Vec<Uri> {
    let mut origins = config.also_known_as.clone();
    origins.extend(public_url.parse());
    let mut listening = vec![address.to_string()];
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        let port = address.port();
        listening.extend([format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
    }
    origins.extend(listening.iter().filter_map(|host| format!("http://{host}").parse().ok()));
    origins
}

//! A client of version 2: one signed statement for the nonce of its connection, and no second attempt.

use std::{net::SocketAddr, sync::Arc};

use ed25519_dalek::VerifyingKey;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    super::{
        LAST_WORDS, Shared,
        admission::{Applicant, InvitationId, NotAdmitted},
        roster::Peer,
    },
    in_time, now, seat,
};
use crate::{
    exchange::websocket::{Close, Role},
    session::{self, Ended},
    wire::{
        Decoded, KeyName, Limits, MAX_EXCHANGES, Message, TunnelName,
        message::{Refusal, Registered},
        registration::{NONCE_LENGTH, Statement},
    },
};

/// A registration has no headers.
const REGISTRATION_LIMITS: Limits = Limits { headers: 0 };

/// What it is called where sessions are listed and counted.
const DIALECT: &str = "v2";

type Socket = session::Socket<TokioIo<Upgraded>>;

/// One connected client.
pub(super) struct Attachment {
    shared: Arc<Shared>,
    client: SocketAddr,
    agent: Option<String>,
    nonce: [u8; NONCE_LENGTH],
}

impl Attachment {
    pub(super) fn new(
        shared: Arc<Shared>,
        client: SocketAddr,
        agent: Option<String>,
        nonce: [u8; NONCE_LENGTH],
    ) -> Self {
        Self { shared, client, agent, nonce }
    }

    pub(super) async fn run(self, upgraded: OnUpgrade, permit: OwnedSemaphorePermit) {
        let registering = async {
            let mut socket = Socket::over(TokioIo::new(upgraded.await.ok()?), Role::Server, &[]);
            let registration = self.read_registration(&mut socket).await;
            Some((socket, registration))
        };
        match in_time(&self.shared, self.client, DIALECT, permit, registering).await {
            Some((socket, Ok((id, applicant)))) => self.serve(socket, id, applicant).await,
            Some((socket, Err(problem))) => self.turn_away(socket, problem).await,
            None => {}
        }
    }

    /// Reads the one message that an unregistered client may send.
    async fn read_registration(&self, socket: &mut Socket) -> Result<(u64, Applicant), Problem> {
        let bytes = match socket.receive().await {
            Ok(bytes) => bytes,
            Err(Ended::TooLarge { .. }) => return Err(Problem::TooLarge),
            Err(Ended::Framing(violation)) => return Err(Problem::Protocol(violation.to_string())),
            Err(Ended::Undecodable(_)) => {
                return Err(Problem::Protocol("a registration is a binary frame".into()));
            }
            Err(_) => return Err(Problem::Gone),
        };
        match Message::decode(bytes, &REGISTRATION_LIMITS) {
            Ok(Decoded::Message(Message::RegistrationRequest { id, statement })) => {
                // The nonce is spent by this: there is no second attempt on a connection.
                match Statement::verify(&statement, &self.nonce, &self.shared.origins, now()) {
                    Ok((statement, key)) => {
                        let applicant = self.admit(&statement, &key).await;
                        Ok((id, applicant.map_err(|reason| Problem::Refused(id, reason.into()))?))
                    }
                    Err(error) => {
                        self.shared.admission.refused(error.code());
                        Err(Problem::Refused(id, error.into()))
                    }
                }
            }
            Ok(_) => Err(Problem::Protocol("a client registers first".into())),
            Err(error) => Err(Problem::Protocol(error.to_string())),
        }
    }

    /// Whether the client may have what it states.
    async fn admit(&self, statement: &Statement, key: &VerifyingKey) -> Result<Applicant, NotAdmitted> {
        let wanted = statement.name(key);
        let name = self.shared.names.shortest(wanted.clone());
        let applicant = Applicant {
            key: KeyName::of_key(key),
            name: name.ok_or(NotAdmitted::NotYours { name: wanted, may: Vec::new() })?,
            invitation: statement.invitation.as_deref().map(InvitationId::of),
            address: self.client.ip(),
        };
        self.shared.admission.admit(&applicant).await?;
        Ok(applicant)
    }

    async fn serve(&self, socket: Socket, id: u64, applicant: Applicant) {
        let (shared, name) = (&self.shared, applicant.name.clone());
        let (handle, driver) = session::open(socket, seat::settings(shared, &name));
        let peer = Peer { address: self.client, dialect: DIALECT, agent: self.agent.clone() };
        let listed = shared.roster.enter(peer, &handle);
        let dismissal = Arc::default();
        let seat = match seat::take(shared, &applicant, &handle, &dismissal, &listed).await {
            Ok(seat) => seat,
            Err(reason) => {
                shared.metrics.clients.registration(DIALECT, reason.outcome());
                driver.refuse(Message::RegistrationResponse { id, outcome: Err(reason.into()) }).await;
                return;
            }
        };
        let registered = self.registered(name.clone());
        let driver = driver.greet(Message::RegistrationResponse { id, outcome: Ok(registered) });
        shared.metrics.clients.registration(DIALECT, "registered");
        seat::report_registered(shared, name.clone(), self.client);
        let ended = seat::run(shared, &handle, driver, &dismissal).await;
        drop(seat);
        listed.ended(&ended);
        seat::report_unregistered(shared, name, &ended);
    }

    fn registered(&self, name: TunnelName) -> Registered {
        let config = &self.shared.config;
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Registered {
            hostname: name.hostname(&config.domain),
            public_url: self.shared.public_url_of(&name),
            name,
            max_body: config.limits.max_body,
            max_websocket_message: wide(config.limits.max_websocket_message),
            max_exchanges: wide(config.limits.max_exchanges.min(MAX_EXCHANGES)),
            node: Some(self.shared.node),
        }
    }

    /// Says what was wrong and closes the connection.
    async fn turn_away(&self, mut socket: Socket, problem: Problem) {
        let outcome = if let Problem::Refused(..) = problem { "refused" } else { "broken" };
        self.shared.metrics.clients.registration(DIALECT, outcome);
        let (code, reason) = match problem {
            Problem::Gone => return,
            Problem::TooLarge => (1009, "a registration is shorter".into()),
            Problem::Protocol(reason) => (1002, reason),
            Problem::Refused(id, refusal) => {
                let reason = refusal.code.clone();
                tracing::debug!(client = %self.client, refusal.code, refusal.text, "refused a registration");
                let response = Message::RegistrationResponse { id, outcome: Err(refusal) };
                // A client that is gone already needs no answer.
                let _ = socket.send(&response).await;
                (1008, reason)
            }
        };
        socket.leave(&Close::new(code, reason), LAST_WORDS).await;
    }
}

/// Why a client isn't registered.
enum Problem {
    Gone,
    TooLarge,
    Protocol(String),
    Refused(u64, Refusal),
}

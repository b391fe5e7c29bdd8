//! A client of the original's dialect: a mandate token for each name, several names over one connection, and errors as text that
//! it logs.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message as Frame,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::{
    super::{
        Shared,
        admission::{Applicant, Dismissal},
        roster::{Listed, Peer},
    },
    farewell,
    gate::Gate,
    in_time, now,
    seat::{self, Taken},
};
use crate::{
    session::{self, v1::Registrar},
    wire::{
        TunnelName,
        v1::{FromClient, MAX_REGISTRATION, MandateToken, RegistrationRequest},
    },
};

/// Names of one connection.
const MOST_NAMES: usize = 64;

/// What it is called where sessions are listed and counted.
const DIALECT: &str = "v1";

type Socket = WebSocketStream<Gate<TokioIo<Upgraded>>>;

/// One connected client.
pub(super) struct Attachment {
    shared: Arc<Shared>,
    client: SocketAddr,
    agent: Option<String>,
    /// Given when one of its names is taken from it: the session ends as a whole.
    dismissal: Arc<Dismissal>,
}

/// The names that a session holds, each with its seat.
type Seats = HashMap<TunnelName, Taken>;

impl Attachment {
    pub(super) fn new(shared: Arc<Shared>, client: SocketAddr, agent: Option<String>) -> Self {
        Self { shared, client, agent, dismissal: Arc::default() }
    }

    pub(super) async fn run(self, upgraded: OnUpgrade, permit: OwnedSemaphorePermit) {
        let registering = async {
            let upgraded = Gate::new(TokioIo::new(upgraded.await.ok()?), MAX_REGISTRATION);
            let config = Some(session::v1_socket_config());
            let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, config).await;
            let registration = self.read_registration(&mut socket).await;
            Some((socket, registration))
        };
        match in_time(&self.shared, self.client, DIALECT, permit, registering).await {
            Some((socket, Ok((request, applicant)))) => self.serve(socket, request, applicant).await,
            Some((socket, Err(problem))) => self.turn_away(socket, problem).await,
            None => {}
        }
    }

    /// Reads the first document, which has to be a registration.
    async fn read_registration(
        &self,
        socket: &mut Socket,
    ) -> Result<(RegistrationRequest, Applicant), String> {
        let frame = socket.next().await;
        let Some(Ok(Frame::Text(text))) = frame else {
            return Err("a registration is a text frame, and a short one".to_owned());
        };
        match FromClient::decode(&text) {
            Ok(FromClient::Register(request)) => {
                let applicant = self.verify(&request).await?;
                Ok((request, applicant))
            }
            Ok(_) => Err("a client registers first".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The name that a request stands for, if its key may have it. Its token is spent by this.
    async fn verify(&self, request: &RegistrationRequest) -> Result<Applicant, String> {
        let (now, admission) = (now(), &self.shared.admission);
        let verified = MandateToken::verify(&request.mandate_token, &self.shared.origins, now);
        let named = verified.and_then(|token| Ok((token.name_with(request.session.as_deref())?, token)));
        let (name, token) = named.map_err(|error| {
            admission.refused("bad-token");
            error.to_string()
        })?;
        let spent = self.shared.spent.spend(token.digest, token.over_at, now).await;
        spent.map_err(|error| {
            admission.refused("spent-token");
            error.to_string()
        })?;
        // Its documents have no place for an invitation, nor for a wish.
        let applicant = Applicant { key: token.name, name, invitation: None, address: self.client.ip() };
        admission.admit(&applicant).await.map_err(|reason| reason.to_string())?;
        Ok(applicant)
    }

    async fn serve(&self, mut socket: Socket, request: RegistrationRequest, applicant: Applicant) {
        let (shared, name) = (&self.shared, applicant.name.clone());
        socket.get_mut().open();
        let (transport, mut registrar) = session::v1::over(socket, name.clone(), &shared.losses);
        let (handle, driver) = session::open(transport, seat::settings(shared, &name));
        let peer = Peer { address: self.client, dialect: DIALECT, agent: self.agent.clone() };
        let listed = shared.roster.enter(peer, &handle);
        let mut seats = Seats::new();
        self.take_seat(&request, applicant, &listed, &registrar, &mut seats).await;
        let further = self.further(&listed, &mut registrar, &mut seats);
        let ended = tokio::select! {
            ended = seat::run(shared, &handle, driver, &self.dismissal) => ended,
            () = further => unreachable!("it waits for the driver"),
        };
        if !seats.is_empty() {
            listed.ended(&ended);
        }
        for (name, seat) in seats {
            drop(seat);
            seat::report_unregistered(shared, name, &ended);
        }
    }

    /// Registers what the client goes on to ask for.
    async fn further(&self, listed: &Listed, registrar: &mut Registrar, seats: &mut Seats) {
        while let Some(request) = registrar.next().await {
            match self.verify(&request).await {
                Ok(applicant) => self.take_seat(&request, applicant, listed, registrar, seats).await,
                Err(problem) => {
                    self.shared.metrics.clients.registration(DIALECT, "refused");
                    registrar.refuse(problem).await;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    async fn take_seat(
        &self,
        request: &RegistrationRequest,
        applicant: Applicant,
        listed: &Listed,
        registrar: &Registrar,
        seats: &mut Seats,
    ) {
        if seats.len() >= MOST_NAMES {
            return registrar.refuse(format!("a connection may have {MOST_NAMES} names at most")).await;
        }
        let name = applicant.name.clone();
        if !seats.contains_key(&name) {
            match seat::take(&self.shared, &applicant, &listed.entry.handle, &self.dismissal, listed).await {
                Ok(seat) => seats.insert(name.clone(), seat),
                Err(reason) => {
                    self.shared.metrics.clients.registration(DIALECT, reason.outcome());
                    return registrar.refuse(reason.to_string()).await;
                }
            };
            self.shared.metrics.clients.registration(DIALECT, "registered");
            seat::report_registered(&self.shared, name.clone(), self.client);
        }
        let hostname = self.shared.names.hostname_of(&name);
        registrar.accept(request, &name, hostname.as_deref()).await;
    }

    /// Says what was wrong as clients expect it, and closes the connection.
    async fn turn_away(&self, mut socket: Socket, problem: String) {
        self.shared.metrics.clients.registration(DIALECT, "refused");
        tracing::debug!(client = %self.client, problem, "refused a registration");
        // A client that is gone already needs no answer.
        let _ = socket.send(Frame::Text(problem.into())).await;
        let reason = "the registration was refused".into();
        farewell(socket, CloseFrame { code: CloseCode::Policy, reason }).await;
    }
}

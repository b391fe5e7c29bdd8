//! A plugin that runs, and what came of an exchange.

use std::{
    fmt::{self, Debug},
    rc::Rc,
};

use super::{
    Host, RequestBuilder, Sent, Socket, edit,
    exchange::{self, Response},
    message::AnswerBuilder,
};
use crate::{
    Fault, Piece, Plugin,
    bindings::plugin::types::{Answer, BodyAction, BodyMode, BodyVerdict, HeadVerdict},
    glue,
};

/// A plugin in its host.
pub struct Loaded<P> {
    pub(super) plugin: Rc<P>,
    pub(super) host: Host,
}

/// What came of a request or of a response.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It went on, with its edits applied.
    Forwarded(T),
    /// The plugin answered by itself.
    Answered(AnswerBuilder),
    /// The plugin broke it off, for this reason.
    Aborted(String),
    /// The hook failed: by a fault of its own, or because the host refused what it said.
    Failed(Fault),
}

impl<T: Debug> Outcome<T> {
    /// What went on.
    ///
    /// # Panics
    /// Something else came of it.
    #[track_caller]
    #[must_use]
    pub fn forwarded(self) -> T {
        match self {
            Self::Forwarded(forwarded) => forwarded,
            other => panic!("this should have been forwarded: {other:?}"),
        }
    }

    /// The plugin's own answer.
    ///
    /// # Panics
    /// Something else came of it.
    #[track_caller]
    #[must_use]
    pub fn answered(self) -> AnswerBuilder {
        match self {
            Self::Answered(answer) => answer,
            other => panic!("the plugin should have answered this by itself: {other:?}"),
        }
    }

    /// Why it was broken off.
    ///
    /// # Panics
    /// Something else came of it.
    #[track_caller]
    #[must_use]
    pub fn aborted(self) -> String {
        match self {
            Self::Aborted(reason) => reason,
            other => panic!("this should have been broken off: {other:?}"),
        }
    }

    /// Why the hook failed.
    ///
    /// # Panics
    /// Something else came of it.
    #[track_caller]
    #[must_use]
    pub fn failed(self) -> Fault {
        match self {
            Self::Failed(fault) => fault,
            other => panic!("the hook should have failed: {other:?}"),
        }
    }
}

impl<P: Plugin> Loaded<P> {
    /// Sends a request, with its body, through the plugin.
    #[must_use]
    pub fn request(&self, request: RequestBuilder) -> Outcome<Exchange<P>> {
        let mut exchange =
            Exchange { loaded: self.clone(), request: request.into_request(), state: Vec::new() };
        if !P::HOOKS.request {
            return Outcome::Forwarded(exchange);
        }
        match exchange.pass() {
            Ok(None) => Outcome::Forwarded(exchange),
            Ok(Some(Stop::Answered(answer))) => Outcome::Answered(answer),
            Ok(Some(Stop::Aborted(reason))) => Outcome::Aborted(reason),
            Err(fault) => Outcome::Failed(fault),
        }
    }

    /// Opens a WebSocket that the origin accepts.
    ///
    /// # Panics
    /// The plugin doesn't forward the request, or its `on_open` fails.
    #[track_caller]
    #[must_use]
    pub fn websocket(&self, request: RequestBuilder) -> Socket<P> {
        let Exchange { loaded, request, state } = self.request(request.websocket()).forwarded();
        Socket::open(loaded, &request, &state)
    }

    /// Lets the timer run out once.
    ///
    /// # Errors
    /// `on_tick` failed.
    pub fn tick(&self) -> Result<(), Fault> {
        self.host.run(|| self.plugin.on_tick())
    }

    /// The host it runs in, which is the one that loaded it.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }
}

// Not derived: that would ask for a plugin that can be cloned.
impl<P> Clone for Loaded<P> {
    fn clone(&self) -> Self {
        Self { plugin: Rc::clone(&self.plugin), host: self.host.clone() }
    }
}

/// A request that went on to the origin, and waits for its response.
pub struct Exchange<P> {
    loaded: Loaded<P>,
    request: exchange::Request,
    state: Vec<u8>,
}

impl<P> std::ops::Deref for Exchange<P> {
    type Target = Sent;

    fn deref(&self) -> &Sent {
        &self.request.sent
    }
}

impl<P> Debug for Exchange<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.sent.fmt(f)
    }
}

/// Where a request or a response ends instead of going on.
enum Stop {
    Answered(AnswerBuilder),
    Aborted(String),
}

impl<P: Plugin> Exchange<P> {
    /// A note as it is now.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<String> {
        self.request.note(name)
    }

    /// The origin answers: sends its response, with its body, back through the plugin.
    #[must_use]
    pub fn response(mut self, response: AnswerBuilder) -> Outcome<AnswerBuilder> {
        if !P::HOOKS.response {
            return Outcome::Forwarded(response);
        }
        let AnswerBuilder { status, headers, pieces } = response;
        let mut response = Response { request: self.request.clone(), status, headers };
        match self.back(&mut response, pieces) {
            Ok(Ok(pieces)) => Outcome::Forwarded(AnswerBuilder {
                status: response.status,
                headers: response.headers,
                pieces,
            }),
            Ok(Err(Stop::Answered(answer))) => Outcome::Answered(answer),
            Ok(Err(Stop::Aborted(reason))) => Outcome::Aborted(reason),
            Err(fault) => Outcome::Failed(fault),
        }
    }

    fn pass(&mut self) -> Result<Option<Stop>, Fault> {
        let Loaded { plugin, host } = self.loaded.clone();
        let forward = match host.run(|| glue::on_request(&*plugin, &self.request))? {
            HeadVerdict::Respond(answer) => return Ok(Some(Stop::Answered(checked(answer)?))),
            HeadVerdict::Abort(reason) => return Ok(Some(Stop::Aborted(reason))),
            HeadVerdict::Forward(forward) => forward,
        };
        refused(edit::request(&forward.edits, &mut self.request.sent))?;
        self.state = forward.state;
        if self.request.sent.websocket {
            return Ok(None);
        }
        let pieces = std::mem::take(&mut self.request.sent.pieces);
        let Self { request, state, .. } = self;
        let passed = body(forward.body, pieces, |piece| {
            let verdict = host.run(|| glue::on_request_body(&*plugin, request, state, piece))?;
            refused(edit::request(&verdict.edits, &mut request.sent))?;
            if let Some(new) = &verdict.state {
                state.clone_from(new);
            }
            Ok(verdict)
        })?;
        match passed {
            Ok(pieces) => self.request.sent.pieces = pieces,
            Err(stop) => return Ok(Some(stop)),
        }
        Ok(None)
    }

    fn back(
        &mut self,
        response: &mut Response,
        pieces: Vec<Vec<u8>>,
    ) -> Result<Result<Vec<Vec<u8>>, Stop>, Fault> {
        let Loaded { plugin, host } = self.loaded.clone();
        let forward = match host.run(|| glue::on_response(&*plugin, response, &self.state))? {
            HeadVerdict::Respond(answer) => return Ok(Err(Stop::Answered(checked(answer)?))),
            HeadVerdict::Abort(reason) => return Ok(Err(Stop::Aborted(reason))),
            HeadVerdict::Forward(forward) => forward,
        };
        refused(edit::response(&forward.edits, &mut response.status, &mut response.headers))?;
        let mut state = forward.state;
        body(forward.body, pieces, |piece| {
            let verdict = host.run(|| glue::on_response_body(&*plugin, response, &state, piece))?;
            refused(edit::response(&verdict.edits, &mut response.status, &mut response.headers))?;
            if let Some(new) = &verdict.state {
                state.clone_from(new);
            }
            Ok(verdict)
        })
    }
}

/// Sends a body through the hook as the mode says. Pieces of a long one are followed by a last one without bytes, as it is
/// on the network.
fn body(
    mode: BodyMode,
    pieces: Vec<Vec<u8>>,
    mut hook: impl FnMut(Piece) -> Result<BodyVerdict, Fault>,
) -> Result<Result<Vec<Vec<u8>>, Stop>, Fault> {
    let calls = match mode {
        BodyMode::Pass => return Ok(Ok(pieces)),
        // A message without a body stays one.
        BodyMode::Chunks if pieces.is_empty() => return Ok(Ok(pieces)),
        BodyMode::Whole => vec![pieces.concat()],
        BodyMode::Chunks if pieces.len() == 1 => pieces,
        BodyMode::Chunks => pieces.into_iter().chain([Vec::new()]).collect(),
    };
    let mut passed = Vec::new();
    let end = calls.len();
    for (number, bytes) in calls.into_iter().enumerate() {
        let verdict = hook(Piece { bytes: bytes.clone(), last: number + 1 == end })?;
        let late = mode == BodyMode::Chunks;
        if late && !verdict.edits.is_empty() {
            return Err(Fault::new(
                "the body comes in pieces: its head has gone ahead and can't be edited any more",
            ));
        }
        match verdict.action {
            BodyAction::Keep => passed.push(bytes),
            BodyAction::Replace(bytes) => passed.push(bytes),
            BodyAction::Respond(_) if late => {
                return Err(Fault::new(
                    "the body comes in pieces: its head has gone ahead, so it can't be answered",
                ));
            }
            BodyAction::Respond(answer) => return Ok(Err(Stop::Answered(checked(answer)?))),
            BodyAction::Abort(reason) => return Ok(Err(Stop::Aborted(reason))),
        }
    }
    passed.retain(|piece| !piece.is_empty());
    Ok(Ok(passed))
}

fn checked(answer: Answer) -> Result<AnswerBuilder, Fault> {
    refused(edit::answer(&answer))?;
    Ok(AnswerBuilder::made(answer))
}

fn refused(checked: Result<(), String>) -> Result<(), Fault> {
    checked.map_err(|reason| Fault::new(format!("the host refuses the verdict: {reason}")))
}

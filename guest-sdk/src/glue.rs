//! From the calls of the host to the methods of a plugin, and back.
//!
//! Owns the translation between the types of the WIT and those of this crate. It is the same in a component and under
//! `testing`: what differs is only who calls.

use crate::{
    Accept, BodyVerdict, Fault, Piece, Plugin, Request, Respond, Response, Result, Verdict,
    bindings::plugin::types::{self, Answer, BodyAction, HeadVerdict, Side, WsAccept, WsMessage, WsVerdict},
    body, head,
    host::exchange,
    state,
};

/// The hooks that a plugin has, as the attribute `#[plugin]` found them.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    pub request: bool,
    pub response: bool,
    pub websocket: bool,
    pub tick: bool,
}

pub(crate) fn new<P: Plugin>(config: &str) -> Result<P> {
    let config = serde_json::from_str(config).map_err(|error| {
        // Line and column are those of the host's JSON, not of what the operator wrote.
        let text = error.to_string();
        Fault::new(format!("config: {}", text.split(" at line ").next().unwrap_or(&text)))
    })?;
    P::new(config)
}

pub(crate) fn on_request<P: Plugin>(plugin: &P, request: &exchange::Request) -> Result<HeadVerdict> {
    head(plugin.on_request(&Request::lent(request))?)
}

pub(crate) fn on_request_body<P: Plugin>(
    plugin: &P,
    request: &exchange::Request,
    kept: &[u8],
    piece: Piece,
) -> Result<types::BodyVerdict> {
    let mut state = state::read(kept)?;
    let verdict = plugin.on_request_body(&Request::lent(request), piece, &mut state)?;
    body(verdict, state::changed(&state, kept)?)
}

pub(crate) fn on_response<P: Plugin>(
    plugin: &P,
    response: &exchange::Response,
    kept: &[u8],
) -> Result<HeadVerdict> {
    head(plugin.on_response(&Response::lent(response), state::read(kept)?)?)
}

pub(crate) fn on_response_body<P: Plugin>(
    plugin: &P,
    response: &exchange::Response,
    kept: &[u8],
    piece: Piece,
) -> Result<types::BodyVerdict> {
    let mut state = state::read(kept)?;
    let verdict = plugin.on_response_body(&Response::lent(response), piece, &mut state)?;
    body(verdict, state::changed(&state, kept)?)
}

pub(crate) fn on_open<P: Plugin>(plugin: &P, request: &exchange::Request, kept: &[u8]) -> Result<WsAccept> {
    let Accept { interest, connection } = plugin.on_open(&Request::lent(request), state::read(kept)?)?;
    Ok(WsAccept { interest, state: optional(connection.as_ref())? })
}

pub(crate) fn on_message<P: Plugin>(
    plugin: &P,
    sender: Side,
    message: WsMessage,
    kept: &[u8],
) -> Result<WsVerdict> {
    let mut connection = state::read(kept)?;
    let relay = plugin.on_message(sender.into(), message.into(), &mut connection)?;
    Ok(WsVerdict { action: relay.action, send: relay.send, state: state::changed(&connection, kept)? })
}

pub(crate) fn on_close<P: Plugin>(plugin: &P, by: Side, code: u16, reason: &str, kept: &[u8]) -> Result<()> {
    plugin.on_close(by.into(), code, reason, state::read(kept)?);
    Ok(())
}

fn head<S: serde::Serialize>(verdict: Verdict<S>) -> Result<HeadVerdict> {
    Ok(match verdict.0 {
        head::Choice::Forward(forward) => HeadVerdict::Forward(types::Forward {
            edits: forward.edits.0,
            body: forward.body,
            state: optional(forward.state.as_ref())?,
        }),
        head::Choice::Respond(respond) => HeadVerdict::Respond(answer(respond)?),
        head::Choice::Abort(abort) => HeadVerdict::Abort(abort.0),
    })
}

fn body(verdict: BodyVerdict, state: Option<Vec<u8>>) -> Result<types::BodyVerdict> {
    let (action, edits) = match verdict.0 {
        body::Choice::Body(body) => (body.action, body.edits.0),
        body::Choice::Respond(respond) => (BodyAction::Respond(answer(respond)?), Vec::new()),
        body::Choice::Abort(abort) => (BodyAction::Abort(abort.0), Vec::new()),
    };
    Ok(types::BodyVerdict { action, edits, state })
}

fn answer(respond: Respond) -> Result<Answer> {
    match respond.fault {
        Some(fault) => Err(fault),
        None => Ok(respond.answer),
    }
}

fn optional<S: serde::Serialize>(state: Option<&S>) -> Result<Vec<u8>> {
    state.map_or(Ok(Vec::new()), state::write)
}

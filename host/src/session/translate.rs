//! Between the values on the wire and those of an exchange.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::{
    exchange::{Context, ErrorKind, ExchangeId, ForwardError, RequestHead, RequestKind, Scheme},
    wire::{
        TunnelName,
        message::{CancelCode, RequestStart},
    },
};

/// Longest sentence that is taken from, or told to, the peer, in bytes.
const MAX_DETAIL: usize = 500;

/// A request's head as it travels. The driver fills in the id.
pub(super) fn start_of(
    head: RequestHead,
    context: &Context,
    body: Bytes,
    end: bool,
    between_nodes: bool,
) -> RequestStart {
    RequestStart {
        id: 0,
        tunnel: between_nodes.then(|| context.tunnel.clone()),
        exchange: context.exchange.0,
        method: head.method,
        secure: head.scheme == Scheme::Https,
        authority: head.authority,
        target: head.target,
        headers: head.headers,
        visitor: context.visitor.as_ref().map(ToString::to_string),
        tls: context.tls.clone(),
        notes: context.notes.clone(),
        body,
        end,
    }
}

/// A request's head as it came, and its body's first piece.
pub(super) fn head_of(start: RequestStart, kind: RequestKind) -> (RequestHead, Bytes) {
    let head = RequestHead {
        kind,
        method: start.method,
        scheme: if start.secure { Scheme::Https } else { Scheme::Http },
        authority: start.authority,
        target: start.target,
        headers: start.headers,
    };
    (head, start.body)
}

/// What the answering side knows of an exchange, taken out of its head.
pub(super) fn context_of(start: &mut RequestStart, tunnel: TunnelName) -> Context {
    let visitor = start.visitor.take().and_then(|address| Some(address.parse::<SocketAddr>().ok()?.into()));
    Context {
        exchange: ExchangeId(start.exchange),
        tunnel,
        visitor,
        tls: start.tls.take(),
        notes: std::mem::take(&mut start.notes),
        interim: None,
        witness: None,
    }
}

/// The code and the sentence by which a failure travels between nodes.
pub(super) fn cancel_between_nodes(mut error: ForwardError) -> (CancelCode, String) {
    match (error.take_unsent().is_some(), error.kind()) {
        (true, ErrorKind::TooManyExchanges) => (CancelCode::Full, cut(error.detail()).to_owned()),
        (true, _) => (CancelCode::NotHere, String::new()),
        (false, ErrorKind::TunnelGone) => (CancelCode::SessionGone, cut(error.detail()).to_owned()),
        (false, _) => cancel_of(&error),
    }
}

/// Whether an exchange that is cut off with this code was never sent to a client.
pub(super) fn never_sent(code: CancelCode) -> bool {
    matches!(code, CancelCode::NotHere | CancelCode::Full)
}

/// The code and the sentence by which a failure travels.
pub(super) fn cancel_of(error: &ForwardError) -> (CancelCode, String) {
    let code = match error.kind() {
        ErrorKind::Cancelled => CancelCode::Gone,
        ErrorKind::TimedOut => CancelCode::TimedOut,
        ErrorKind::OriginUnreachable => CancelCode::OriginUnreachable,
        ErrorKind::OriginFailed => CancelCode::OriginFailed,
        ErrorKind::RequestTooLarge { .. } => CancelCode::RequestTooLarge,
        ErrorKind::ResponseTooLarge { .. } => CancelCode::ResponseTooLarge,
        ErrorKind::RefusedByPlugin => CancelCode::Refused,
        ErrorKind::PluginFailed => CancelCode::PluginFailed,
        ErrorKind::PluginBusy => CancelCode::PluginBusy,
        ErrorKind::TooManyExchanges | ErrorKind::TooManyRequests { .. } => CancelCode::TooManyExchanges,
        ErrorKind::Draining => CancelCode::Draining,
        ErrorKind::PeerBrokeProtocol => CancelCode::ProtocolBroken,
        _ => CancelCode::Failed,
    };
    (code, cut(error.detail()).to_owned())
}

/// The failure that a peer's code and sentence stand for.
pub(super) fn error_of(code: CancelCode, detail: &str) -> ForwardError {
    let (kind, fallback) = match code {
        CancelCode::Gone => (ErrorKind::Cancelled, "the exchange was given up"),
        CancelCode::TimedOut => (ErrorKind::TimedOut, "the origin didn't answer in time"),
        CancelCode::OriginUnreachable => (ErrorKind::OriginUnreachable, "the origin can't be reached"),
        CancelCode::OriginFailed => (ErrorKind::OriginFailed, "the origin broke off"),
        // The limit itself was named where it was passed; here only the sentence is left.
        CancelCode::RequestTooLarge => {
            (ErrorKind::RequestTooLarge { limit: 0 }, "the request's body is too large")
        }
        CancelCode::ResponseTooLarge => {
            (ErrorKind::ResponseTooLarge { limit: 0 }, "the response's body is too large")
        }
        CancelCode::Refused => (ErrorKind::RefusedByPlugin, "a plugin at the client refused the request"),
        CancelCode::TooManyExchanges => {
            (ErrorKind::TooManyExchanges, "the client has too many exchanges open")
        }
        CancelCode::Draining => (ErrorKind::TunnelGone, "the client is going away"),
        CancelCode::ProtocolBroken => {
            (ErrorKind::PeerBrokeProtocol, "the exchange broke the tunnel's protocol")
        }
        CancelCode::PluginFailed => (ErrorKind::PluginFailed, "a plugin at the client failed"),
        CancelCode::PluginBusy => (ErrorKind::PluginBusy, "a plugin at the client has too much to do"),
        CancelCode::Failed => (ErrorKind::OriginFailed, "the client failed to answer"),
        CancelCode::NotHere => {
            (ErrorKind::TunnelGone, "no session of the tunnel is at the node that was asked")
        }
        CancelCode::Full => (ErrorKind::TooManyExchanges, "the tunnel has too many exchanges open"),
        CancelCode::SessionGone => (ErrorKind::TunnelGone, "the tunnel's session ended"),
    };
    let detail = cut(detail);
    if detail.is_empty() {
        ForwardError::new(kind, fallback)
    } else {
        ForwardError::new(kind, detail.to_owned())
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_DETAIL)]
}

//! A verdict on a message, held against what a plugin may, and in our own words.

use crate::exchange::websocket::{Close, Event, may_be_sent};

use super::super::{
    bindings::tunnel::plugin::types::{Side, WsAction, WsInterest, WsMessage, WsVerdict},
    error::HookError,
};

/// Extra messages of one verdict: enough for a batch of answers, few enough that a guest can't multiply traffic without
/// end.
pub(super) const MAX_EXTRA: usize = 64;

/// Bytes of a close frame's reason (RFC 6455 section 5.5: 125 with the code).
const MAX_REASON: usize = 123;

/// A verdict that may be applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) action: Action,
    /// What follows the message, to the named sides.
    pub(super) send: Vec<(Side, Event)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Keep,
    Replace(Event),
    Discard,
    Close(Close),
}

/// Checks all of a verdict but its state.
///
/// # Errors
/// Something in it isn't allowed.
pub(super) fn check(verdict: WsVerdict, largest: usize) -> Result<(Checked, Option<Vec<u8>>), HookError> {
    let WsVerdict { action, send, state } = verdict;
    let checked = || {
        let action = match action {
            WsAction::Keep => Action::Keep,
            WsAction::Discard => Action::Discard,
            WsAction::Replace(message) => {
                within(size(&message), "a message", largest)?;
                Action::Replace(event(message))
            }
            WsAction::Close((code, reason)) => Action::Close(close(code, reason)?),
        };
        if send.len() > MAX_EXTRA {
            return Err(format!("{} extra messages, and {MAX_EXTRA} may follow one", send.len()));
        }
        let all = send.iter().map(|(_, message)| size(message)).sum();
        within(all, "extra messages", largest)?;
        Ok(Checked { action, send: send.into_iter().map(|(side, message)| (side, event(message))).collect() })
    };
    Ok((checked().map_err(HookError::Verdict)?, state))
}

fn within(bytes: usize, what: &str, limit: usize) -> Result<(), String> {
    if bytes <= limit {
        return Ok(());
    }
    Err(format!("{what} of {bytes} bytes, and the limit is {limit} (limits.message)"))
}

fn close(code: u16, reason: String) -> Result<Close, String> {
    if !may_be_sent(code) {
        return Err(format!("the close code {code}, which no frame may carry (RFC 6455 section 7.4)"));
    }
    if reason.len() > MAX_REASON {
        return Err(format!("a reason of {} bytes, and a close has room for {MAX_REASON}", reason.len()));
    }
    Ok(Close { code, reason })
}

fn size(message: &WsMessage) -> usize {
    match message {
        WsMessage::Text(text) => text.len(),
        WsMessage::Binary(bytes) => bytes.len(),
    }
}

/// The message as others see it. Its bytes stay where they are.
pub(super) fn event(message: WsMessage) -> Event {
    match message {
        WsMessage::Text(text) => Event::Text(text.into()),
        WsMessage::Binary(bytes) => Event::Binary(bytes.into()),
    }
}

/// The message as a guest sees it, if the event is one and of interest; else the event as it was.
pub(super) fn interesting(event: Event, sender: Side, interest: WsInterest) -> Result<WsMessage, Event> {
    let (text, binary) = match sender {
        Side::Visitor => (WsInterest::VISITOR_TEXT, WsInterest::VISITOR_BINARY),
        Side::Origin => (WsInterest::ORIGIN_TEXT, WsInterest::ORIGIN_BINARY),
    };
    match event {
        Event::Text(bytes) if interest.contains(text) => {
            // Checked where it came in; what it isn't can't be shown to a guest.
            String::from_utf8(bytes.into())
                .map(WsMessage::Text)
                .map_err(|error| Event::Text(error.into_bytes().into()))
        }
        Event::Binary(bytes) if interest.contains(binary) => Ok(WsMessage::Binary(bytes.into())),
        event => Err(event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(action: WsAction, send: Vec<(Side, WsMessage)>) -> Result<Checked, String> {
        check(WsVerdict { action, send, state: None }, 10)
            .map(|(checked, _)| checked)
            .map_err(|error| error.to_string())
    }

    fn text(text: &str) -> WsMessage {
        WsMessage::Text(text.to_owned())
    }

    #[test]
    fn closes_are_those_that_a_frame_can_carry() {
        for code in [1000, 1003, 1007, 1008, 1014, 3000, 4999] {
            let close = checked(WsAction::Close((code, "x".repeat(123))), Vec::new()).expect("allowed");
            assert_eq!(close.action, Action::Close(Close::new(code, "x".repeat(123))));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            let refused = checked(WsAction::Close((code, String::new())), Vec::new()).expect_err("refused");
            assert!(refused.contains(&code.to_string()), "{refused}");
        }
        let refused = checked(WsAction::Close((1000, "é".repeat(62))), Vec::new()).expect_err("refused");
        assert!(refused.contains("124 bytes"), "{refused}");
    }

    #[test]
    fn messages_are_held_to_their_limit_and_number() {
        assert!(checked(WsAction::Replace(text("0123456789")), Vec::new()).is_ok());
        let refused = checked(WsAction::Replace(text("0123456789a")), Vec::new()).expect_err("refused");
        assert!(refused.contains("limits.message"), "{refused}");

        let two = |second| vec![(Side::Visitor, text("01234")), (Side::Origin, text(second))];
        assert!(checked(WsAction::Keep, two("56789")).is_ok());
        assert!(checked(WsAction::Keep, two("56789a")).is_err(), "together they are over the limit");

        let many = |count| vec![(Side::Visitor, text("")); count];
        assert_eq!(checked(WsAction::Discard, many(MAX_EXTRA)).expect("allowed").send.len(), MAX_EXTRA);
        let refused = checked(WsAction::Discard, many(MAX_EXTRA + 1)).expect_err("refused");
        assert!(refused.contains("65 extra messages"), "{refused}");
    }
}

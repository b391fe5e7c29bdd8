//! What a hook says about a body, or a piece of one.
//!
//! Owns the builders; knows nothing of where bodies come from.

use std::result;

use crate::{
    Abort, Fault, Respond,
    bindings::plugin::types::BodyAction,
    head::{Edits, edits},
};

/// A whole body, or what has arrived of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether nothing follows. True exactly once for each body, then possibly with no bytes; a whole body is its own last
    /// piece.
    pub last: bool,
}

/// What to do with it: a [`Body`], and in mode `whole` also a [`Respond`] or an [`Abort`]. They convert with `into()`, also
/// straight into the `Result` that a hook returns.
#[derive(Debug)]
pub struct BodyVerdict(pub(crate) Choice);

#[derive(Debug)]
pub(crate) enum Choice {
    Body(Body),
    Respond(Respond),
    Abort(Abort),
}

/// What is sent on in a body's, or a piece's, place. The edits are for the head that waited for a whole body; a head of
/// which the body comes in pieces has gone ahead and can't be changed any more.
#[derive(Debug)]
pub struct Body {
    pub(crate) edits: Edits,
    pub(crate) action: BodyAction,
}

impl Body {
    /// As it came.
    #[must_use]
    pub fn keep() -> Self {
        Self { edits: Edits::default(), action: BodyAction::Keep }
    }

    /// These bytes instead; none at all drops the piece.
    #[must_use]
    pub fn replace(bytes: impl Into<Vec<u8>>) -> Self {
        Self { edits: Edits::default(), action: BodyAction::Replace(bytes.into()) }
    }

    edits!();
}

impl From<Body> for BodyVerdict {
    fn from(body: Body) -> Self {
        Self(Choice::Body(body))
    }
}

impl From<Respond> for BodyVerdict {
    fn from(respond: Respond) -> Self {
        Self(Choice::Respond(respond))
    }
}

impl From<Abort> for BodyVerdict {
    fn from(abort: Abort) -> Self {
        Self(Choice::Abort(abort))
    }
}

impl From<Body> for result::Result<BodyVerdict, Fault> {
    fn from(body: Body) -> Self {
        Ok(body.into())
    }
}

impl From<Respond> for result::Result<BodyVerdict, Fault> {
    fn from(respond: Respond) -> Self {
        Ok(respond.into())
    }
}

impl From<Abort> for result::Result<BodyVerdict, Fault> {
    fn from(abort: Abort) -> Self {
        Ok(abort.into())
    }
}

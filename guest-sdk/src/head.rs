//! What a hook says about a head: forward it, answer it, or break off.
//!
//! Owns the builders of these verdicts. What may be changed is checked by the host, not here: one place for the rules.

use std::result;

use serde::Serialize;

use crate::{
    Fault,
    bindings::plugin::types::{Answer, BodyMode, Edit},
};

/// What to do with a request or a response: a [`Forward`], a [`Respond`] or an [`Abort`]. All three convert with `into()`,
/// also straight into the `Result` that a hook returns.
#[derive(Debug)]
pub struct Verdict<S = ()>(pub(crate) Choice<S>);

#[derive(Debug)]
pub(crate) enum Choice<S> {
    Forward(Forward<S>),
    Respond(Respond),
    Abort(Abort),
}

/// The edits of a head, with names and values as given.
#[derive(Debug, Default)]
pub(crate) struct Edits(pub(crate) Vec<Edit>);

impl Edits {
    pub(crate) fn push(&mut self, edit: Edit) {
        self.0.push(edit);
    }
}

pub(crate) fn header(name: impl AsRef<str>, value: impl AsRef<[u8]>) -> (String, Vec<u8>) {
    (name.as_ref().to_owned(), value.as_ref().to_owned())
}

/// The edits are the same for a head that goes on at once, and for one that waited for its body.
macro_rules! edits {
    () => {
        /// Sets a header: its former values, if any, go. Names and values are those of the crate `http`, or plain
        /// strings; the host checks them.
        #[must_use]
        pub fn set_header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
            self.edits.push(crate::bindings::plugin::types::Edit::Set(crate::head::header(name, value)));
            self
        }

        /// Adds a value to those that the header has.
        #[must_use]
        pub fn append_header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
            self.edits.push(crate::bindings::plugin::types::Edit::Append(crate::head::header(name, value)));
            self
        }

        /// Takes a header off, if it is there.
        #[must_use]
        pub fn remove_header(mut self, name: impl AsRef<str>) -> Self {
            self.edits.push(crate::bindings::plugin::types::Edit::Remove(name.as_ref().to_owned()));
            self
        }

        /// Requests only: another method.
        #[must_use]
        pub fn set_method(mut self, method: impl AsRef<str>) -> Self {
            self.edits.push(crate::bindings::plugin::types::Edit::SetMethod(method.as_ref().to_owned()));
            self
        }

        /// Requests only: another path, with its query; it begins with `/`.
        #[must_use]
        pub fn set_path(mut self, path_and_query: impl Into<String>) -> Self {
            self.edits.push(crate::bindings::plugin::types::Edit::SetPath(path_and_query.into()));
            self
        }

        /// Requests only: another host, with its port if any, for the origin to read. It doesn't choose another origin.
        #[must_use]
        pub fn set_authority(mut self, authority: impl Into<String>) -> Self {
            self.edits.push(crate::bindings::plugin::types::Edit::SetAuthority(authority.into()));
            self
        }

        /// Responses only: another status.
        #[must_use]
        pub fn set_status(mut self, status: impl crate::head::Status) -> Self {
            self.edits.push(crate::bindings::plugin::types::Edit::SetStatus(status.code()));
            self
        }
    };
}
pub(crate) use edits;

/// Goes on: to the next plugin, to the origin, or back to the visitor.
#[derive(Debug)]
pub struct Forward<S = ()> {
    pub(crate) edits: Edits,
    pub(crate) body: BodyMode,
    pub(crate) state: Option<S>,
}

impl<S> Forward<S> {
    /// As it came.
    #[must_use]
    pub fn new() -> Self {
        Self { edits: Edits::default(), body: BodyMode::Pass, state: None }
    }

    edits!();

    /// The body hook gets the whole body at once, and what it returns is sent instead. The head waits for it. 500 kB at
    /// most, unless the policy says otherwise.
    #[must_use]
    pub fn whole_body(mut self) -> Self {
        self.body = BodyMode::Whole;
        self
    }

    /// The body hook gets each piece as it arrives, which may cut a line or a character in two. The head goes ahead.
    #[must_use]
    pub fn body_in_pieces(mut self) -> Self {
        self.body = BodyMode::Chunks;
        self
    }

    /// Hands something on to the later hooks of this exchange.
    #[must_use]
    pub fn state(mut self, state: S) -> Self {
        self.state = Some(state);
        self
    }
}

impl<S> Default for Forward<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// Answers on the spot; nothing is forwarded.
#[derive(Debug)]
pub struct Respond {
    pub(crate) answer: Answer,
    pub(crate) fault: Option<Fault>,
}

impl Respond {
    /// An answer without headers and body: 200 to 599.
    #[must_use]
    pub fn new(status: impl Status) -> Self {
        let answer = Answer { status: status.code(), headers: Vec::new(), body: Vec::new() };
        Self { answer, fault: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        self.answer.headers.push(header(name, value));
        self
    }

    /// Sets the body. The host adds its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.answer.body = body.into();
        self
    }

    /// Sets a body of plain text, and its type.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        self.header("content-type", "text/plain; charset=utf-8").body(text.into())
    }

    /// Sets a body of HTML, and its type.
    #[must_use]
    pub fn html(self, html: impl Into<String>) -> Self {
        self.header("content-type", "text/html; charset=utf-8").body(html.into())
    }

    /// Sets a body of JSON, and its type.
    #[must_use]
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(text) => self.header("content-type", "application/json").body(text),
            // Told when the verdict is given: a chain of calls has no place for an error.
            Err(error) => {
                self.fault = Some(Fault::new(format!("the answer can't be written as JSON: {error}")));
                self
            }
        }
    }
}

/// Breaks the exchange off: the visitor gets an error that says a plugin did.
#[derive(Debug)]
pub struct Abort(pub(crate) String);

impl Abort {
    /// Why, for the log.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// The status of an answer: a number, or a `StatusCode` of the crate `http`.
pub trait Status: sealed::Sealed {
    /// The number.
    fn code(self) -> u16;
}

impl Status for u16 {
    fn code(self) -> u16 {
        self
    }
}

impl Status for http::StatusCode {
    fn code(self) -> u16 {
        self.as_u16()
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u16 {}
    impl Sealed for http::StatusCode {}
}

impl<S> From<Forward<S>> for Verdict<S> {
    fn from(forward: Forward<S>) -> Self {
        Self(Choice::Forward(forward))
    }
}

impl<S> From<Respond> for Verdict<S> {
    fn from(respond: Respond) -> Self {
        Self(Choice::Respond(respond))
    }
}

impl<S> From<Abort> for Verdict<S> {
    fn from(abort: Abort) -> Self {
        Self(Choice::Abort(abort))
    }
}

impl<S> From<Forward<S>> for result::Result<Verdict<S>, Fault> {
    fn from(forward: Forward<S>) -> Self {
        Ok(forward.into())
    }
}

impl<S> From<Respond> for result::Result<Verdict<S>, Fault> {
    fn from(respond: Respond) -> Self {
        Ok(respond.into())
    }
}

impl<S> From<Abort> for result::Result<Verdict<S>, Fault> {
    fn from(abort: Abort) -> Self {
        Ok(abort.into())
    }
}

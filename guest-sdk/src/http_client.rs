//! Requests of the plugin's own, to origins that the operator allows: `grant = { http = ["https://idp.example.com"] }`.
//!
//! ```no_run
//! # fn main() -> guest_sdk::Result<()> {
//! use guest_sdk::http_client;
//!
//! let keys: serde_json::Value = http_client::get("https://idp.example.com/keys").send()?.ok()?.json()?;
//! # Ok(()) }
//! ```
//! Waiting for an answer suspends this instance, and doesn't count as its running time.

use std::{fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Fault,
    bindings::plugin::{http_client, types},
    head, host,
};

/// A `GET`. The URL is absolute.
#[must_use]
pub fn get(url: impl Into<String>) -> Call {
    Call::new("GET", url)
}

/// A `POST`.
#[must_use]
pub fn post(url: impl Into<String>) -> Call {
    Call::new("POST", url)
}

/// A request that isn't sent yet.
#[derive(Debug)]
pub struct Call {
    request: http_client::Request,
}

impl Call {
    /// Any method.
    #[must_use]
    pub fn new(method: impl AsRef<str>, url: impl Into<String>) -> Self {
        let request = http_client::Request {
            method: method.as_ref().to_owned(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: 0,
        };
        Self { request }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        self.request.headers.push(head::header(name, value));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.request.body = body.into();
        self
    }

    /// Sets a body of JSON, and its type.
    ///
    /// # Errors
    /// The value can't be written as JSON.
    pub fn json(self, value: &impl Serialize) -> Result<Self, Fault> {
        Ok(self.header("content-type", "application/json").body(serde_json::to_vec(value)?))
    }

    /// Waits this long for the last byte of the answer; 10 s unless set, which is also the longest.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        // 0 would mean the default.
        self.request.timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        self
    }

    /// Sends it and waits for the whole answer. Redirects are not followed: they come back as answers.
    ///
    /// # Errors
    /// There is no answer. One with an error status is an answer: see [`Answer::ok`].
    pub fn send(self) -> Result<Answer, Error> {
        let answer = host::http_client::send(&self.request)?;
        Ok(Answer { answer, url: self.request.url })
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    answer: types::Answer,
    url: String,
}

impl Answer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.answer.status
    }

    /// The first value of a header, if it is text.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.answer.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.answer.body
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// It can't be read as `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(&self.answer.body).map_err(|error| {
            Fault::new(format!("{} didn't answer with the JSON expected: {error}", self.url))
        })
    }

    /// Itself, if its status is 200 to 299.
    ///
    /// # Errors
    /// Another status, with the URL.
    pub fn ok(self) -> Result<Self, Fault> {
        match self.answer.status {
            200..300 => Ok(self),
            status => Err(Fault::new(format!("{} answered {status}", self.url))),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The origin isn't granted, or its name resolves to an address that it may not have.
    Denied(String),
    /// The answer is over the plugin's limit for bodies.
    TooLarge,
    /// It took too long.
    Timeout,
    /// No connection.
    Connect(String),
    /// What came was no HTTP.
    Protocol(String),
}

impl From<http_client::Error> for Error {
    fn from(error: http_client::Error) -> Self {
        match error {
            http_client::Error::Denied(reason) => Self::Denied(reason),
            http_client::Error::TooLarge => Self::TooLarge,
            http_client::Error::Timeout => Self::Timeout,
            http_client::Error::Connect(reason) => Self::Connect(reason),
            http_client::Error::Protocol(reason) => Self::Protocol(reason),
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl From<Error> for http_client::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(reason) => Self::Denied(reason),
            Error::TooLarge => Self::TooLarge,
            Error::Timeout => Self::Timeout,
            Error::Connect(reason) => Self::Connect(reason),
            Error::Protocol(reason) => Self::Protocol(reason),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) => write!(f, "the request isn't allowed: {reason}"),
            Self::TooLarge => f.write_str("the answer is over the plugin's limit for bodies"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Connect(reason) => write!(f, "no connection: {reason}"),
            Self::Protocol(reason) => write!(f, "no valid HTTP came back: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

//! The original's dialect: JSON documents in text frames, and the tokens by which its clients register.
//!
//! `docs/protocol-v1.md` is the same in words. Only a proxy speaks it; what its documents mean as messages of ours is
//! `session::v1`'s part.

mod document;
mod token;

pub use document::{
    DocumentError, FromClient, HttpResponse, Path, RegistrationRequest, http_request, ping,
    registration_response, url_of, ws_message, ws_request, ws_teardown,
};
pub use token::{MandateToken, TokenError};

use std::time::Duration;

/// Bytes of one request's body: the original's limit, and more than its clients take in one frame.
pub const MAX_BODY: usize = 500_000;

/// Longest document that is read. A body of [`MAX_BODY`] takes 670 kB; what is longer is answered as too large up to this, and
/// ends the session beyond, since a frame can't be skipped.
pub const MAX_DOCUMENT: usize = 4 * 1024 * 1024;

/// Longest first document of a connection. The known clients' have about 900 bytes.
pub const MAX_REGISTRATION: usize = 64 * 1024;

/// Clients give a connection up on which nothing came for 20 s, and say nothing themselves.
pub const PING_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;

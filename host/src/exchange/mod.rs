//! One exchange inside this process: a visitor's request, its way, and the answer that comes back.
//!
//! Owns the trait [`Forward`], which every stage of the way implements, and the values that pass through it.
//! Must not know who called, who answers, or that there is a network between them.

pub mod body;
pub mod context;
pub mod error;
pub mod hygiene;
pub mod request;
pub mod response;
pub mod swap;
pub mod together;
pub mod websocket;
pub mod witness;

pub use body::Body;
pub use context::{Context, ExchangeId, Interim, VisitorAddress};
pub use error::{Blame, ErrorKind, ForwardError};
pub use request::{Request, RequestHead, RequestKind, Scheme};
pub use response::{Accepted, Answer, Response};
pub use swap::Swap;
pub use together::poll_write_together;
pub use witness::{Asked, Witness};

use std::{future::Future, pin::Pin};

/// What [`Forward::forward`] returns. Dropping it before it is ready cancels the exchange.
pub type ForwardFuture<'a> = Pin<Box<dyn Future<Output = Result<Answer, ForwardError>> + Send + 'a>>;

/// One stage of a request's way: takes a request, gives an answer or says why there is none.
///
/// A chain of plugins, the route to a tunnel, a live session and the origin all implement it, so that a role's
/// whole pipeline is one expression. An upgrade to WebSocket is a request like any other whose answer
/// ([`Answer::WebSocket`]) carries a duplex of messages.
pub trait Forward: Send + Sync + 'static {
    /// Forwards one request. The returned body, or duplex, goes on after the future is done; dropping it cancels
    /// what is left of the exchange.
    fn forward(&self, request: Request) -> ForwardFuture<'_>;
}

//! Traces: spans of exchanges, and the headers by which they hang together across programs (W3C Trace Context).
//!
//! Owns what a span says and the two headers `traceparent` and `tracestate`. Two spans are made in each role: one for the exchange
//! as it came in, and one for the exchange as it goes on, whose id the next program gets as its parent. The parent of the second is
//! found in the header that the first has written, so that the stages between know nothing of any of this. Where nothing is
//! exported there are no such stages, and the headers pass as they came. Must not know roles or sessions.

mod export;
mod parent;
mod span;
mod stage;

pub use export::{Export, ExportError, Tracing};
pub use span::{Hop, Span, Taken, Tracer};
pub use stage::{Inward, Onward};

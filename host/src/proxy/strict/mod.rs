//! HTTP/1.1 as RFC 9112 has it, and nothing beside it.
//!
//! The HTTP library reads requests as widely as it can: it takes a bare LF for a line's end, drops a Content-Length beside
//! chunks, forgets a target's fragment. What it forgives can't be seen afterwards, and a web server in front of us, or a
//! program that looks at the same bytes, may have read something else. So each byte goes by a [`Machine`] first, which lets through
//! what has one meaning only, unchanged, and says of all else which [`Violation`] it is.
//!
//! Owns the grammar. The machine is pure: bytes and what is known of them go in, how many may pass comes out; `StrictIo` puts it
//! in front of a socket. Must not know routing, beyond which hosts are hosts, or what is answered.

mod chunk;
mod count;
mod field;
mod head;
mod io;
mod violation;

#[cfg(test)]
mod tests;

pub(crate) use count::BadRequests;
pub(crate) use head::asks_for_another;
pub(crate) use io::{Door, StrictIo};
pub use violation::Violation;

pub use super::route::BadTarget;

use self::{
    chunk::Chunks,
    head::{Framing, Head, Whole},
};

/// What a head may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes, of a head and of trailers.
    pub head: usize,
    /// Header fields, and trailers.
    pub fields: usize,
}

/// Follows the bytes of one connection.
#[derive(Debug)]
pub struct Machine {
    bounds: Bounds,
    state: State,
    /// An empty line was forgiven since the last request.
    skipped: bool,
    /// The request in hand asks to speak another protocol afterwards.
    upgrade: bool,
}

#[derive(Debug)]
enum State {
    Head(Head),
    Length(u64),
    Chunked(Chunks),
    /// After a request to upgrade, until it is granted.
    Waiting,
    /// After a granted one.
    Raw,
}

/// What becomes of the bytes in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many may pass.
    Pass(usize),
    /// So many are to be left out.
    Skip(usize),
    /// There have to be more before anything can be said.
    More,
    /// None may pass until [`Machine::switch`] is called.
    Hold,
}

impl Machine {
    /// Before the first byte of a connection.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, state: State::Head(Head::default()), skipped: false, upgrade: false }
    }

    /// Looks at the bytes that are there: all that came and weren't passed or skipped, from the first on. To be called again
    /// after what it says was done, or with more of them.
    ///
    /// # Errors
    /// They aren't HTTP. Nothing that follows on this connection can be read any more.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Violation> {
        let step = match &mut self.state {
            State::Waiting => return Ok(Step::Hold),
            _ if input.is_empty() => return Ok(Step::More),
            State::Raw => return Ok(Step::Pass(input.len())),
            State::Head(head) => {
                if head.is_untouched() && input[0] == b'\r' {
                    return empty_line(input, &mut self.skipped);
                }
                let Some(whole) = head.read(input, &self.bounds)? else { return Ok(Step::More) };
                let Whole { length, body, upgrade } = whole;
                (self.skipped, self.upgrade) = (false, upgrade);
                self.state = match body {
                    Framing::Length(length) => State::Length(length),
                    Framing::Chunked => State::Chunked(Chunks::new()),
                };
                Step::Pass(length)
            }
            State::Length(left) => {
                let (pass, rest) = chunk::split(*left, input.len());
                *left = rest;
                Step::Pass(pass)
            }
            State::Chunked(chunks) => match chunks.read(input, &self.bounds)? {
                0 => Step::More,
                pass => Step::Pass(pass),
            },
        };
        self.end_of_request();
        Ok(step)
    }

    fn end_of_request(&mut self) {
        let over = match &self.state {
            State::Length(left) => *left == 0,
            State::Chunked(chunks) => chunks.are_over(),
            _ => false,
        };
        if over {
            self.state = if self.upgrade { State::Waiting } else { State::Head(Head::default()) };
        }
    }

    /// The upgrade was granted: whatever comes isn't HTTP any more. Nothing happens unless one was asked for, and its body is
    /// over.
    pub fn switch(&mut self) {
        if matches!(self.state, State::Waiting) {
            self.state = State::Raw;
        }
    }

    /// How many bytes may pass from here on, whatever they are.
    pub fn free(&self) -> u64 {
        match &self.state {
            State::Length(left) => *left,
            State::Chunked(chunks) => chunks.data_left(),
            State::Raw => u64::MAX,
            State::Head(_) | State::Waiting => 0,
        }
    }

    /// So many of the bytes that are [`free`](Self::free) passed without having been shown.
    pub fn passed(&mut self, bytes: usize) {
        match &mut self.state {
            State::Length(left) => (_, *left) = chunk::split(*left, bytes),
            State::Chunked(chunks) => {
                let left = chunks.data_left();
                if left > 0 {
                    chunks.data(left, bytes);
                }
            }
            State::Head(_) | State::Waiting | State::Raw => return,
        }
        self.end_of_request();
    }

    /// Whether a request's head has begun and hasn't ended.
    pub fn is_mid_head(&self) -> bool {
        matches!(&self.state, State::Head(head) if !head.is_untouched())
    }

    /// Whether what comes next belongs to a body.
    pub fn is_mid_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_))
    }
}

/// RFC 9112 section 2.2: an empty line before a request is ignored, which some old programs send after a body.
fn empty_line(input: &[u8], skipped: &mut bool) -> Result<Step, Violation> {
    match input.get(1) {
        None => Ok(Step::More),
        Some(b'\n') if *skipped => Err(Violation::EmptyLines),
        Some(b'\n') => {
            *skipped = true;
            Ok(Step::Skip(2))
        }
        Some(_) => Err(Violation::BareCr),
    }
}

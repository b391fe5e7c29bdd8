//! Text that is changed while it passes. A piece may end anywhere, also in the middle of what is looked for: that end is
//! kept for the next piece, and nothing else is.

use guest_sdk::Piece;
use serde::{Deserialize, Serialize};

const END_OF_PAGE: &[u8] = b"</body>";

/// An event that is longer than this passes as it is: what is kept has to fit into the state of an exchange.
const LONGEST_EVENT: usize = 32 * 1024;

/// Puts a snippet before the first `</body>`.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Injection {
    kept: Vec<u8>,
    done: bool,
}

impl Injection {
    pub(crate) fn pass(&mut self, piece: &Piece, snippet: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.kept);
        text.extend_from_slice(&piece.bytes);
        if self.done {
            return text;
        }
        let found =
            text.windows(END_OF_PAGE.len()).position(|window| window.eq_ignore_ascii_case(END_OF_PAGE));
        if let Some(at) = found {
            text.splice(at..at, snippet.iter().copied());
            self.done = true;
        } else if !piece.last {
            self.kept = text.split_off(text.len() - beginning_at_end(&text));
        }
        text
    }
}

/// How many bytes at the end may be the beginning of `</body>`.
fn beginning_at_end(text: &[u8]) -> usize {
    let lengths = (1..END_OF_PAGE.len()).rev();
    let begins = |&length: &usize| {
        text.len() >= length && text[text.len() - length..].eq_ignore_ascii_case(&END_OF_PAGE[..length])
    };
    lengths.into_iter().find(begins).unwrap_or(0)
}

/// Cuts a stream into events, each with the empty line that ends it.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Events {
    kept: Vec<u8>,
    /// The beginning of this event has gone ahead, because it was too long: the rest of it passes as it is.
    long: bool,
}

impl Events {
    pub(crate) fn pass(&mut self, piece: &Piece, change: impl Fn(&str) -> String) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.kept);
        text.extend_from_slice(&piece.bytes);
        let mut passed = Vec::new();
        let mut start = 0;
        while let Some(length) = event(&text[start..], self.long) {
            self.part(&text[start..start + length], &change, &mut passed);
            self.long = false;
            start += length;
        }
        let mut rest = text.split_off(start);
        self.long |= rest.len() > LONGEST_EVENT;
        if piece.last {
            self.part(&rest, &change, &mut passed);
        } else {
            if self.long {
                // The end of a line stays here: an empty line may follow it, and that ends the event.
                let lines = rest.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |at| at + 1);
                passed.extend(rest.drain(..lines));
            }
            self.kept = rest;
        }
        passed
    }

    fn part(&self, text: &[u8], change: impl Fn(&str) -> String, passed: &mut Vec<u8>) {
        if self.long { passed.extend(text) } else { passed.extend(changed(text, change)) }
    }
}

/// The length of the event that `text` begins with, if all of it is there: up to and with its first empty line. Lines end
/// with CR LF, LF or CR. `inside`: in the middle of an event, so that the first line isn't an empty one.
fn event(text: &[u8], inside: bool) -> Option<usize> {
    let mut empty = !inside;
    let mut at = 0;
    while at < text.len() {
        let end = match &text[at..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        at += end.max(1);
        if end > 0 && empty {
            return Some(at);
        }
        empty = end > 0;
    }
    None
}

/// Events are UTF-8; what isn't passes as it is.
fn changed(event: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    str::from_utf8(event).map_or_else(|_| event.to_owned(), |event| change(event).into_bytes())
}

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
}

impl Events {
    pub(crate) fn pass(&mut self, piece: &Piece, change: impl Fn(&str) -> String) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.kept);
        text.extend_from_slice(&piece.bytes);
        let mut passed = Vec::new();
        let mut start = 0;
        while let Some(end) = end_of_event(&text[start..]) {
            passed.extend(changed(&text[start..start + end], &change));
            start += end;
        }
        let rest = text.split_off(start);
        if piece.last {
            passed.extend(changed(&rest, &change));
        } else if rest.len() > LONGEST_EVENT {
            passed.extend(rest);
        } else {
            self.kept = rest;
        }
        passed
    }
}

fn end_of_event(text: &[u8]) -> Option<usize> {
    let ends: [&[u8]; 2] = [b"\n\n", b"\r\n\r\n"];
    ends.into_iter().filter_map(|end| Some(text.windows(end.len()).position(|w| w == end)? + end.len())).min()
}

/// Events are UTF-8; what isn't passes as it is.
fn changed(event: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    str::from_utf8(event).map_or_else(|_| event.to_owned(), |event| change(event).into_bytes())
}

//! Lines and characters that heads and trailers have in common (RFC 9110 section 5, RFC 9112 section 2.2). Pure functions.

use super::Violation;
use crate::proxy::charset::Charset;

/// Bytes of a header field's name. The longest that are registered have fewer than 50; the HTTP library gives up at 64 KiB.
const LONGEST_NAME: usize = 1024;

/// RFC 9110 section 5.6.2.
const TOKEN: Charset = Charset::alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// What stands at the beginning of some bytes.
pub(super) enum Line<'a> {
    /// A line, without its end.
    Whole(&'a [u8]),
    /// The beginning of one, in which nothing is wrong so far; it has to be looked at again from this byte on.
    Part(usize),
}

/// Finds the line that begins at `start`, whose bytes before `scanned` were looked at before.
///
/// # Errors
/// The line doesn't end with CRLF, or has a control character in it.
pub(super) fn line(input: &[u8], start: usize, scanned: usize) -> Result<Line<'_>, Violation> {
    let mut at = scanned;
    loop {
        at += plain(input.get(at..).unwrap_or_default());
        match (input.get(at), input.get(at + 1)) {
            (Some(b'\r'), Some(b'\n')) => return Ok(Line::Whole(&input[start..at])),
            (Some(b'\r'), Some(_)) => return Err(Violation::BareCr),
            (None, _) | (Some(b'\r'), None) => return Ok(Line::Part(at)),
            (Some(b'\n'), _) => return Err(Violation::BareLf),
            (Some(b'\t'), _) => at += 1,
            (Some(_), _) => return Err(Violation::Control),
        }
    }
}

/// How many bytes there are before the first control character, looked at eight at a time.
fn plain(bytes: &[u8]) -> usize {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let (words, rest) = bytes.as_chunks();
    for (at, word) in words.iter().enumerate() {
        // The highest bit of a byte is set if it is below 0x20, or 0x7f. What is carried on from such a byte may set others, but
        // only behind it.
        let word = u64::from_le_bytes(*word);
        let controls = word.wrapping_sub(EACH * 0x20) & !word;
        let deletes = (word ^ (EACH * 0x7f)).wrapping_sub(EACH) & !word;
        let found = (controls | deletes) & (EACH * 0x80);
        if found != 0 {
            return at * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let rest = rest.iter().take_while(|byte| !byte.is_ascii_control()).count();
    words.len() * 8 + rest
}

/// Splits a field line into name and value, and holds the name against its grammar. Values are what [`line`] lets through.
///
/// # Errors
/// What stands before the colon isn't a name, or there is no colon.
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let (name, rest) = line.split_at(TOKEN.span(line));
    match rest {
        [b':', value @ ..] if (1..=LONGEST_NAME).contains(&name.len()) => Ok((name, trim(value))),
        _ => Err(no_name(line)),
    }
}

/// Why what stands before a line's colon is no name.
fn no_name(line: &[u8]) -> Violation {
    let before = line.split(|&byte| byte == b':').next().unwrap_or_default();
    match (line, before) {
        ([b' ' | b'\t', ..], _) => Violation::Fold,
        (_, [.., b' ' | b'\t']) if before.len() < line.len() => Violation::SpaceBeforeColon,
        _ => Violation::FieldName,
    }
}

/// Whether they are a token.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && TOKEN.has_all(bytes)
}

/// Without the whitespace around it: spaces and tabs, and nothing else (RFC 9110 section 5.6.3).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_is_found_wherever_it_stands_and_whatever_is_around_it() {
        for byte in 0..=u8::MAX {
            for (around, length) in
                [(b' ', 30), (0x80, 30), (0xff, 17), (b'~', 8), (0, 9), (0x7f, 9), (0x1f, 20)]
            {
                for at in 0..length {
                    let mut bytes = vec![around; length];
                    bytes[at] = byte;
                    let one_by_one = bytes.iter().position(|byte| *byte < 0x20 || *byte == 0x7f);
                    assert_eq!(plain(&bytes), one_by_one.unwrap_or(length), "{byte} at {at} of {around}");
                }
            }
        }
    }
}

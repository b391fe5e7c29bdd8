//! Lines and characters that heads and trailers have in common (RFC 9110 section 5, RFC 9112 section 2.2). Pure functions.

use super::Violation;

/// Bytes of a header field's name. The longest that are registered have fewer than 50; the HTTP library gives up at 64 KiB.
const LONGEST_NAME: usize = 1024;

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
    while let Some(&byte) = input.get(at) {
        match byte {
            b'\r' => match input.get(at + 1) {
                Some(b'\n') => return Ok(Line::Whole(&input[start..at])),
                Some(_) => return Err(Violation::BareCr),
                None => return Ok(Line::Part(at)),
            },
            b'\n' => return Err(Violation::BareLf),
            b'\t' => {}
            0..0x20 | 0x7f => return Err(Violation::Control),
            _ => {}
        }
        at += 1;
    }
    Ok(Line::Part(at))
}

/// Splits a field line into name and value, and holds the name against its grammar. Values are what [`line`] lets through.
///
/// # Errors
/// What stands before the colon isn't a name, or there is no colon.
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Violation::Fold);
    }
    let colon = line.iter().position(|&byte| byte == b':').ok_or(Violation::FieldName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Violation::SpaceBeforeColon);
    }
    if !is_token(name) || name.len() > LONGEST_NAME {
        return Err(Violation::FieldName);
    }
    Ok((name, trim(value)))
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
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

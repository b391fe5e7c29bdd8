//! A body in chunks (RFC 9112 section 7.1), framed so that no two readers can differ.

use super::{
    Bounds, Violation,
    field::{self, Line},
};

/// Bytes of all extensions of a body. Nobody uses any; each is read, and thrown away, by a byte at a time (CVE-2023-39326
/// made others read gigabytes of them).
const MOST_EXTENSIONS: usize = 4096;

/// Digits of a size: as many as everybody's numbers have room for.
const MOST_DIGITS: usize = 15;

/// Where in a body we are.
#[derive(Debug)]
pub(super) struct Chunks {
    part: Part,
    /// Up to where the line or lines in front were looked at.
    scanned: usize,
    extensions: usize,
}

#[derive(Debug)]
enum Part {
    /// In the line with a chunk's size.
    Size,
    /// In a chunk's bytes.
    Data(u64),
    /// In the line's end behind them.
    End,
    /// In the trailers, of which so many were read, and the last line begins here.
    Trailers {
        fields: usize,
        line: usize,
    },
    Over,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { part: Part::Size, scanned: 0, extensions: 0 }
    }

    /// Whether its last byte was passed on.
    pub(super) fn are_over(&self) -> bool {
        matches!(self.part, Part::Over)
    }

    /// Bytes that may pass whatever they are.
    pub(super) fn data_left(&self) -> u64 {
        if let Part::Data(left) = self.part { left } else { 0 }
    }

    /// How many bytes of the input may pass; none if there have to be more first.
    pub(super) fn read(&mut self, input: &[u8], bounds: &Bounds) -> Result<usize, Violation> {
        match self.part {
            Part::Size => self.size(input),
            Part::Data(left) => Ok(self.data(left, input.len())),
            Part::End => match input {
                [b'\r', b'\n', ..] => {
                    self.part = Part::Size;
                    Ok(2)
                }
                [] | [b'\r'] => Ok(0),
                _ => Err(Violation::ChunkEnd),
            },
            Part::Trailers { fields, line } => self.trailers(input, fields, line, bounds),
            Part::Over => Ok(0),
        }
    }

    /// So many bytes of the chunk are there.
    pub(super) fn data(&mut self, left: u64, there: usize) -> usize {
        let (pass, left) = split(left, there);
        self.part = if left == 0 { Part::End } else { Part::Data(left) };
        pass
    }

    fn size(&mut self, input: &[u8]) -> Result<usize, Violation> {
        let digits = input.iter().take(MOST_DIGITS + 1).take_while(|byte| byte.is_ascii_hexdigit()).count();
        let after = input.get(digits);
        // The line's end has its own words for what is wrong with it.
        if digits > MOST_DIGITS || (digits == 0 && after.is_some()) {
            return Err(if after == Some(&b'\n') { Violation::BareLf } else { Violation::ChunkSize });
        }
        if after.is_some_and(|byte| !matches!(byte, b';' | b'\r' | b'\n')) {
            return Err(Violation::ChunkSize);
        }
        let line = match field::line(input, 0, self.scanned.max(digits)) {
            Ok(Line::Whole(line)) => line,
            Ok(Line::Part(scanned)) => {
                self.scanned = scanned;
                // An extension that doesn't end.
                return if self.extensions + scanned - digits > MOST_EXTENSIONS {
                    Err(Violation::ChunkExtension)
                } else {
                    Ok(0)
                };
            }
            Err(Violation::Control) => return Err(Violation::ChunkExtension),
            Err(other) => return Err(other),
        };
        self.extensions += line.len() - digits;
        if self.extensions > MOST_EXTENSIONS {
            return Err(Violation::ChunkExtension);
        }
        let size = std::str::from_utf8(&line[..digits]).ok();
        let size = size.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or(Violation::ChunkSize)?;
        self.scanned = 0;
        self.part = if size == 0 { Part::Trailers { fields: 0, line: 0 } } else { Part::Data(size) };
        Ok(line.len() + 2)
    }

    /// Trailers pass all at once, with the empty line behind them.
    fn trailers(
        &mut self,
        input: &[u8],
        mut fields: usize,
        mut start: usize,
        bounds: &Bounds,
    ) -> Result<usize, Violation> {
        loop {
            let line = field::line(input, start, self.scanned)?;
            let end = if let Line::Whole(line) = line { start + line.len() + 2 } else { input.len() };
            // The HTTP library counts to one less.
            if end + 2 > bounds.head {
                return Err(Violation::Trailers);
            }
            match line {
                Line::Part(scanned) => {
                    self.scanned = scanned;
                    self.part = Part::Trailers { fields, line: start };
                    return Ok(0);
                }
                Line::Whole([]) => {
                    self.part = Part::Over;
                    return Ok(end);
                }
                Line::Whole(line) => {
                    field::split(line)?;
                    fields += 1;
                    if fields >= bounds.fields {
                        return Err(Violation::Trailers);
                    }
                    (start, self.scanned) = (end, end);
                }
            }
        }
    }
}

/// How many of `there` bytes belong to the `left` of something, and how many are left then.
pub(super) fn split(left: u64, there: usize) -> (usize, u64) {
    let pass = usize::try_from(left).unwrap_or(usize::MAX).min(there);
    (pass, left - pass as u64)
}

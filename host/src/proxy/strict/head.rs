//! The head of a request, line by line: its grammar, whom it is for, and how its body is framed.
//!
//! Owns what has to be known of all lines together. Must not know where the bytes come from.

use http::Uri;

use super::{
    Bounds, Violation,
    field::{self, Line},
};
use crate::proxy::{
    charset::Charset,
    route::{self, BadTarget},
};

/// Longest target in bytes: the HTTP library takes no longer one.
const LONGEST_TARGET: usize = 65_000;

/// What nearly all paths and queries consist of, and the library takes in each place of them.
const USUAL: Charset = Charset::alphanumeric_and(b"-._~/?%=&+:;,@!$*()'");

/// A head of which some lines were read. It knows places in the bytes, never the bytes themselves: they wait where they are
/// until the head is whole.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Where the line begins that isn't whole yet.
    line: usize,
    /// Up to where that line was looked at.
    scanned: usize,
    fields: usize,
    first: Option<First>,
    host: Option<(usize, usize)>,
    length: Option<u64>,
    coding: Option<Coding>,
    upgrade: bool,
}

/// What the first line says.
#[derive(Debug, Clone, Copy)]
struct First {
    target: (usize, usize),
    form: Form,
    http_10: bool,
    trace: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A path, or `*`.
    Origin,
    Absolute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Unknown,
    Bad,
}

/// What comes after a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole {
    /// Bytes of the head, with its empty line.
    pub(super) length: usize,
    pub(super) body: Framing,
    /// The request asks to speak another protocol afterwards.
    pub(super) upgrade: bool,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes, or none.
    Length(u64),
    Chunked,
}

impl Head {
    /// Whether no byte of it was looked at.
    pub(super) fn is_untouched(&self) -> bool {
        self.scanned == 0
    }

    /// Reads on in the same bytes, of which there may be more now; `None` if the head isn't whole.
    pub(super) fn read(&mut self, input: &[u8], bounds: &Bounds) -> Result<Option<Whole>, Violation> {
        loop {
            let line = match field::line(input, self.line, self.scanned)? {
                Line::Whole(line) => line,
                Line::Part(scanned) => {
                    self.scanned = scanned;
                    return self.bounded(scanned, bounds).map(|()| None);
                }
            };
            let start = self.line;
            self.line += line.len() + 2;
            self.scanned = self.line;
            self.bounded(self.line, bounds)?;
            match (line, self.first) {
                (line, None) => self.first = Some(first(line)?),
                ([], Some(first)) => return self.whole(input, first).map(Some),
                (line, Some(_)) => self.field(line, start, bounds)?,
            }
        }
    }

    fn bounded(&self, bytes: usize, bounds: &Bounds) -> Result<(), Violation> {
        match &self.first {
            _ if bytes <= bounds.head => Ok(()),
            None => Err(Violation::TargetTooLong),
            Some(_) => Err(Violation::HeadTooLarge),
        }
    }

    fn field(&mut self, line: &[u8], start: usize, bounds: &Bounds) -> Result<(), Violation> {
        let (name, value) = match field::split(line) {
            Err(Violation::Fold) if self.fields == 0 => return Err(Violation::LeadingSpace),
            split => split?,
        };
        self.fields += 1;
        if self.fields > bounds.fields {
            return Err(Violation::HeadTooLarge);
        }
        if name.eq_ignore_ascii_case(b"host") {
            let end = start + line.len();
            if self.host.replace((start + name.len() + 1, end)).is_some() {
                return Err(BadTarget::TwoHosts.into());
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(length(value)?).is_some() {
                return Err(Violation::LengthTwice);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // A second line makes a list of both.
            self.coding = Some(match (self.coding, coding(value)) {
                (None, coding) => coding,
                (Some(Coding::Unknown), _) | (_, Coding::Unknown) => Coding::Unknown,
                _ => Coding::Bad,
            });
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade |= asks_for_another([value]);
        }
        Ok(())
    }

    /// What all lines say together.
    fn whole(&self, input: &[u8], first: First) -> Result<Whole, Violation> {
        let body = match (self.length, self.coding) {
            (_, Some(_)) if first.http_10 => return Err(Violation::CodingInHttp10),
            (Some(_), Some(_)) => return Err(Violation::LengthAndCoding),
            (None, Some(Coding::Chunked)) => Framing::Chunked,
            (None, Some(Coding::Unknown)) => return Err(Violation::UnknownCoding),
            (None, Some(Coding::Bad)) => return Err(Violation::Coding),
            (length, None) => Framing::Length(length.unwrap_or(0)),
        };
        if first.trace && body != Framing::Length(0) {
            return Err(Violation::TraceBody);
        }
        self.check_host(input, first)?;
        Ok(Whole { length: self.line, body, upgrade: self.upgrade })
    }

    fn check_host(&self, input: &[u8], first: First) -> Result<(), BadTarget> {
        let Some((start, end)) = self.host else {
            // RFC 9112 section 3.2.
            return if first.http_10 && first.form == Form::Origin { Ok(()) } else { Err(BadTarget::NoHost) };
        };
        let host = field::trim(&input[start..end]);
        route::check_authority(host)?;
        if first.form == Form::Absolute {
            let host = std::str::from_utf8(host).map_err(|_| BadTarget::BadHost)?;
            let (start, end) = first.target;
            let uri = Uri::try_from(&input[start..end]).map_err(|_| BadTarget::BadPath)?;
            let authority = uri.authority().ok_or(BadTarget::BadPath)?.as_str();
            route::check_authority(authority.as_bytes())?;
            if !route::names_the_same(authority, host, uri.scheme_str()) {
                return Err(BadTarget::OtherHost);
            }
        }
        Ok(())
    }
}

fn first(line: &[u8]) -> Result<First, Violation> {
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(Violation::RequestLine);
    };
    let version = match (words.next(), words.next()) {
        (Some(version), None) => version,
        // HTTP/0.9 had none.
        (None, _) => return Err(Violation::Version),
        _ => return Err(Violation::RequestLine),
    };
    if method.is_empty() || target.is_empty() || line.contains(&b'\t') {
        return Err(Violation::RequestLine);
    }
    if !field::is_token(method) {
        return Err(Violation::Method);
    }
    let http_10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(Violation::Version),
    };
    if method == b"CONNECT" {
        return Err(BadTarget::Connect.into());
    }
    let form = form(method, target)?;
    let start = method.len() + 1;
    Ok(First { target: (start, start + target.len()), form, http_10, trace: method == b"TRACE" })
}

/// RFC 9112 section 3.2. What is read here is read by the same library that reads it again behind us.
fn form(method: &[u8], target: &[u8]) -> Result<Form, Violation> {
    if target.len() > LONGEST_TARGET {
        return Err(Violation::TargetTooLong);
    }
    if target.starts_with(b"/") && USUAL.has_all(target) {
        return Ok(Form::Origin);
    }
    // A fragment is no part of a target, and is cut off by some: what they check isn't what others serve.
    if target.contains(&b'#') {
        return Err(BadTarget::BadPath.into());
    }
    if target == b"*" {
        return if method == b"OPTIONS" { Ok(Form::Origin) } else { Err(BadTarget::BadPath.into()) };
    }
    let uri = Uri::try_from(target).map_err(|_| BadTarget::BadPath)?;
    if target.starts_with(b"/") {
        return Ok(Form::Origin);
    }
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(_)) => Ok(Form::Absolute),
        _ => Err(BadTarget::BadPath.into()),
    }
}

/// RFC 9110 section 8.6: digits, and nothing that some read otherwise: no sign, no list, no zero in front, which is octal to
/// some.
fn length(value: &[u8]) -> Result<u64, Violation> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) || (value.len() > 1 && value[0] == b'0') {
        return Err(Violation::Length);
    }
    let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    // The HTTP library keeps the two largest numbers for other things.
    length.filter(|&length| length < u64::MAX - 2).ok_or(Violation::Length)
}

fn coding(value: &[u8]) -> Coding {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let names = value.split(|&byte| byte == b',').map(field::trim);
    let mut others = names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"chunked"));
    // A name that isn't one was meant to be read differently by different programs.
    match others.next() {
        Some(name) if field::is_token(name) && others.all(field::is_token) => Coding::Unknown,
        _ => Coding::Bad,
    }
}

/// Whether lines of `Upgrade` ask for another protocol than HTTP. What follows such a request may be meant for that protocol:
/// it isn't a request, whatever it looks like (RFC 9931). `h2c` is HTTP, its senders wait (RFC 7540 section 3.2), and they
/// ask with each of their requests.
pub(crate) fn asks_for_another<'a>(upgrade: impl IntoIterator<Item = &'a [u8]>) -> bool {
    upgrade
        .into_iter()
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(field::trim)
        .any(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"h2c"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_usual_is_a_target_to_the_library_too(target in "/[-a-zA-Z0-9._~/?%=&+:;,@!$*()']{0,30}") {
            assert!(USUAL.has_all(target.as_bytes()));
            let uri = Uri::try_from(target.as_bytes()).unwrap();
            assert_eq!((uri.path_and_query().unwrap().as_str(), uri.authority()), (&*target, None));
        }
    }
}

//! What a plugin gives back, held against what it may change, and applied.
//!
//! Two steps, so that a list with one bad edit changes nothing: everything is checked first, then applied.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header, uri::PathAndQuery};

use super::{
    bindings::tunnel::plugin::types::{Answer, Edit, Header},
    error::HookError,
    hand::{Hand, ResponseHead},
};
use crate::{
    exchange::{Body, RequestKind, Response, hygiene},
    wire::MAX_HEADERS,
};

/// Bytes of names and values that one verdict may add to a head: as much as a visitor's head may have.
const MAX_ADDED: usize = 64 << 10;

/// Longest path with query, in bytes.
const MAX_PATH: usize = 32 << 10;

/// An edit that may be applied.
enum Checked {
    Set(HeaderName, HeaderValue),
    Append(HeaderName, HeaderValue),
    Remove(HeaderName),
    Method(Method),
    Target(PathAndQuery),
    Authority(String),
    Status(StatusCode),
}

/// Applies edits to the head in hand: of the response on the way back, of the request before.
///
/// # Errors
/// One of them isn't allowed; then none is applied.
pub(super) fn apply(hand: &mut Hand, edits: Vec<Edit>) -> Result<(), HookError> {
    if edits.is_empty() {
        return Ok(());
    }
    let on_response = hand.response.is_some();
    let websocket = hand.head.kind == RequestKind::WebSocket;
    let headers = hand.response.as_ref().map_or(&hand.head.headers, |response| &response.headers).len();
    let mut room = Room { bytes: MAX_ADDED, headers: MAX_HEADERS.saturating_sub(headers) };
    let checked: Result<Vec<Checked>, String> =
        edits.into_iter().map(|edit| check(edit, on_response, websocket, &mut room)).collect();
    for edit in checked.map_err(HookError::Verdict)? {
        match (edit, &mut hand.response) {
            (Checked::Status(status), Some(response)) => response.status = status,
            (Checked::Status(_), None) => {}
            (Checked::Method(method), _) => hand.head.method = method,
            (Checked::Target(target), _) => hand.head.target = target,
            (Checked::Authority(authority), _) => hand.head.authority = authority,
            (edit, Some(response)) => change(&mut response.headers, edit),
            (edit, None) => {
                if let Checked::Set(name, _) | Checked::Append(name, _) | Checked::Remove(name) = &edit {
                    hygiene::without_aliases(&mut hand.head.headers, name);
                }
                change(&mut hand.head.headers, edit);
            }
        }
    }
    Ok(())
}

fn change(headers: &mut http::HeaderMap, edit: Checked) {
    match edit {
        Checked::Set(name, value) => {
            // In its place, so that the order of the others stays.
            headers.insert(name, value);
        }
        Checked::Append(name, value) => {
            headers.append(name, value);
        }
        Checked::Remove(gone) => hygiene::retain(headers, |name| *name != gone),
        _ => {}
    }
}

/// What may still be added.
struct Room {
    bytes: usize,
    headers: usize,
}

impl Room {
    fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or("its edits add more than 64 KiB to the head")?;
        self.headers = self.headers.checked_sub(1).ok_or("its edits make too many headers")?;
        Ok(())
    }
}

fn check(edit: Edit, on_response: bool, websocket: bool, room: &mut Room) -> Result<Checked, String> {
    match edit {
        Edit::Set(header) => checked_header(header, room).map(|(name, value)| Checked::Set(name, value)),
        Edit::Append(header) => {
            checked_header(header, room).map(|(name, value)| Checked::Append(name, value))
        }
        Edit::Remove(name) => checked_name(&name).map(Checked::Remove),
        Edit::SetStatus(status) if on_response => checked_status(status).map(Checked::Status),
        Edit::SetStatus(_) => Err("set-status, and there is no response yet".to_owned()),
        _ if on_response => Err("an edit of the request, which has been forwarded already".to_owned()),
        Edit::SetMethod(_) if websocket => Err("set-method on an upgrade to WebSocket".to_owned()),
        Edit::SetMethod(method) => checked_method(&method).map(Checked::Method),
        Edit::SetPath(path) => checked_path(path).map(Checked::Target),
        Edit::SetAuthority(authority) => checked_authority(authority).map(Checked::Authority),
    }
}

fn checked_header((name, value): Header, room: &mut Room) -> Result<(HeaderName, HeaderValue), String> {
    let name = checked_name(&name)?;
    room.take(name.as_str().len() + value.len())?;
    let bytes = Bytes::from(value);
    let value = HeaderValue::from_maybe_shared(bytes).map_err(|_| {
        format!("the value of {name} has a byte that no header may have (CR, LF, NUL or another control character)")
    })?;
    Ok((name, value))
}

fn checked_name(name: &str) -> Result<HeaderName, String> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{:?} is no name of a header", name.chars().take(100).collect::<String>()))?;
    if hygiene::is_for_plugins(&parsed) && !hygiene::describes_visitor(&parsed) {
        Ok(parsed)
    } else {
        Err(format!("the header {parsed} is not a plugin's to change"))
    }
}

fn checked_method(method: &str) -> Result<Method, String> {
    match Method::from_bytes(method.as_bytes()) {
        Ok(Method::CONNECT) => Err("set-method to CONNECT".to_owned()),
        Ok(method) => Ok(method),
        Err(_) => Err(format!("{:?} is no method", method.chars().take(100).collect::<String>())),
    }
}

fn checked_path(path: String) -> Result<PathAndQuery, String> {
    if path.len() > MAX_PATH {
        return Err(format!("a path of {} bytes", path.len()));
    }
    if !path.starts_with('/') || path.contains('#') {
        return Err(format!(
            "the path {:?} doesn't begin with / or has a #",
            path.chars().take(100).collect::<String>()
        ));
    }
    PathAndQuery::from_maybe_shared(Bytes::from(path))
        .map_err(|_| "a path with a character that no request target may have".to_owned())
}

fn checked_authority(authority: String) -> Result<String, String> {
    let parsed = authority.parse::<http::uri::Authority>().ok();
    match parsed {
        Some(parsed) if !parsed.as_str().contains('@') && authority.len() <= 255 => Ok(authority),
        _ => Err("an authority that isn't a host with an optional port".to_owned()),
    }
}

fn checked_status(status: u16) -> Result<StatusCode, String> {
    match StatusCode::from_u16(status) {
        Ok(code) if (200..=599).contains(&status) => Ok(code),
        _ => Err(format!("the status {status}, and a response has one from 200 to 599")),
    }
}

/// An answer on the spot.
///
/// # Errors
/// Something in it isn't allowed, or its body is over the limit.
pub(super) fn answer(answer: Answer, limit: usize) -> Result<Response, HookError> {
    let made = || {
        let status = checked_status(answer.status)?;
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless && !answer.body.is_empty() {
            return Err(format!("a body with status {status}, which has none"));
        }
        if answer.body.len() > limit {
            return Err(format!(
                "a body of {} bytes, and the limit is {limit} (limits.body)",
                answer.body.len()
            ));
        }
        let mut room = Room { bytes: MAX_ADDED, headers: MAX_HEADERS };
        let mut headers = http::HeaderMap::with_capacity(answer.headers.len() + 1);
        for header in answer.headers {
            // Authors write it out of habit; ours is right.
            if header.0.eq_ignore_ascii_case("content-length") {
                continue;
            }
            let (name, value) = checked_header(header, &mut room)?;
            headers.append(name, value);
        }
        if !bodiless {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
        }
        Ok(Response { status, headers, body: Body::full(answer.body) })
    };
    made().map_err(HookError::Verdict)
}

/// The head that a response hook sees.
pub(super) fn split(response: Response) -> (ResponseHead, Body) {
    (ResponseHead { status: response.status, headers: response.headers }, response.body)
}

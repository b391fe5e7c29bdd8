//! The edits of a verdict: checked as the host checks them, then applied.

use http::{HeaderName, HeaderValue, Method, StatusCode, uri::Authority, uri::PathAndQuery};

use super::message::{Headers, Sent};
use crate::bindings::plugin::types::{Answer, Edit};

/// What a plugin may never set nor take off.
const RESERVED: [&str; 9] = [
    "connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "keep-alive",
    "proxy-connection",
    "content-length",
    "trailer",
    "host",
];

pub(super) fn request(edits: &[Edit], sent: &mut Sent) -> Result<(), String> {
    for edit in edits {
        match edit {
            Edit::SetMethod(method) => {
                let valid =
                    Method::from_bytes(method.as_bytes()).is_ok_and(|method| method != Method::CONNECT);
                check(valid, || format!("{method:?} is no method that a request may have"))?;
                sent.method.clone_from(method);
            }
            Edit::SetPath(path) => {
                let valid = path.starts_with('/') && PathAndQuery::try_from(path.as_str()).is_ok();
                check(valid, || format!("{path:?} is no path: it begins with / and has no spaces"))?;
                sent.path.clone_from(path);
            }
            Edit::SetAuthority(authority) => {
                let valid = Authority::try_from(authority.as_str()).is_ok_and(|_| !authority.contains('@'));
                check(valid, || format!("{authority:?} is no host with or without port"))?;
                sent.authority.clone_from(authority);
            }
            Edit::SetStatus(_) => return Err("set_status is for responses, not for requests".to_owned()),
            Edit::Set(_) | Edit::Append(_) | Edit::Remove(_) => header(edit, &mut sent.headers)?,
        }
    }
    Ok(())
}

pub(super) fn response(edits: &[Edit], status: &mut u16, headers: &mut Headers) -> Result<(), String> {
    for edit in edits {
        match edit {
            Edit::SetStatus(new) => {
                check_status(*new)?;
                *status = *new;
            }
            Edit::SetMethod(_) | Edit::SetPath(_) | Edit::SetAuthority(_) => {
                return Err(
                    "set_method, set_path and set_authority are for requests, not for responses".to_owned()
                );
            }
            Edit::Set(_) | Edit::Append(_) | Edit::Remove(_) => header(edit, headers)?,
        }
    }
    Ok(())
}

pub(super) fn answer(answer: &Answer) -> Result<(), String> {
    check_status(answer.status)?;
    let mut headers = Headers::default();
    answer.headers.iter().try_for_each(|pair| header(&Edit::Append(pair.clone()), &mut headers))
}

fn header(edit: &Edit, headers: &mut Headers) -> Result<(), String> {
    match edit {
        Edit::Set((name, value)) => {
            check_header(name, value)?;
            headers.remove(name);
            headers.add(name, value);
        }
        Edit::Append((name, value)) => {
            check_header(name, value)?;
            headers.add(name, value);
        }
        Edit::Remove(name) => {
            check_header(name, &[])?;
            headers.remove(name);
        }
        _ => unreachable!("the caller has taken the others"),
    }
    Ok(())
}

fn check_header(name: &str, value: &[u8]) -> Result<(), String> {
    let parsed = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no name of a header"))?;
    check(HeaderValue::from_bytes(value).is_ok(), || {
        format!("the header {name} can't have the value {:?}", String::from_utf8_lossy(value))
    })?;
    let reserved = RESERVED.contains(&parsed.as_str()) || parsed.as_str().starts_with("tunnel-");
    check(!reserved, || format!("a plugin can't change the header {name}"))
}

fn check_status(status: u16) -> Result<(), String> {
    let valid = (200..600).contains(&status) && StatusCode::from_u16(status).is_ok();
    check(valid, || format!("{status} is no status that a plugin may give: 200 to 599"))
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

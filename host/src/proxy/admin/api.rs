//! The API: what there is below `/api/v1`, as JSON, and the few things that it does.
//!
//! Everything that grows comes in pages. Must not know who may ask: whoever comes here may.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{
    super::{Shared, roster::Entry},
    show,
};
use crate::operator::{self, JSON};

/// Entries of a page, unless fewer are asked for.
const PAGE: usize = 100;

/// Entries of the largest page: some hundred kilobytes.
const LARGEST_PAGE: usize = 1000;

/// Answers one request; `path` is what follows `/api/v1/`.
pub(super) fn answer(node: &Shared, method: &Method, path: &str, query: &str) -> Response<String> {
    let steps: Vec<&str> = path.split('/').collect();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let known =
        matches!(steps[..], ["node" | "sessions" | "names" | "policies" | "plugins"] | ["sessions", _]);
    let answered = match (&steps[..], reads) {
        (["node"], true) => Ok(show::node(node)),
        (["sessions"], true) => Page::of(query).map(|page| sessions(node, &page)),
        (["sessions", number], true) => session(node, number).map(|entry| show::session(node, &entry)),
        (["sessions", number], false) if *method == Method::DELETE => disconnect(node, number),
        (["sessions", number, "disconnect"], false) if *method == Method::POST => disconnect(node, number),
        (["names"], true) => Page::of(query).map(|page| names(node, &page)),
        (["policies"], true) => Ok(show::policies(node)),
        (["plugins"], true) => Ok(show::plugins(node)),
        (["drain"], false) if *method == Method::POST => Ok(drain(node)),
        (["drain"] | ["sessions", _, "disconnect"], _) => return operator::only("POST"),
        (["sessions", _], false) => return operator::only("GET, HEAD, DELETE"),
        _ if known => return operator::only("GET, HEAD"),
        _ => Err(Problem(
            StatusCode::NOT_FOUND,
            "there is nothing of this name; see docs/operations.md".to_owned(),
        )),
    };
    match answered {
        Ok(value) => operator::answer(StatusCode::OK, JSON, text(&value)),
        Err(Problem(status, problem)) => operator::answer(status, JSON, text(&json!({ "error": problem }))),
    }
}

fn text(value: &Value) -> String {
    format!("{value}\n")
}

/// Why there is no answer.
struct Problem(StatusCode, String);

impl Problem {
    fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
}

/// A part of what there is: so many entries after a number, of one tunnel if one is named.
struct Page {
    limit: usize,
    after: u64,
    tunnel: Option<String>,
}

impl Page {
    fn of(query: &str) -> Result<Self, Problem> {
        let mut page = Self { limit: PAGE, after: 0, tunnel: None };
        for piece in query.split('&').filter(|piece| !piece.is_empty()) {
            match piece.split_once('=') {
                Some(("limit", value)) => {
                    let limit = value.parse().ok().filter(|limit| (1..=LARGEST_PAGE).contains(limit));
                    page.limit = limit
                        .ok_or_else(|| Problem::bad(format!("limit is a number from 1 to {LARGEST_PAGE}")))?;
                }
                Some(("after", value)) => {
                    page.after =
                        value.parse().map_err(|_| Problem::bad("after is the number that next said"))?;
                }
                Some(("tunnel", value)) => page.tunnel = Some(value.to_ascii_lowercase()),
                _ => return Err(Problem::bad("this takes limit, after and tunnel")),
            }
        }
        Ok(page)
    }
}

fn page_of(node: &Shared, page: &Page) -> (Vec<std::sync::Arc<Entry>>, Option<u64>) {
    let wanted = |entry: &Entry| match &page.tunnel {
        None => true,
        Some(tunnel) => entry.names().iter().any(|name| name.to_string() == *tunnel),
    };
    let entries = node.roster.page(page.after, page.limit, wanted);
    let next = (entries.len() == page.limit).then(|| entries.last().map(|entry| entry.number)).flatten();
    (entries, next)
}

fn sessions(node: &Shared, page: &Page) -> Value {
    let (entries, next) = page_of(node, page);
    let sessions: Vec<Value> = entries.iter().map(|entry| show::session(node, entry)).collect();
    json!({ "sessions": sessions, "next": next })
}

fn names(node: &Shared, page: &Page) -> Value {
    let (entries, next) = page_of(node, page);
    let names: Vec<Value> = entries
        .iter()
        .flat_map(|entry| entry.names().into_iter().map(|name| (name, entry.number)))
        .map(|(name, session)| {
            let url = node.public_url_of(&name);
            json!({ "tunnel": name.to_string(), "public_url": url, "session": session })
        })
        .collect();
    json!({ "names": names, "next": next })
}

fn session(node: &Shared, number: &str) -> Result<std::sync::Arc<Entry>, Problem> {
    let number: u64 = number.parse().map_err(|_| Problem::bad("a session's id is a number"))?;
    let gone = || Problem(StatusCode::NOT_FOUND, "there is no session of this id at this node".to_owned());
    node.roster.get(number).ok_or_else(gone)
}

/// Ends a session at once, with what is under way on it. Its client may well come back.
fn disconnect(node: &Shared, number: &str) -> Result<Value, Problem> {
    let entry = session(node, number)?;
    tracing::info!(session = entry.number, client = %entry.peer.address, "ended by the operator");
    entry.handle.close();
    Ok(json!({ "disconnected": entry.number }))
}

/// The node drains and ends, as it does on SIGTERM.
fn drain(node: &Shared) -> Value {
    tracing::info!("told to drain by the operator");
    node.leave.cancel();
    json!({ "draining": true, "exchanges": node.metrics.exchanges() })
}

//! Changes requests and responses on their way: paths, hosts, headers; a snippet into pages; words in event streams.
//!
//! Pages and event streams are changed piece by piece as they pass, so that nothing is held back and nothing is too large.

mod config;
mod stream;

use config::{Config, Headers, Replacement};
use guest_sdk::{http::StatusCode, prelude::*};
use serde::{Deserialize, Serialize};
use stream::{Events, Injection};

struct Rewrite(Config);

/// What is under way in a body. It lives as long as the response does, at the host.
#[derive(Serialize, Deserialize, Default)]
enum Passing {
    #[default]
    Untouched,
    Page(Injection),
    EventStream(Events),
}

#[guest_sdk::plugin]
impl Plugin for Rewrite {
    type Config = Config;
    type State = Passing;

    fn new(config: Config) -> Result<Self> {
        config.check()?;
        Ok(Self(config))
    }

    fn on_request(&self, request: &Request) -> Result<Verdict<Passing>> {
        let mut forward = edit(Forward::new(), &self.0.request);
        if let Some(path) = self.path(&request.path_and_query()) {
            forward = forward.set_path(path);
        }
        if let Some(authority) = &self.0.authority {
            forward = forward.set_authority(authority);
        }
        if !self.0.inject.is_empty() || !self.0.events.is_empty() {
            // What is compressed can't be changed as it passes.
            forward = forward.remove_header("accept-encoding");
        }
        forward.into()
    }

    fn on_response(&self, response: &Response, _: Passing) -> Result<Verdict<Passing>> {
        let forward = edit(Forward::new(), &self.0.response);
        // A part of a page says which bytes it has; those have to stay.
        let whole = response.status() != StatusCode::PARTIAL_CONTENT;
        let readable = whole && response.header("content-encoding").is_none();
        match response.media_type().as_deref() {
            Some("text/html") if readable && !self.0.inject.is_empty() => {
                forward.body_in_pieces().state(Passing::Page(Injection::default())).into()
            }
            Some("text/event-stream") if readable && !self.0.events.is_empty() => {
                forward.body_in_pieces().state(Passing::EventStream(Events::default())).into()
            }
            _ => forward.into(),
        }
    }

    fn on_response_body(&self, _: &Response, piece: Piece, body: &mut Passing) -> Result<BodyVerdict> {
        let changed = match body {
            Passing::Untouched => return Body::keep().into(),
            Passing::Page(page) => page.pass(&piece, self.0.inject.as_bytes()),
            Passing::EventStream(events) => events.pass(&piece, |event| self.event(event)),
        };
        Body::replace(changed).into()
    }
}

impl Rewrite {
    fn path(&self, path: &str) -> Option<String> {
        self.0.paths.iter().find_map(|rule| {
            let rest = path.strip_prefix(&rule.from)?;
            // `/api` is the beginning of `/api/users` and of `/api?page=2`, but not of `/apiary`.
            let whole = rule.from.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?']);
            // One slash between the two, neither none nor two.
            let below = rest.strip_prefix('/').or(rule.from.ends_with('/').then_some(rest));
            whole.then(|| match below {
                Some(below) => format!("{}/{below}", rule.to.trim_end_matches('/')),
                None => format!("{}{rest}", rule.to),
            })
        })
    }

    fn event(&self, event: &str) -> String {
        let replace = |text: String, rule: &Replacement| text.replace(&rule.find, &rule.replace);
        // With what ends it, of which there are three kinds: no word that is looked for has any of them.
        let line = |line: &str| match line.strip_prefix("data:") {
            Some(data) => format!("data:{}", self.0.events.iter().fold(data.to_owned(), replace)),
            None => line.to_owned(),
        };
        event.split_inclusive(['\r', '\n']).map(line).collect()
    }
}

fn edit<S>(forward: Forward<S>, headers: &Headers) -> Forward<S> {
    let forward = headers.remove.iter().fold(forward, |forward, name| forward.remove_header(name));
    headers.set.iter().fold(forward, |forward, (name, value)| forward.set_header(name, value))
}

#[cfg(test)]
mod tests;

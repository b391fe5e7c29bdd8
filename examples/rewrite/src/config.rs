//! What the operator may say, and whether it makes sense.

use guest_sdk::{
    Fault, Result,
    http::{
        HeaderName, HeaderValue,
        uri::{Authority, PathAndQuery},
    },
};
use serde::Deserialize;

/// What the operator writes under `config`. All of it may be left out.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The first whose `from` the path begins with counts.
    pub(crate) paths: Vec<PathRule>,
    /// The host that the service is told.
    pub(crate) authority: Option<String>,
    pub(crate) request: Headers,
    pub(crate) response: Headers,
    /// Goes before `</body>` of every page.
    pub(crate) inject: String,
    /// Words in the data of server-sent events, and what stands there instead.
    pub(crate) events: Vec<Replacement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathRule {
    pub(crate) from: String,
    pub(crate) to: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Headers {
    pub(crate) set: Vec<(String, String)>,
    pub(crate) remove: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replacement {
    pub(crate) find: String,
    pub(crate) replace: String,
}

impl Config {
    /// What is wrong is told here and not with the first visitor.
    pub(crate) fn check(&self) -> Result<()> {
        let fault = |text: String| Err(Fault::new(text));
        for path in self.paths.iter().flat_map(|rule| [&rule.from, &rule.to]) {
            if !path.starts_with('/') {
                return fault(format!("paths: a path begins with /, not as {path:?} does"));
            }
            if PathAndQuery::try_from(path.as_str()).is_err() || path.contains('?') {
                return fault(format!(
                    "paths: {path:?} can't stand in a path; escape what it has, as in %20"
                ));
            }
        }
        let is_host = |text: &str| !text.contains('@') && text.parse::<Authority>().is_ok();
        if let Some(host) = self.authority.as_ref().filter(|host| !is_host(host)) {
            return fault(format!("authority: {host:?} is no host with or without port"));
        }
        self.request.check("request")?;
        self.response.check("response")?;
        for Replacement { find, replace } in &self.events {
            if find.is_empty() {
                return fault("events: `find` is empty, which stands everywhere".to_owned());
            }
            if [find, replace].iter().any(|text| text.contains(['\r', '\n'])) {
                return fault(format!(
                    "events: the end of a line ends data: take it out of {find:?} and {replace:?}"
                ));
            }
        }
        Ok(())
    }
}

impl Headers {
    fn check(&self, which: &str) -> Result<()> {
        let names = self.set.iter().map(|(name, _)| name).chain(&self.remove);
        if let Some(name) = names.into_iter().find(|name| HeaderName::try_from(name.as_str()).is_err()) {
            return Err(Fault::new(format!("{which}: {name:?} is no name of a header")));
        }
        match self.set.iter().find(|(_, value)| HeaderValue::try_from(value).is_err()) {
            Some((name, value)) => Err(Fault::new(format!("{which}: {name} can't have the value {value:?}"))),
            None => Ok(()),
        }
    }
}

//! What of a target or a referer may be seen.

use std::{collections::HashSet, sync::Arc};

use percent_encoding::percent_decode_str;

/// Stands where a value was.
const HIDDEN: &str = "REDACTED";

/// Parameters that hold secrets as a rule: of OAuth, of signed links, of logins.
const USUAL: &[&str] = &[
    "access_token",
    "api_key",
    "apikey",
    "assertion",
    "auth",
    "auth_token",
    "authorization",
    "client_secret",
    "code",
    "credential",
    "hash",
    "hmac",
    "id_token",
    "jwt",
    "key",
    "logout_token",
    "nonce",
    "otp",
    "pass",
    "passwd",
    "password",
    "pin",
    "pwd",
    "refresh_token",
    "request_token",
    "saml_response",
    "samlresponse",
    "secret",
    "session",
    "session_id",
    "sessionid",
    "sid",
    "sig",
    "signature",
    "state",
    "ticket",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-signature",
];

/// Which parameters of a query have values that nobody should see in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redacted {
    /// Those of these names, in lower case.
    Named(Arc<HashSet<String>>),
    /// All of them.
    All,
}

impl Default for Redacted {
    fn default() -> Self {
        Self::named(USUAL.iter().map(|name| (*name).to_owned()))
    }
}

impl Redacted {
    /// Parameters of these names, in whatever case.
    pub fn named(names: impl IntoIterator<Item = String>) -> Self {
        Self::Named(Arc::new(names.into_iter().map(|name| name.to_lowercase()).collect()))
    }

    fn hides(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => {
                // As a form is decoded: a space may be a plus, and a letter may be escaped.
                let name = name.replace('+', " ");
                let name = percent_decode_str(&name).decode_utf8_lossy().to_lowercase();
                // PHP and Rails write `user[password]`.
                let inner = name.rsplit(['[', '.']).next().unwrap_or_default().trim_end_matches(']');
                names.contains(name.trim()) || names.contains(inner.trim())
            }
        }
    }

    /// A path with its query; of the query all names, and such values as may be seen.
    pub fn target(&self, target: &str) -> String {
        let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
        let mut shown = String::with_capacity(target.len());
        shown.push_str(path);
        shown.push('?');
        // `;` separates parameters too for some servers; a value that is cut in two is hidden in both parts.
        let mut hidden = false;
        for piece in query.split_inclusive(['&', ';']) {
            let (piece, end) = match piece.strip_suffix(['&', ';']) {
                Some(bare) => (bare, &piece[bare.len()..]),
                None => (piece, ""),
            };
            match piece.split_once('=') {
                Some((name, value)) if self.hides(name) && !value.is_empty() => {
                    shown.push_str(name);
                    shown.push('=');
                    shown.push_str(HIDDEN);
                    hidden = true;
                }
                Some(_) => {
                    shown.push_str(piece);
                    hidden = false;
                }
                // Without a name it may be all value, or the rest of one.
                None if (hidden || matches!(self, Self::All)) && !piece.is_empty() => shown.push_str(HIDDEN),
                None => shown.push_str(piece),
            }
            shown.push_str(end);
            hidden &= end == ";";
        }
        shown
    }
}

/// Where a visitor came from, without what may be his: credentials, query, fragment.
pub(super) fn referer(referer: &str) -> String {
    let bare = referer.split(['?', '#']).next().unwrap_or_default();
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => bare.to_owned(),
    }
}

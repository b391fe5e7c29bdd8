//! What a policy holds for: hosts and paths.

use std::{fmt, str::FromStr};

use http::uri::PathAndQuery;

use crate::wire::TunnelName;

/// Which tunnels a policy holds for.
///
/// A tunnel's host name is its name under the proxy's domain, or the whole host name that it has of its own, however the visitor
/// came to it: by that host name, or by a path of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainPattern {
    /// Every tunnel (`*`).
    Any,
    /// One tunnel, by its name.
    Name(TunnelName),
    /// One tunnel, by its host name: the first label, and what it stands under.
    Host(TunnelName, String),
    /// Every tunnel under a domain (`*.dev.example.com`).
    Under(String),
}

/// A text is no pattern for hosts or paths, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(String);

impl DomainPattern {
    /// Whether it holds for a tunnel of a proxy with this domain.
    pub fn holds(&self, tunnel: &TunnelName, domain: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(name) => name == tunnel,
            Self::Host(label, under) => match tunnel.as_str().split_once('.') {
                Some((first, rest)) => first == label.as_str() && rest == under,
                None => label == tunnel && under == domain,
            },
            Self::Under(under) if tunnel.is_hostname() => is_under(tunnel.as_str(), under),
            Self::Under(under) => under == domain,
        }
    }

    /// Whether it can hold for any tunnel of a proxy with this domain, whose tunnels may have these host names of their own.
    pub fn can_hold<'a>(&self, domain: &str, mut hostnames: impl Iterator<Item = &'a TunnelName>) -> bool {
        match self {
            Self::Any | Self::Name(_) => true,
            Self::Host(_, under) | Self::Under(under) => {
                under == domain || hostnames.any(|hostname| self.holds(hostname, domain))
            }
        }
    }

    /// Whether it holds wherever the other does.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Name(name), Self::Name(other)) => name == other,
            // A chosen label that begins a host name may be another tunnel's.
            (Self::Name(name), Self::Host(other, _)) => name == other && !name.is_chosen(),
            (Self::Under(under), Self::Host(_, other) | Self::Under(other)) => under == other,
            (a, b) => a == b,
        }
    }
}

/// Whether a host name ends in a dot and this.
fn is_under(hostname: &str, under: &str) -> bool {
    hostname.strip_suffix(under).is_some_and(|rest| rest.ends_with('.'))
}

impl FromStr for DomainPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        if text == "*" {
            return Ok(Self::Any);
        }
        // A host name may end with the root's dot.
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if let Some(name) = lower.parse().ok().filter(|name: &TunnelName| !name.is_hostname()) {
            return Ok(Self::Name(name));
        }
        let bad = || {
            BadPattern(format!(
                "{text:?} is no host of a tunnel: write \"*\", \"*.example.com\", a tunnel's name, or its whole host name"
            ))
        };
        let (label, under) = lower.split_once('.').ok_or_else(bad)?;
        if under.is_empty() || under.contains(['*', '/', ':', ' ']) || under.split('.').any(str::is_empty) {
            return Err(bad());
        }
        if label == "*" {
            return Ok(Self::Under(under.to_owned()));
        }
        // All of it is a host name, and the first label is a name by itself.
        lower.parse::<TunnelName>().map_err(|_| bad())?;
        label.parse().map(|name| Self::Host(name, under.to_owned())).map_err(|_| bad())
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => write!(f, "{name}"),
            Self::Host(name, under) => write!(f, "{name}.{under}"),
            Self::Under(under) => write!(f, "*.{under}"),
        }
    }
}

/// Which paths a policy holds for: one, or all below one (`/api/*`, which `/api` itself is one of).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    path: String,
    below: bool,
}

impl PathPattern {
    /// Whether it holds for a path in one of its readings.
    pub(super) fn holds(&self, path: &[u8]) -> bool {
        match path.strip_prefix(self.path.as_bytes()) {
            Some(rest) => rest.is_empty() || (self.below && (rest[0] == b'/' || self.path.is_empty())),
            None => false,
        }
    }

    /// Whether it holds wherever the other does.
    pub fn covers(&self, other: &Self) -> bool {
        self == other || (self.below && self.holds(other.path.as_bytes()))
    }
}

impl FromStr for PathPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let bad = |why: &str| BadPattern(format!("{text:?} is no path of a policy: {why}"));
        if !text.starts_with('/') {
            return Err(bad("write / first, e.g. \"/api/*\""));
        }
        let (path, below) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if path.contains('*') {
            return Err(bad("a * stands only at its end, after a slash, e.g. \"/api/*\""));
        }
        if path.contains(['%', '?', '#', '\\', ';'])
            || path.contains("//")
            || path.parse::<PathAndQuery>().is_err() && below && !path.is_empty()
        {
            return Err(bad("write it plain: no %, ?, #, ;, backslash or empty segment"));
        }
        if path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(bad("write it without . and .."));
        }
        Ok(Self { path: path.to_owned(), below })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path, if self.below { "/*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst";

    fn name() -> TunnelName {
        "a".repeat(52).parse().unwrap()
    }

    #[test]
    fn domains_hold_for_the_tunnels_that_they_say() {
        let host = format!("{}.Example.com.", name());
        for (pattern, holds) in [
            ("*", true),
            ("*.example.com", true),
            ("*.example.org", false),
            (&host, true),
            (&name().to_string(), true),
        ] {
            let pattern: DomainPattern = pattern.parse().unwrap();
            assert_eq!(pattern.holds(&name(), "example.com"), holds, "{pattern}");
            assert_eq!(pattern.can_hold("example.com", [].iter()), holds, "{pattern}");
        }
        for bad in ["", "example.com", "a.*.com", "*.", "*.a..b", "*.example.com:80", "**", NAME] {
            let parsed = bad.parse::<DomainPattern>();
            assert!(
                parsed.is_err() || parsed.is_ok_and(|pattern| !pattern.holds(&name(), "example.com")),
                "{bad}"
            );
        }
    }

    #[test]
    fn chosen_names_and_host_names_of_their_own_are_met_by_each_way_to_write_them() {
        let (blog, www): (TunnelName, TunnelName) =
            ("blog".parse().unwrap(), "www.example.org".parse().unwrap());
        for (pattern, of_blog, of_www) in [
            ("*", true, true),
            ("blog", true, false),
            ("Blog.example.com", true, false),
            ("blog.example.org", false, false),
            ("*.example.com", true, false),
            ("www", false, false),
            ("WWW.example.org.", false, true),
            ("*.example.org", false, true),
            ("*.org", false, true),
            ("*.ample.org", false, false),
            ("www.example.com", false, false),
        ] {
            let pattern: DomainPattern = pattern.parse().unwrap();
            assert_eq!(pattern.holds(&blog, "example.com"), of_blog, "{pattern}");
            assert_eq!(pattern.holds(&www, "example.com"), of_www, "{pattern}");
            let one_can = of_www || pattern.can_hold("example.com", [].iter());
            assert_eq!(pattern.can_hold("example.com", [&www].into_iter()), one_can, "{pattern}");
        }
    }

    #[test]
    fn paths_hold_for_what_is_below_them_and_nothing_beside() {
        for (pattern, path, holds) in [
            ("/api/*", "/api", true),
            ("/api/*", "/api/", true),
            ("/api/*", "/api/x/y", true),
            ("/api/*", "/apix", false),
            ("/api", "/api", true),
            ("/api", "/api/", false),
            ("/*", "/", true),
            ("/*", "/x", true),
            ("/", "/", true),
            ("/", "/x", false),
        ] {
            let pattern: PathPattern = pattern.parse().unwrap();
            assert_eq!(pattern.holds(path.as_bytes()), holds, "{pattern} {path}");
        }
        for bad in ["", "api", "/a*", "/*/b", "/a/../b", "/%61", "/a?b", "//a", "/a b/*"] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_covers_another_makes_it_unreachable() {
        let covers = |a: &str, b: &str| a.parse::<PathPattern>().unwrap().covers(&b.parse().unwrap());
        assert!(covers("/*", "/api/*") && covers("/api/*", "/api/v1/*") && covers("/api/*", "/api"));
        assert!(!covers("/api/*", "/*") && !covers("/api", "/api/*"));
        let covers = |a: &str, b: &str| a.parse::<DomainPattern>().unwrap().covers(&b.parse().unwrap());
        assert!(covers("*", "*.example.com") && !covers("*.example.com", "*"));
    }
}

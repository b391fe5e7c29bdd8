//! Where Redis is, as one URL.

use std::{fmt, str::FromStr, time::Duration};

use ::redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, io::tcp::TcpSettings, io::tcp::socket2::TcpKeepalive,
};

/// An address with its credentials and its database. Shown without the password.
#[derive(Clone)]
pub struct Address(ConnectionInfo);

/// The text is no address of a Redis server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS")]
pub struct BadAddress(String);

impl Address {
    /// The database's number. Channels are the same for all databases of a server, so that their names have to carry it.
    pub fn database(&self) -> i64 {
        self.0.redis_settings().db()
    }

    /// Whether it has a password.
    pub fn has_password(&self) -> bool {
        self.0.redis_settings().password().is_some()
    }

    /// The same address with this password.
    #[must_use]
    pub fn with_password(self, password: &str) -> Self {
        let credentials = self.0.redis_settings().clone().set_password(password);
        Self(self.0.set_redis_settings(credentials))
    }

    pub(super) fn info(&self) -> ConnectionInfo {
        self.0.clone()
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = |problem: String| BadAddress(problem);
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it isn't a URL".to_owned()))?;
        if !matches!(scheme, "redis" | "rediss") {
            return Err(bad(format!("{scheme}:// is not redis:// or rediss://")));
        }
        if rest.contains(['?', '#']) {
            return Err(bad("it takes no ? and no #".to_owned()));
        }
        let info = text.into_connection_info().map_err(|error| bad(lower(&error.to_string())))?;
        if info.redis_settings().db() < 0 {
            return Err(bad("a database's number isn't negative".to_owned()));
        }
        // What is published is small and must not wait; a peer that is gone without a word has to be found while
        // nothing is said.
        let keepalive =
            TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        Ok(Self(info.set_tcp_settings(tcp)))
    }
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if matches!(self.0.addr(), ConnectionAddr::TcpTls { .. }) { "rediss" } else { "redis" };
        let (host, port) = match self.0.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => (host, port),
            _ => unreachable!("a URL with another scheme was refused"),
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        write!(f, "{scheme}://{host}:{port}/{}", self.database())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        let credentials = |address: &Self| {
            let settings = address.0.redis_settings();
            (settings.username().map(str::to_owned), settings.password().map(str::to_owned))
        };
        self.to_string() == other.to_string() && credentials(self) == credentials(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_whole_but_for_its_password() {
        for (text, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://10.0.0.1:7000/3", "redis://10.0.0.1:7000/3"),
            ("redis://user:secret@host/2", "redis://host:6379/2"),
            ("rediss://:secret@[::1]:7", "rediss://[::1]:7/0"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string(), format!("{address:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }

    #[test]
    fn credentials_and_database_are_taken_from_the_url() {
        let address: Address = "redis://user:p%40ss@host/2".parse().unwrap();
        let info = address.info();
        let settings = info.redis_settings();
        assert_eq!(
            (settings.username(), settings.password(), settings.db()),
            (Some("user"), Some("p@ss"), 2)
        );
        assert!(address.has_password() && !"redis://user@host".parse::<Address>().unwrap().has_password());
        let other = address.clone().with_password("another");
        assert_eq!(other.info().redis_settings().password(), Some("another"));
        assert_ne!(address, other);
    }

    #[test]
    fn what_is_no_address_is_refused_in_words() {
        for (text, says) in [
            ("localhost:6379", "isn't a URL"),
            ("http://localhost", "http:// is not redis://"),
            ("redis://host/zero", "invalid database number"),
            ("redis://host/-1", "isn't negative"),
            ("rediss://host#insecure", "takes no ?"),
            ("redis://", "write redis://"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

//! What a connection remembers of the host that its last request named: nearly always the next one names the same.
//!
//! Owns what follows from a connection and a host alone, for as long as both last. Must not know requests.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{exchange::hygiene::Description, wire::TunnelName};

/// The host that was named last. One is enough: few connections are used for several, and those work it out each time.
#[derive(Default)]
pub(super) struct Recall(Mutex<Option<Arc<Host>>>);

/// A host that was named.
pub(super) struct Host {
    /// With its port, as it was sent.
    pub(super) authority: String,
    /// The tunnel that it stands for, whatever the path is, and whatever changes while the proxy runs.
    pub(super) tunnel: Option<TunnelName>,
    /// What is said to the service of a visitor who came by this connection to this host.
    pub(super) description: Description,
}

impl Recall {
    /// The host of this authority: the one that was named last, or what is found out.
    pub(super) fn host(&self, authority: &str, find_out: impl FnOnce() -> Host) -> Arc<Host> {
        // A panic while it is held can't leave it half-changed.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(host) if host.authority == authority => Arc::clone(host),
            _ => Arc::clone(last.insert(Arc::new(find_out()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Scheme, hygiene::Arrival};

    fn host(authority: &str) -> Host {
        let peer = "192.0.2.1:1".parse().unwrap();
        let arrival = Arrival { peer, scheme: Scheme::Http, authority, trusted: &[] };
        Host { authority: authority.to_owned(), tunnel: None, description: Description::of(&arrival) }
    }

    #[test]
    fn the_last_host_is_known_and_another_is_never_taken_for_it() {
        let recall = Recall::default();
        for authority in ["a", "b", "a:80", "A"] {
            assert_eq!(recall.host(authority, || host(authority)).authority, authority);
            let again = recall.host(authority, || unreachable!("it was the last one"));
            assert_eq!(again.authority, authority);
        }
    }
}

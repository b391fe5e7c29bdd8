//! How many files this process may have open, and what follows for connections, each of which is one.

use std::num::NonZeroUsize;

use super::document::{Lines, Mistakes};
use crate::proxy::Limits;

/// What is left to visitors of all files: clients' sessions take others, and so do Redis, plugins and what they ask.
const SHARE: usize = 2;

/// No address has more than this share of a small proxy's connections.
const SHARE_OF_ONE: usize = 4;

/// Takes as many as the system lets a process have. Few is the usual default, for the sake of programs of another time.
#[cfg(unix)]
pub(super) fn raise() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the number of open files stays as it was");
    }
}

#[cfg(not(unix))]
pub(super) fn raise() {}

/// How many there may be, if there is a bound.
#[cfg(unix)]
fn allowed() -> Option<usize> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok())
}

#[cfg(not(unix))]
fn allowed() -> Option<usize> {
    None
}

/// Sets the bounds on connections, as the file has them or as they fit the system.
pub(super) fn bound(
    limits: &mut Limits,
    most: Option<NonZeroUsize>,
    of_one: Option<NonZeroUsize>,
    lines: &Lines,
    mistakes: &mut Mistakes,
) {
    if let Some(warning) = within(limits, most, of_one, allowed()) {
        mistakes.warn(lines.wrong("limits.max_connections", warning));
    }
}

/// Says what an operator should know.
fn within(
    limits: &mut Limits,
    most: Option<NonZeroUsize>,
    of_one: Option<NonZeroUsize>,
    files: Option<usize>,
) -> Option<String> {
    let share = files.map_or(usize::MAX, |files| (files / SHARE).max(1));
    limits.max_connections = most.map_or(limits.max_connections.min(share), NonZeroUsize::get);
    let of_one_by_default =
        limits.max_connections_per_address.min((limits.max_connections / SHARE_OF_ONE).max(1));
    limits.max_connections_per_address = of_one.map_or(of_one_by_default, NonZeroUsize::get);
    let files = files.filter(|_| limits.max_connections > share)?;
    Some(format!(
        "{} connections are more than half of the {files} files that this process may open: some will fail; raise the \
         limit (LimitNOFILE= in a unit of systemd, ulimit -n)",
        limits.max_connections
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(most: usize, of_one: usize, files: Option<usize>) -> (usize, usize, bool) {
        let mut limits = Limits::default();
        let warning = within(&mut limits, NonZeroUsize::new(most), NonZeroUsize::new(of_one), files);
        (limits.max_connections, limits.max_connections_per_address, warning.is_some())
    }

    #[test]
    fn defaults_fit_the_system_and_what_is_asked_for_is_done() {
        assert_eq!(bounds(0, 0, None), (20_000, 1000, false));
        assert_eq!(bounds(0, 0, Some(1 << 20)), (20_000, 1000, false));
        assert_eq!(bounds(0, 0, Some(1024)), (512, 128, false));
        assert_eq!(bounds(400, 0, Some(1024)), (400, 100, false));
        assert_eq!(bounds(5000, 3000, Some(1024)), (5000, 3000, true));
    }
}

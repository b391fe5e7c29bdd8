//! Notices when what was read has changed, a file's contents or somebody who says so (SIGHUP), and takes it over.
//!
//! Owns the watching and the order of things: read and loaded aside first, in force only if all of it is good. Must not
//! know what settings say, or where in a role plugins stand.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::mpsc, time::timeout};

use super::{
    SettingsError,
    document::Mistakes,
    plugins::{Loader, Pack, Sources, Wanted},
    report::Reporter,
    signals::Hangups,
};

/// Files are written in several steps, and several files after one another: only when it has been quiet for so long is
/// it worth looking.
const QUIET: Duration = Duration::from_millis(100);

/// Something that writes all the time must not keep a change from being seen.
const MOST_STEPS: usize = 20;

/// Settings that can be read again while a role runs.
pub(super) trait Reloadable {
    /// The files that they were read from.
    fn sources(&self) -> &Sources;
    /// The plugins that they name.
    fn wanted(&self) -> &[Wanted];
}

/// What runs by such settings.
pub(super) trait InForce<S> {
    /// Puts changed settings in force, with the plugins that they name. Says what of them has to wait for the next
    /// start.
    fn replace(&mut self, running: &S, changed: &S, pack: &Pack);
}

/// Takes settings over whenever they change, for as long as this is polled.
pub(super) async fn keep_up<S: Reloadable>(
    mut settings: S,
    again: impl Fn(&mut Mistakes) -> Result<S, SettingsError>,
    loader: &mut Loader,
    in_force: &mut impl InForce<S>,
    reporter: &Reporter,
) -> Infallible {
    let mut changes = Changes::of(settings.sources().clone());
    loop {
        changes.next().await;
        let mut mistakes = Mistakes::default();
        let read = again(&mut mistakes);
        // Also when it is of no use: what is put right in one of these files is looked at again.
        match &read {
            Ok(read) => changes.follow(read.sources().clone()),
            Err(_) => changes.refresh(),
        }
        let loaded = match read {
            Ok(read) => load(read, mistakes, loader).await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok((changed, pack)) => {
                in_force.replace(&settings, &changed, &pack);
                settings = changed;
                let plugins = pack.len();
                reporter.reloaded(plugins, loader.keep(pack));
            }
            Err(reason) => reporter.reload_failed(&reason.to_string()),
        }
    }
}

async fn load<S: Reloadable>(
    read: S,
    mut mistakes: Mistakes,
    loader: &mut Loader,
) -> Result<(S, Pack), SettingsError> {
    let pack = loader.load(read.wanted(), &mut mistakes).await;
    mistakes.settle()?;
    Ok((read, pack))
}

/// What settings were read from, watched.
struct Changes {
    sources: Sources,
    hangups: Option<Hangups>,
    events: mpsc::Receiver<()>,
    /// `None` where the system has no such service, or none left.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Changes {
    /// Watches these from now on.
    fn of(sources: Sources) -> Self {
        let (changed, events) = mpsc::channel(1);
        // One that waits stands for all that came after it.
        let seen = move |event: notify::Result<notify::Event>| {
            // Looking at a file is no change of it: our own looks would be followed by others without end.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = changed.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(seen).inspect_err(
            |error| tracing::warn!(%error, "files can't be watched: send SIGHUP after a change"),
        );
        // A terminal that closes sends it too, and means the end.
        let wanted = sources.paths().next().is_some() && !io::stdout().is_terminal();
        let hangups = wanted.then(Hangups::listen).and_then(|heard| {
            heard.inspect_err(|error| tracing::warn!(%error, "SIGHUP can't be heard")).ok()
        });
        let mut changes = Self {
            sources: Sources::default(),
            hangups,
            events,
            watcher: watcher.ok(),
            folders: BTreeSet::new(),
        };
        changes.follow(sources);
        changes
    }

    /// What was read last.
    fn follow(&mut self, sources: Sources) {
        // Editors put a new file in the old one's place: it is the folder that sees that.
        let folders: BTreeSet<PathBuf> = sources.paths().filter_map(folder_of).collect();
        if let Some(watcher) = &mut self.watcher {
            for gone in self.folders.difference(&folders) {
                let _ = watcher.unwatch(gone);
            }
            for new in folders.difference(&self.folders) {
                if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                    let folder = new.display();
                    tracing::warn!(%folder, %error, "a folder can't be watched: send SIGHUP after a change");
                }
            }
        }
        self.folders = folders;
        self.sources = sources;
    }

    /// The same files, as they are now.
    fn refresh(&mut self) {
        self.sources.refresh();
    }

    /// Waits until a file's contents are others than those that were read, or for SIGHUP.
    async fn next(&mut self) {
        // Whatever changed before the folders were watched.
        if self.sources.changed() {
            return;
        }
        loop {
            tokio::select! {
                () = hangup(&mut self.hangups) => return,
                event = self.events.recv() => {
                    if event.is_none() {
                        // The watcher is gone; it never comes back.
                        hangup(&mut self.hangups).await;
                        return;
                    }
                }
            }
            for _ in 0..MOST_STEPS {
                if timeout(QUIET, self.events.recv()).await.is_err() {
                    break;
                }
            }
            if self.sources.changed() {
                return;
            }
        }
    }
}

async fn hangup(hangups: &mut Option<Hangups>) {
    match hangups {
        Some(hangups) => hangups.next().await,
        None => std::future::pending().await,
    }
}

fn folder_of(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_however_it_is_written_and_a_touch_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "one").unwrap();
        let read = || {
            let mut sources = Sources::default();
            sources.read(&file).unwrap();
            sources
        };
        let mut changes = Changes::of(read());
        // The same contents again, then others in its place, as editors do.
        std::fs::write(&file, "one").unwrap();
        let aside = folder.path().join("a.toml~");
        std::fs::write(&aside, "two").unwrap();
        std::fs::rename(&aside, &file).unwrap();
        changes.next().await;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
        changes.follow(read());
        // In place, and a file that goes away.
        std::fs::write(&file, "three").unwrap();
        changes.next().await;
        changes.follow(read());
        std::fs::remove_file(&file).unwrap();
        changes.next().await;
    }
}

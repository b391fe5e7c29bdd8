//! Whom invitations have let in, in a file: one line for each, a digest and a key's name. Lines are added and never changed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use crate::{
    proxy::admission::{InvitationId, Ledger, LedgerAway, LedgerFuture, MemoryLedger, Tied},
    wire::KeyName,
};

/// A file that outlives the program. Several programs may have it: it is locked while one decides.
pub(super) struct FileLedger(Arc<Kept>);

struct Kept {
    path: PathBuf,
    /// What was seen to be tied, so that a client that comes back costs no look at the file.
    here: MemoryLedger,
}

impl FileLedger {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(Arc::new(Kept { path, here: MemoryLedger::default() }))
    }
}

impl Ledger for FileLedger {
    fn tie<'a>(&'a self, invitation: &'a InvitationId, key: &'a KeyName, uses: u32) -> LedgerFuture<'a> {
        Box::pin(async move {
            if self.0.here.would(invitation, key, u32::MAX) == Tied::Before {
                return Ok(Tied::Before);
            }
            let (kept, invitation, key) = (Arc::clone(&self.0), *invitation, key.clone());
            // A disk may take its time.
            let tied = tokio::task::spawn_blocking(move || kept.tie(invitation, key, uses)).await;
            match tied {
                Ok(tied) => tied.map_err(|error| LedgerAway(format!("{}: {error}", self.0.path.display()))),
                Err(error) => Err(LedgerAway(error.to_string())),
            }
        })
    }
}

impl Kept {
    fn tie(&self, invitation: InvitationId, key: KeyName, uses: u32) -> io::Result<Tied> {
        let mut file = self.open()?;
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let known = MemoryLedger::default();
        for line in text.lines() {
            let tied = line.split_once(' ').and_then(|(id, key)| Some((id.parse().ok()?, key.parse().ok()?)));
            // Passing over one would give a used invitation away again.
            let (id, key) = tied.ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line isn't a digest and a key's name; take it out",
                )
            })?;
            known.add(id, key);
        }
        let tied = known.would(&invitation, &key, uses);
        if tied == Tied::Now {
            // A line that was cut off must not swallow this one: it is told above, and nobody comes in.
            file.write_all(format!("{invitation} {key}\n").as_bytes())?;
            file.sync_data()?;
        }
        if tied != Tied::Spent {
            self.here.add(invitation, key);
        }
        Ok(tied)
    }

    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(letter: &str) -> KeyName {
        letter.repeat(52).parse().unwrap()
    }

    #[tokio::test]
    async fn what_was_tied_is_known_to_the_next_who_opens_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("used");
        let (one, other) = (InvitationId::of("one"), InvitationId::of("other"));
        let ledger = FileLedger::new(path.clone());
        assert_eq!(ledger.tie(&one, &key("a"), 0).await, Ok(Tied::Spent));
        assert_eq!(ledger.tie(&one, &key("a"), 1).await, Ok(Tied::Now));
        assert_eq!(ledger.tie(&one, &key("b"), 1).await, Ok(Tied::Spent));
        assert_eq!(ledger.tie(&other, &key("b"), 1).await, Ok(Tied::Now));
        let next = FileLedger::new(path.clone());
        assert_eq!(next.tie(&one, &key("b"), 1).await, Ok(Tied::Spent));
        assert_eq!(next.tie(&one, &key("a"), 0).await, Ok(Tied::Before));
        assert_eq!(next.tie(&one, &key("b"), 2).await, Ok(Tied::Now));
        let lines = std::fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count(), 3, "{lines}");
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_read_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("used");
        std::fs::write(&path, "half a line").unwrap();
        let id = InvitationId::of("one");
        let error = FileLedger::new(path).tie(&id, &key("a"), 1).await.unwrap_err();
        assert!(error.to_string().contains("take it out"), "{error}");
        let nowhere = FileLedger::new(folder.path().join("none/used"));
        assert!(nowhere.tie(&id, &key("a"), 1).await.is_err());
    }
}

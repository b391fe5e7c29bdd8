//! The files that settings are made of, as they were when they were read.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Which files were looked at, and what was in them: enough to tell whether anything has changed since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(BTreeMap<PathBuf, Option<[u8; 32]>>);

impl Sources {
    /// Reads a file and remembers it, also if it can't be read: it may be there next time.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let bytes = std::fs::read(path);
        self.0.insert(path.to_owned(), bytes.as_deref().ok().map(digest));
        bytes
    }

    /// Remembers a file that was read by other means.
    pub fn remember(&mut self, path: &Path, bytes: &[u8]) {
        self.0.insert(path.to_owned(), Some(digest(bytes)));
    }

    /// Whether any of them is other than it was when it was read.
    pub fn changed(&self) -> bool {
        self.0.iter().any(|(path, before)| std::fs::read(path).ok().as_deref().map(digest) != *before)
    }

    /// Takes the files as they are now.
    pub fn refresh(&mut self) {
        for (path, known) in &mut self.0 {
            *known = std::fs::read(path).ok().as_deref().map(digest);
        }
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

/// SHA-256.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

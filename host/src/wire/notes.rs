//! Notes: words that plugins leave for each other on an exchange's way from the proxy to the client.

use std::{collections::BTreeMap, fmt};

/// Bytes of a name.
pub const MAX_NAME: usize = 64;
/// Bytes of a value.
pub const MAX_VALUE: usize = 4 << 10;
/// Notes of one exchange.
pub const MAX_NOTES: usize = 32;
/// Bytes of all names and values of one exchange: small beside a head's headers, which travel with them.
pub const MAX_BYTES: usize = 16 << 10;

/// The notes of one exchange, by name. Empty ones cost nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    notes: BTreeMap<String, String>,
    bytes: usize,
}

impl Notes {
    /// The note of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.notes.get(name).map(String::as_str)
    }

    /// Leaves a note, or replaces one.
    ///
    /// # Errors
    /// A bound would be passed; then nothing has changed.
    pub fn set(&mut self, name: String, value: String) -> Result<(), NotesFull> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(NotesFull::Name);
        }
        if value.len() > MAX_VALUE {
            return Err(NotesFull::Value);
        }
        let old = self.notes.get(&name).map(|old| name.len() + old.len());
        if old.is_none() && self.notes.len() == MAX_NOTES {
            return Err(NotesFull::Notes);
        }
        let bytes = self.bytes - old.unwrap_or(0) + name.len() + value.len();
        if bytes > MAX_BYTES {
            return Err(NotesFull::Bytes);
        }
        self.bytes = bytes;
        self.notes.insert(name, value);
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.notes.len()
    }

    /// Names and values, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.notes.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Which bound a note would pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotesFull {
    /// Of the name.
    Name,
    /// Of the value.
    Value,
    /// Of their number.
    Notes,
    /// Of their bytes.
    Bytes,
}

impl fmt::Display for NotesFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(f, "the name of a note has from 1 to {MAX_NAME} bytes"),
            Self::Value => write!(f, "a note has at most {MAX_VALUE} bytes"),
            Self::Notes => write!(f, "an exchange has at most {MAX_NOTES} notes"),
            Self::Bytes => write!(f, "the notes of an exchange have at most {MAX_BYTES} bytes in all"),
        }
    }
}

impl std::error::Error for NotesFull {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_holds_and_loses_nothing() {
        let mut notes = Notes::default();
        assert_eq!(notes.set(String::new(), "x".into()), Err(NotesFull::Name));
        assert_eq!(notes.set("n".repeat(65), "x".into()), Err(NotesFull::Name));
        assert_eq!(notes.set("n".into(), "x".repeat(4097)), Err(NotesFull::Value));
        for n in 0..4 {
            notes.set(format!("large{n}"), "x".repeat(4000)).unwrap();
        }
        assert_eq!(notes.set("one more".into(), "x".repeat(4000)), Err(NotesFull::Bytes));
        notes.set("large0".into(), "small".into()).unwrap();
        notes.set("one more".into(), "x".repeat(3900)).unwrap();
        for n in 5..32 {
            notes.set(format!("n{n}"), String::new()).unwrap();
        }
        assert_eq!((notes.len(), notes.set("z".into(), "z".into())), (32, Err(NotesFull::Notes)));
        notes.set("large1".into(), "replaced".into()).unwrap();
        assert_eq!(notes.get("large1"), Some("replaced"));
    }
}

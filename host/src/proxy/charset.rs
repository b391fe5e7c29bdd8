//! Sets of characters, as grammars have them: one look into a table for each byte.

/// A set of bytes.
pub(super) struct Charset([bool; 256]);

impl Charset {
    /// ASCII letters and digits, and these.
    pub(super) const fn alphanumeric_and(others: &[u8]) -> Self {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < table.len() {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        Self(table)
    }

    /// How many bytes there are before the first that isn't in it.
    pub(super) fn span(&self, bytes: &[u8]) -> usize {
        bytes.iter().position(|&byte| !self.0[usize::from(byte)]).unwrap_or(bytes.len())
    }

    /// Whether all of them are in it.
    pub(super) fn has_all(&self, bytes: &[u8]) -> bool {
        self.span(bytes) == bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_in_it_and_nothing_else() {
        const SET: Charset = Charset::alphanumeric_and(b"-\xff");
        for byte in 0..=u8::MAX {
            let named = byte.is_ascii_alphanumeric() || byte == b'-' || byte == 0xff;
            assert_eq!(SET.has_all(&[byte]), named, "{byte}");
        }
        assert_eq!((SET.span(b"a-b c"), SET.span(b""), SET.span(b" ")), (3, 0, 0));
    }
}

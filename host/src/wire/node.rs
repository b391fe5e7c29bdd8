//! What names a node: one run of one proxy process.

use std::{fmt, num::ParseIntError, str::FromStr};

/// A node's name, random for each run of a proxy; written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text names no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node's name is 16 hexadecimal digits, 0 to 9 and a to f")]
pub struct NotANode;

impl From<ParseIntError> for NotANode {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

impl FromStr for NodeId {
    type Err = NotANode;

    fn from_str(text: &str) -> Result<Self, NotANode> {
        let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 16 && plain { Ok(Self(u64::from_str_radix(text, 16)?)) } else { Err(NotANode) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for id in [0, 0xab, u64::MAX] {
            assert_eq!(NodeId(id).to_string().parse(), Ok(NodeId(id)));
        }
        for bad in ["", "ab", "00000000000000AB", "+0000000000000ab", "00000000000000abc"] {
            assert_eq!(bad.parse::<NodeId>(), Err(NotANode), "{bad}");
        }
    }
}

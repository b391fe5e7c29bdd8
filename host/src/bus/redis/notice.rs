//! What nodes tell all others, as lines of text on one channel; and the names of keys and channels.
//!
//! Pure values. A line that isn't understood is skipped, so that later versions can say more.

use std::fmt;

use crate::{
    redis::Address,
    wire::{NodeId, TunnelName},
};

/// Something that every node should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// The node is alive.
    Alive {
        node: NodeId,
        /// It will end soon.
        draining: bool,
    },
    /// The node has ended.
    Gone { node: NodeId },
    /// The node has a session of the tunnel.
    Holds { node: NodeId, name: TunnelName },
    /// It has none any more.
    Lacks { node: NodeId, name: TunnelName },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive { node, draining: false } => write!(f, "alive {node}"),
            Self::Alive { node, draining: true } => write!(f, "draining {node}"),
            Self::Gone { node } => write!(f, "gone {node}"),
            Self::Holds { node, name } => write!(f, "holds {node} {name}"),
            Self::Lacks { node, name } => write!(f, "lacks {node} {name}"),
        }
    }
}

impl Notice {
    /// Reads a line; `None` if it isn't understood.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        let (verb, node) = (words.next()?, words.next()?.parse().ok()?);
        let mut name = || words.next()?.parse().ok();
        let notice = match verb {
            "alive" => Self::Alive { node, draining: false },
            "draining" => Self::Alive { node, draining: true },
            "gone" => Self::Gone { node },
            "holds" => Self::Holds { node, name: name()? },
            "lacks" => Self::Lacks { node, name: name()? },
            _ => return None,
        };
        words.next().is_none().then_some(notice)
    }
}

/// The names of keys and channels. Channels are the same in all databases of a server, so that they carry the number.
#[derive(Debug, Clone)]
pub(super) struct Names {
    database: i64,
}

impl Names {
    pub(super) fn new(address: &Address) -> Self {
        Self { database: address.database() }
    }

    /// The channel on which nodes tell all others.
    pub(super) fn notices(&self) -> String {
        format!("tunnel:{}:notices", self.database)
    }

    /// The channel on which a node gets what is meant for it alone.
    pub(super) fn inbox(&self, node: NodeId) -> String {
        format!("tunnel:{}:inbox:{node}", self.database)
    }

    /// The key of a tunnel's row: a sorted set of nodes, each by the time at which its lease ends, in milliseconds of Redis'
    /// clock.
    pub(super) fn row(name: &TunnelName) -> String {
        format!("tunnel:name:{name}")
    }

    /// The key under which the owner of a chosen name stands.
    pub(super) fn owner(name: &TunnelName) -> String {
        format!("tunnel:owner:{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let (node, name) = (NodeId(0xab), crate::bus::contract::name(1));
        for (notice, line) in [
            (Notice::Alive { node, draining: false }, "alive 00000000000000ab"),
            (Notice::Alive { node, draining: true }, "draining 00000000000000ab"),
            (Notice::Gone { node }, "gone 00000000000000ab"),
            (Notice::Holds { node, name: name.clone() }, &format!("holds 00000000000000ab {name}")),
            (Notice::Lacks { node, name: name.clone() }, &format!("lacks 00000000000000ab {name}")),
        ] {
            assert_eq!(notice.to_string(), line);
            assert_eq!(Notice::read(line.as_bytes()), Some(notice));
        }
    }

    #[test]
    fn other_lines_are_skipped() {
        for line in [
            "",
            "alive",
            "alive x",
            "sings 00000000000000ab",
            "holds 00000000000000ab",
            "alive 00000000000000ab more",
        ] {
            assert_eq!(Notice::read(line.as_bytes()), None, "{line}");
        }
        assert_eq!(Notice::read(b"alive \xff"), None);
    }
}

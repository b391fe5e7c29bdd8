//! The file of invitations: which there are, never what they are.

use std::{collections::HashMap, num::NonZeroU32, path::Path};

use super::{
    super::document::{self, Lines, Mistakes},
    table::InvitationsFile,
};
use crate::proxy::admission::{Invitation, InvitationId};

/// Reads a file's text. What is wrong with one invitation is noted, and the others are kept.
pub(super) fn read(path: &Path, text: &str, mistakes: &mut Mistakes) -> HashMap<InvitationId, Invitation> {
    let (file, lines): (InvitationsFile, Lines) = document::parse(path, text, mistakes);
    let mut invitations = HashMap::new();
    for (n, table) in file.invitation.into_iter().enumerate() {
        let at = format!("invitation[{n}]");
        let Some(id) = table.sha256 else {
            if !lines.has(&format!("{at}.sha256")) {
                let problem = "an invitation needs its sha256; tunnel proxy invite writes one";
                mistakes.push(lines.wrong(&at, problem));
            }
            continue;
        };
        let invitation = Invitation {
            label: table.name.unwrap_or_default(),
            expires: table.expires.map(|moment| moment.0.0.as_second()),
            uses: table.uses.unwrap_or(NonZeroU32::MIN),
            hostnames: table.hostnames.into_iter().map(|name| name.0).collect(),
        };
        if invitations.insert(id.0, invitation).is_some() {
            mistakes.push(lines.wrong(&format!("{at}.sha256"), "this invitation is listed already"));
        }
    }
    invitations
}

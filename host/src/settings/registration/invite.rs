//! `tunnel proxy invite`: makes an invitation, and keeps its digest alone.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write as _},
    num::NonZeroU32,
    path::PathBuf,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use jiff::Timestamp;

use super::super::units::LongTime;
use crate::proxy::admission::{InvitationId, NamePattern};

/// What an invitation begins with, so that programs that look for secrets in what is published find it.
const PREFIX: &str = "tunnel-invitation-";

/// `tunnel proxy invite`.
#[derive(Debug, Clone, Args)]
pub struct InviteArgs {
    /// The file of invitations, to which its SHA-256 is added; made if it isn't there
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,

    /// Whom it is for, as it will stand in the file and in the log
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub name: String,

    /// How long it may be used for the first time: 12h, 30d
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub expires: LongTime,

    /// How many keys it lets in; each of them for as long as it stands in the file
    #[arg(long, value_name = "N", default_value = "1")]
    pub uses: NonZeroU32,

    /// A name that those may choose (blog, or pr-* for all that begin so); may be given again
    #[arg(long, value_name = "NAME")]
    pub hostname: Vec<NamePattern>,
}

/// Why there is no invitation.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum InviteError {
    #[error("no invitation can be made: the system gives no random bytes ({0})")]
    Random(getrandom::Error),
    #[error("the invitation would expire after the end of time; give a shorter --expires")]
    TooLong,
    #[error("{}: {source}; give a file that can be written to with --file", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Makes an invitation and gives its text, which stands nowhere else.
///
/// # Errors
/// There is no randomness, or the file can't be written.
pub fn invite(args: &InviteArgs) -> Result<String, InviteError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(InviteError::Random)?;
    let invitation = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let expires = Timestamp::now().checked_add(args.expires.0).map_err(|_| InviteError::TooLong)?;
    let expires = Timestamp::from_second(expires.as_second()).map_err(|_| InviteError::TooLong)?;
    let failed = |source| InviteError::File { path: args.file.clone(), source };
    append(args, &table(args, &InvitationId::of(&invitation), expires)).map_err(failed)?;
    Ok(invitation)
}

fn table(args: &InviteArgs, id: &InvitationId, expires: Timestamp) -> String {
    let mut text = format!("\n[[invitation]]\nsha256 = \"{id}\"\n");
    if !args.name.is_empty() {
        let _ = writeln!(text, "name = {}", toml::Value::from(args.name.as_str()));
    }
    let _ = writeln!(text, "expires = \"{expires}\"\nuses = {}", args.uses);
    if !args.hostname.is_empty() {
        let names: Vec<String> = args.hostname.iter().map(|name| format!("\"{name}\"")).collect();
        let _ = writeln!(text, "hostnames = [{}]", names.join(", "));
    }
    text
}

/// In one piece: a proxy may be reading it.
fn append(args: &InviteArgs, table: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&args.file)?;
    file.write_all(table.as_bytes())?;
    file.sync_all()
}

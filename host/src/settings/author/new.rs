//! `tunnel plugin new`: a crate that builds a plugin, with the SDK of this very version beside it.

use std::path::PathBuf;

use clap::Args;

use super::AuthorError;

/// `tunnel plugin new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The crate's name, and its folder's
    name: String,

    /// Where to make it [default: a folder of its name, here]
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
}

pub(super) fn new(args: &NewArgs) -> Result<String, AuthorError> {
    let valid = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if !valid(&args.name) {
        return Err(AuthorError::Usage(format!(
            "{:?} is no name for a crate: use lower-case letters, digits and dashes, a letter first",
            args.name
        )));
    }
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if folder.exists() {
        return Err(AuthorError::Usage(format!(
            "{} is there already, and is left as it is",
            folder.display()
        )));
    }
    Err(AuthorError::Usage("the template lands with the SDK".to_owned()))
}

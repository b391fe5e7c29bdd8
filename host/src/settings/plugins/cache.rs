//! Where compiled plugins are kept between two starts.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy;

/// The folder that was asked for, or the usual one in the user's cache folder; `None`, with a warning, if it can't be used.
/// Plugins are then compiled at every start.
pub fn folder(asked: Option<PathBuf>) -> Option<PathBuf> {
    let usual =
        || etcetera::choose_base_strategy().ok().map(|base| base.cache_dir().join("tunnel").join("plugins"));
    let folder = asked.or_else(usual)?;
    match usable(&folder) {
        Ok(folder) => Some(folder),
        Err(error) => {
            tracing::warn!(
                "{} can't keep compiled plugins ({error}), so that they are compiled at every start; name another folder \
                 with --plugin-cache",
                folder.display()
            );
            None
        }
    }
}

fn usable(folder: &Path) -> io::Result<PathBuf> {
    let folder = std::path::absolute(folder)?;
    create(&folder)?;
    for_us_alone(&folder)?;
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)?;
    Ok(folder)
}

#[cfg(unix)]
fn create(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What is in the cache is run as machine code, outside of any sandbox: who can write to it can do what we can.
#[cfg(unix)]
fn for_us_alone(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if fs::metadata(folder)?.permissions().mode() & 0o002 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "everybody may write to it, and what is in it is run",
    ))
}

#[cfg(not(unix))]
fn create(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(not(unix))]
fn for_us_alone(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_is_made_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let made = folder(Some(home.path().join("a/b"))).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(made).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_no_cache() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, b"").unwrap();
        assert_eq!(folder(Some(file)), None);
        let open = home.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(folder(Some(open)), None);
    }
}

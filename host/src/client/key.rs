//! The key file: made on first use, read with care. Whoever reads it can take the tunnel's name.
//!
//! Owns the format (PKCS#8 PEM, RFC 8410, as `openssl genpkey -algorithm ed25519` writes it) and the file's mode. Where
//! the file is, is decided elsewhere.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use ed25519_dalek::{
    SigningKey,
    pkcs8::{self, DecodePrivateKey, EncodePrivateKey, KeypairBytes},
};

/// A key of ours has 119 bytes and OpenSSL's comments come to a few hundred. Anything longer is another file.
const MAX_FILE: u64 = 64 * 1024;

const LABEL: &str = "-----BEGIN PRIVATE KEY-----";

/// The key can't be had from the file. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no file.
    #[error("there is no key file {}; make one with: tunnel key new --key {}", .0.display(), .0.display())]
    Missing(PathBuf),
    /// A folder where the file should be.
    #[error("{} is a folder; name the key file in it, as in: --key {}", .0.display(), .0.join("key.pem").display())]
    Folder(PathBuf),
    /// The file can't be read.
    #[error("can't read the key file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The group or everybody can read the file.
    #[error("others than you can use the key file {}; take it back with: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    /// Not PEM, or PEM of something else.
    #[error(
        "{} is not a key in PKCS#8 PEM (\"-----BEGIN PRIVATE KEY-----\"); make one with: tunnel key new --key FILE",
        .0.display()
    )]
    NotPem(PathBuf),
    /// The key is encrypted.
    #[error(
        "the key in {} is encrypted; take the passphrase off with: openssl pkey -in {} -out FILE",
        .0.display(), .0.display()
    )]
    Encrypted(PathBuf),
    /// Another algorithm, such as RSA.
    #[error(
        "{} holds a key of another algorithm than Ed25519; make one with: openssl genpkey -algorithm ed25519 -out FILE",
        .0.display()
    )]
    OtherAlgorithm(PathBuf),
    /// PEM that holds no valid key.
    #[error("the key in {} is damaged; restore the file, or make a new key (and with it a new name)", .0.display())]
    Damaged(PathBuf),
    /// A new key must not replace one.
    #[error("{} is there already, and whoever loses a key loses its name; choose another file", .0.display())]
    Exists(PathBuf),
    /// The file can't be written.
    #[error("can't write the key file {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The key in the file, which is made if it isn't there; `true` says that it was made now.
///
/// # Errors
/// See [`KeyError`].
pub fn load_or_create(path: &Path) -> Result<(SigningKey, bool), KeyError> {
    match load(path) {
        Err(KeyError::Missing(_)) => {}
        loaded => return loaded.map(|key| (key, false)),
    }
    match create_new(path) {
        // Another process was faster.
        Err(KeyError::Exists(_)) => load(path).map(|key| (key, false)),
        created => created.map(|key| (key, true)),
    }
}

/// The key in the file.
///
/// # Errors
/// There is none, it isn't one of ours, or others can read it.
pub fn load(path: &Path) -> Result<SigningKey, KeyError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyError::Missing(path.to_owned()),
        _ => KeyError::Unreadable { path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(unreadable)?;
    // The open file is asked, not the path: the two could differ by the time of reading.
    let metadata = file.metadata().map_err(unreadable)?;
    // First: the mode of a folder is as it should be, and says nothing.
    if metadata.is_dir() {
        return Err(KeyError::Folder(path.to_owned()));
    }
    if exposed(&metadata) {
        return Err(KeyError::Exposed(path.to_owned()));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text).map_err(unreadable)?;
    parse(&text, path)
}

/// Makes a key and writes it to a file that isn't there yet, readable by its owner only.
///
/// # Errors
/// The file is there already, or can't be written.
pub fn create_new(path: &Path) -> Result<SigningKey, KeyError> {
    let unwritable = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists if path.is_dir() => KeyError::Folder(path.to_owned()),
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => KeyError::Unwritable { path: path.to_owned(), source },
    };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| unwritable(io::Error::other(error.to_string())))?;
    let key = SigningKey::from_bytes(&seed);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        private_directory(parent).map_err(|source| KeyError::Unwritable { path: path.to_owned(), source })?;
    }
    let text = encode(&key).map_err(|error| unwritable(io::Error::other(error.to_string())))?;
    let mut file = private_file().open(path).map_err(unwritable)?;
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        // Half a key would stand in the way of the next attempt.
        let _ = fs::remove_file(path);
        return Err(unwritable(error));
    }
    Ok(key)
}

fn parse(text: &[u8], path: &Path) -> Result<SigningKey, KeyError> {
    let text = std::str::from_utf8(text).map_err(|_| KeyError::NotPem(path.to_owned()))?;
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err(KeyError::Encrypted(path.to_owned()));
    }
    if ["RSA", "EC", "DSA"].iter().any(|kind| text.contains(&format!("-----BEGIN {kind} PRIVATE KEY-----"))) {
        return Err(KeyError::OtherAlgorithm(path.to_owned()));
    }
    // What stands before the key are comments, such as the parameters that OpenSSL writes for some keys.
    let Some(start) = text.find(LABEL) else {
        return Err(KeyError::NotPem(path.to_owned()));
    };
    SigningKey::from_pkcs8_pem(text[start..].trim_end()).map_err(|error| match error {
        pkcs8::Error::PublicKey(pkcs8::spki::Error::OidUnknown { .. }) => {
            KeyError::OtherAlgorithm(path.to_owned())
        }
        _ => KeyError::Damaged(path.to_owned()),
    })
}

/// The text of a key file. Without the public key, which can be computed: OpenSSL reads the older of the two
/// versions of PKCS#8 only.
fn encode(key: &SigningKey) -> pkcs8::Result<impl std::ops::Deref<Target = String> + use<>> {
    let pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    pair.to_pkcs8_pem(pkcs8::spki::der::pem::LineEnding::LF)
}

#[cfg(unix)]
fn exposed(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    metadata.mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn exposed(_: &fs::Metadata) -> bool {
    false
}

/// The mode is given with the creation: between a creation and a later change others could open the file.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
#[path = "tests/key.rs"]
mod tests;

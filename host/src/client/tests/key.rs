//! Key files of ours, of OpenSSL, and of others.

use super::*;

/// Written by `openssl genpkey -algorithm ed25519`; its public key by `openssl pkey -pubout`.
const OPENSSL: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIP6hSZSGYRfT4goQ8E11+8zpiuHc32KHu9AZiSXaM4RT
-----END PRIVATE KEY-----
";
const OPENSSL_PUBLIC: &str = "f2dfb99859bafda27fd0d1d1e1ff49ce3f303b3f3c5918b99a17a9b7d53eaf4d";

/// Written by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`.
const P256: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgmla62ymytsH3yNGK
2gJbf1PHnj/F/VklDL498X9Ad8OhRANCAAQxH0qGjigi9r1duBJmF7/rk+SvPpVy
JgkZZVZNCdI1ysoafJEC3TKdR5FltcyKl9+JNwklyOENlFUklRnsQn2v
-----END PRIVATE KEY-----
";

/// Removes its directory when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tunnel-key-{:016x}", rand::random::<u64>()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A file that its owner alone can read.
    fn file(&self, text: &str) -> PathBuf {
        let path = self.0.join("key.pem");
        let _ = fs::remove_file(&path);
        private_file().open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn reads_what_openssl_writes_and_writes_the_same() {
    let directory = Directory::new();
    let key = load(&directory.file(OPENSSL)).unwrap();
    let public: String = key.verifying_key().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(public, OPENSSL_PUBLIC);
    assert_eq!(*encode(&key).unwrap(), OPENSSL);
}

#[test]
fn a_key_is_made_once_and_then_kept() {
    let directory = Directory::new();
    let path = directory.0.join("new/deep/key.pem");
    let (made, true) = load_or_create(&path).unwrap() else { panic!("there was no key") };
    let (kept, false) = load_or_create(&path).unwrap() else { panic!("there was a key") };
    assert_eq!(made.to_bytes(), kept.to_bytes());
    let other = create_new(&directory.0.join("other.pem")).unwrap();
    assert_ne!(made.to_bytes(), other.to_bytes());
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_use_the_file() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let directory = Directory::new();
    let path = directory.0.join("folder/key.pem");
    create_new(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
    }
}

#[test]
fn a_folder_is_called_one() {
    let directory = Directory::new();
    for error in [load(&directory.0).unwrap_err(), create_new(&directory.0).unwrap_err()] {
        let sentence = error.to_string();
        assert!(sentence.contains("is a folder") && sentence.contains("/key.pem"), "{sentence}");
        assert!(!sentence.contains("chmod"), "{sentence}");
    }
}

#[test]
fn a_key_is_never_replaced() {
    let directory = Directory::new();
    let path = directory.file(OPENSSL);
    assert!(matches!(create_new(&path), Err(KeyError::Exists(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), OPENSSL);
}

#[test]
fn other_files_are_told_apart() {
    let directory = Directory::new();
    for (text, expected) in [
        ("", "not a key in PKCS#8 PEM"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "not a key in"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a key in PKCS#8 PEM"),
        ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "another algorithm"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted"),
        (P256, "another algorithm"),
        (&OPENSSL.replace("MC4C", "MC5C"), "damaged"),
        (&OPENSSL[..60], "damaged"),
    ] {
        let path = directory.file(text);
        let sentence = load(&path).unwrap_err().to_string();
        assert!(sentence.contains(expected) && sentence.contains(&*path.to_string_lossy()), "{sentence}");
    }
    let error = load(&directory.0.join("absent.pem")).unwrap_err();
    assert!(matches!(error, KeyError::Missing(_)) && error.to_string().contains("tunnel key new"));
    assert!(matches!(load(&directory.0.join("key.pem/x")), Err(KeyError::Unreadable { .. })));
}

//! The ways in which a path can be read.
//!
//! A path is forwarded as it was sent, and what an origin makes of it isn't known: one takes `%2F` for a slash and
//! another doesn't, one resolves `..` and another doesn't. Where a policy guards a path, a visitor would write it so
//! that the policy reads one thing and the origin another. So a path is read in every usual way, and one on which the
//! readings don't agree is refused by whoever asks (`mod.rs`).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The path in each of its readings, without the query. The first is what the bytes say.
pub(super) fn readings(path: &str) -> [Cow<'_, [u8]>; 3] {
    let path = if path.starts_with('/') { path } else { "/" };
    if is_plain(path) {
        return [
            Cow::Borrowed(path.as_bytes()),
            Cow::Borrowed(path.as_bytes()),
            Cow::Borrowed(path.as_bytes()),
        ];
    }
    let literal: Vec<u8> =
        percent_decode_str(&path.replace("%2F", "%252F").replace("%2f", "%252f")).collect();
    // RFC 3986 section 5.2.4, with escaped slashes as part of their segment.
    let resolved = resolve(&literal, |byte| byte == b'/', false);
    // As lenient servers have it: an escaped slash and a backslash separate, a parameter isn't part of its segment.
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    let lenient = resolve(&decoded, |byte| byte == b'/' || byte == b'\\', true);
    [Cow::Owned(literal), Cow::Owned(resolved), Cow::Owned(lenient)]
}

/// Most paths can be read in one way only, and are.
fn is_plain(path: &str) -> bool {
    !path.bytes().any(|byte| matches!(byte, b'%' | b'\\' | b';'))
        && !path.contains("//")
        && !path.contains("/.")
}

/// Takes out empty segments and `.`, and lets `..` take out the one before.
fn resolve(path: &[u8], separates: impl Fn(u8) -> bool, parameters: bool) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut folder = false;
    for segment in path.split(|&byte| separates(byte)) {
        let name =
            if parameters { segment.split(|&byte| byte == b';').next().unwrap_or_default() } else { segment };
        folder = matches!(name, b"" | b"." | b"..");
        match name {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    let mut resolved = vec![b'/'];
    resolved.extend(segments.join(&b'/'));
    if folder && resolved.len() > 1 {
        resolved.push(b'/');
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> [String; 3] {
        readings(path).map(|reading| String::from_utf8(reading.into_owned()).unwrap())
    }

    #[test]
    fn a_plain_path_reads_the_same_in_every_way() {
        for path in ["/", "/api/users", "/a.b/c.d", "/api/"] {
            assert_eq!(read(path), [path, path, path]);
        }
        assert_eq!(read("*"), ["/", "/", "/"]);
    }

    #[test]
    fn disguises_are_seen_through_by_one_reading_or_another() {
        for (path, literal, resolved, lenient) in [
            ("/%61pi", "/api", "/api", "/api"),
            ("//api//x", "//api//x", "/api/x", "/api/x"),
            ("/x/../api/", "/x/../api/", "/api/", "/api/"),
            ("/x/..", "/x/..", "/", "/"),
            ("/../../api", "/../../api", "/api", "/api"),
            ("/api%2Fx", "/api%2Fx", "/api%2Fx", "/api/x"),
            ("/api/..%2fpublic", "/api/..%2fpublic", "/api/..%2fpublic", "/public"),
            ("/x\\..\\api", "/x\\..\\api", "/x\\..\\api", "/api"),
            ("/api;a=b/x", "/api;a=b/x", "/api;a=b/x", "/api/x"),
            ("/%2e%2E/api", "/../api", "/api", "/api"),
        ] {
            assert_eq!(read(path), [literal, resolved, lenient], "{path}");
        }
    }
}

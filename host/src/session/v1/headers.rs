//! Headers as the original's clients get them: one value a name, in the spelling that Go gives names.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, header};

/// Fields of requests that have one value (RFC 9110), so that a comma between two would make another value of them. Whoever sends
/// one twice breaks the rules already.
const SINGLE: &[HeaderName] = &[
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::DATE,
    header::FROM,
    header::IF_MODIFIED_SINCE,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::MAX_FORWARDS,
    header::ORIGIN,
    header::RANGE,
    header::REFERER,
    header::SET_COOKIE,
    header::UPGRADE_INSECURE_REQUESTS,
    header::USER_AGENT,
];

/// What belongs to the hop between proxy and client, where bodies are whole: nobody there waits for a `100 Continue`, and
/// there are no trailers.
const OF_THIS_HOP: &[HeaderName] = &[header::EXPECT, header::TE, header::TRAILER];

/// A request's headers, and whether something of them was left out.
pub(super) fn joined(headers: &HeaderMap) -> (BTreeMap<String, String>, bool) {
    let mut lossless = true;
    let mut joined = BTreeMap::new();
    for name in headers.keys().filter(|name| !OF_THIS_HOP.contains(name)) {
        let mut values = headers.get_all(name).iter().map(|value| text(value.as_bytes(), &mut lossless));
        let mut all = values.next().unwrap_or_default();
        for value in values {
            if SINGLE.contains(name) {
                lossless = false;
                break;
            }
            // RFC 6265 section 5.4 for cookies, RFC 9110 section 5.3 for all others.
            all.push_str(if *name == header::COOKIE { "; " } else { ", " });
            all.push_str(&value);
        }
        joined.insert(go_spelling(name), all);
    }
    (joined, !lossless)
}

fn text(value: &[u8], lossless: &mut bool) -> String {
    let text = String::from_utf8_lossy(value);
    *lossless &= matches!(text, std::borrow::Cow::Borrowed(_));
    text.into_owned()
}

/// `Sec-Websocket-Protocol`: a capital at the beginning and after each dash. Clients look names up in this spelling.
fn go_spelling(name: &HeaderName) -> String {
    let mut start = true;
    let spell = |letter: char| {
        let spelled = if start { letter.to_ascii_uppercase() } else { letter };
        start = letter == '-';
        spelled
    };
    name.as_str().chars().map(spell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&'static str, &[u8])]) -> (BTreeMap<String, String>, bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, http::HeaderValue::from_bytes(value).unwrap());
        }
        joined(&headers)
    }

    #[test]
    fn lists_are_joined_and_nothing_is_lost() {
        let (headers, lost) = of(&[
            ("x-a", b"1"),
            ("x-a", b"2"),
            ("cookie", b"a=1"),
            ("cookie", b"b=2"),
            ("sec-websocket-protocol", b"chat"),
            ("te", b"trailers"),
            ("expect", b"100-continue"),
        ]);
        assert!(!lost);
        let expected = [("Cookie", "a=1; b=2"), ("Sec-Websocket-Protocol", "chat"), ("X-A", "1, 2")];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn what_cannot_be_joined_or_is_no_text_is_a_loss() {
        let (headers, lost) = of(&[("content-type", b"a/b"), ("content-type", b"c/d")]);
        assert_eq!((headers["Content-Type"].as_str(), lost), ("a/b", true));
        let (headers, lost) = of(&[("x-name", b"\xe5")]);
        assert_eq!((headers["X-Name"].as_str(), lost), ("\u{fffd}", true));
    }
}

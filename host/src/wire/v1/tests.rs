//! Against frames that the original's programs exchanged, and keys whose names they gave out.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use http::{Method, Uri};
use serde_json::{Value, json};

use super::*;

const VECTORS: &str = include_str!("../../../../tests/vectors/original.txt");

/// The names of the key in the vectors, as the original's server gave them out.
const P256_NAME: &str = "5ebp25ytzad3iotxxovqnm4arle7mecafqcswhc253x7zqm3vyyq";
const P256_SESSION: &str = "xizg4n67l6hb3i5hdelqapq4ydpuzdfrgapc5i5esrs6qag5lchq";

/// 2026-11-22T08:27:43Z, when the first token was made.
const MADE: i64 = 1_795_336_063;

/// Frames of one side whose text has this word.
fn frames(side: &str, word: &str) -> Vec<&'static str> {
    let frames = VECTORS.lines().filter_map(|line| line.strip_prefix(side));
    frames.filter(|frame| frame.contains(word)).collect()
}

fn registrations() -> Vec<RegistrationRequest> {
    let frames = frames("C>S TEXT ", "registration-request");
    let read = frames.into_iter().map(|frame| match FromClient::decode(frame) {
        Ok(FromClient::Register(request)) => request,
        other => panic!("{frame}: {other:?}"),
    });
    read.collect()
}

fn own() -> [Uri; 1] {
    [Uri::from_static("http://127.0.0.1:6520")]
}

fn rfc_8037_key() -> SigningKey {
    let d = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    SigningKey::from_bytes(&d.try_into().unwrap())
}

fn ed25519_header() -> Value {
    let x = URL_SAFE_NO_PAD.encode(rfc_8037_key().verifying_key().as_bytes());
    json!({ "alg": "EdDSA", "jwk": { "kty": "OKP", "crv": "Ed25519", "x": x } })
}

fn claims() -> Value {
    json!({
        "@type": "https://schema.brickchain.com/v2/mandate-token.json",
        "@timestamp": "2026-11-22T08:27:43Z",
        "uri": "http://127.0.0.1:6520/proxy/subscribe",
        "ttl": 60,
        "mandates": [],
    })
}

fn sign(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = rfc_8037_key().sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

#[test]
fn the_original_client_s_tokens_register_its_name_and_once_each() {
    let requests = registrations();
    assert_eq!(requests.len(), 2);
    let first = MandateToken::verify(&requests[0].mandate_token, &own(), MADE).unwrap();
    let second = MandateToken::verify(&requests[1].mandate_token, &own(), MADE + 344).unwrap();
    for token in [&first, &second] {
        assert_eq!(token.name.as_str(), P256_NAME);
        assert_eq!(token.name_with(None).unwrap().as_str(), P256_NAME);
        assert_eq!(token.name_with(Some("abc")).unwrap().as_str(), P256_SESSION);
    }
    assert_ne!(first.digest, second.digest);
    assert_eq!(first.over_at, MADE + 60 + 30);
    assert_eq!(first.name_with(Some(&"x".repeat(129))), Err(TokenError::BadSessionLabel));
}

#[test]
fn an_ed25519_key_has_the_name_that_the_original_gives_it() {
    let token = MandateToken::verify(&sign(&ed25519_header(), &claims()), &own(), MADE).unwrap();
    assert_eq!(token.name.as_str(), "sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq");
    let session = token.name_with(Some("abc")).unwrap();
    assert_eq!(session.as_str(), "lsecyuya75eoayzvixepivoeudaz5qr44hv4izv7m3pnf7xts36q");
}

#[test]
fn a_token_holds_for_its_time_and_its_proxy_alone() {
    let token = &registrations()[0].mandate_token;
    let at = |now| MandateToken::verify(token, &own(), now).map(|token| token.over_at);
    assert_eq!(at(MADE + 90), Ok(MADE + 90));
    assert_eq!(at(MADE + 91), Err(TokenError::Expired { seconds: 91 }));
    assert_eq!(at(MADE - 30), Ok(MADE + 90));
    assert_eq!(at(MADE - 31), Err(TokenError::FromTheFuture { seconds: 31 }));
    for other in [
        "https://127.0.0.1:6520",
        "http://127.0.0.1:65201",
        "http://127.0.0.1",
        "http://127.0.0.1.example:6520",
    ] {
        let refused = MandateToken::verify(token, &[other.parse().unwrap()], MADE);
        assert!(matches!(refused, Err(TokenError::WrongAudience { .. })), "{other}: {refused:?}");
    }
}

/// The original took the text's beginning for the proxy's own, and any lifetime.
#[test]
fn what_the_original_was_too_kind_to_is_refused() {
    let mut long = claims();
    long["ttl"] = json!(1_000_000);
    let token = MandateToken::verify(&sign(&ed25519_header(), &long), &own(), MADE).unwrap();
    assert_eq!(token.over_at, MADE + 300 + 30);
    let mut elsewhere = claims();
    elsewhere["uri"] = json!("http://127.0.0.1:6520.evil.example");
    let refused = MandateToken::verify(&sign(&ed25519_header(), &elsewhere), &own(), MADE);
    assert!(matches!(refused, Err(TokenError::WrongAudience { .. })), "{refused:?}");
    let mut other = claims();
    other["@type"] = json!("https://schema.brickchain.com/v2/mandate.json");
    let refused = MandateToken::verify(&sign(&ed25519_header(), &other), &own(), MADE);
    assert_eq!(refused, Err(TokenError::Malformed("it is no mandate token")));
}

#[test]
fn a_signature_counts_for_its_text_its_key_and_its_algorithm() {
    let verify = |token: &str| MandateToken::verify(token, &own(), MADE).map(|token| token.name);
    let good = &registrations()[0].mandate_token;
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let altered =
        format!("{signed}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    assert_eq!(verify(&altered), Err(TokenError::BadSignature));
    let ours = sign(&ed25519_header(), &claims());
    let theirs = ours.split('.').nth(1).unwrap();
    let exchanged = good.splitn(3, '.').enumerate().map(|(n, part)| if n == 1 { theirs } else { part });
    assert_eq!(verify(&exchanged.collect::<Vec<_>>().join(".")), Err(TokenError::BadSignature));

    let header = |change: &dyn Fn(&mut Value)| {
        let mut header = ed25519_header();
        change(&mut header);
        sign(&header, &claims())
    };
    for (token, refused) in [
        (header(&|header| header["alg"] = json!("ES256")), TokenError::BadKey),
        (header(&|header| header["alg"] = json!("HS256")), TokenError::BadKey),
        (header(&|header| header["jwk"]["crv"] = json!("P-256")), TokenError::BadKey),
        (header(&|header| header["jwk"]["x"] = json!("AAAA")), TokenError::BadKey),
        (
            header(&|header| _ = header.as_object_mut().unwrap().remove("jwk")),
            TokenError::Malformed("its header has no jwk"),
        ),
        (
            header(&|header| header["alg"] = json!("none")),
            TokenError::Malformed("it is no compact JWS, or its algorithm is unknown"),
        ),
    ] {
        assert_eq!(verify(&token), Err(refused), "{token}");
    }
    assert!(verify(&header(&|header| header["crit"] = json!(["exp"]))).is_err());
    // A point of small order, under which anything has a signature.
    assert!(verify(&header(&|header| header["jwk"]["x"] = json!(URL_SAFE_NO_PAD.encode([0; 32])))).is_err());
    for token in ["", ".", "..", "a.b.c", &"a".repeat(40_000)] {
        assert!(matches!(verify(token), Err(TokenError::Malformed(_))), "{token}");
    }
}

#[test]
fn the_original_client_s_documents_are_read() {
    let answers = frames("C>S TEXT ", "http-response");
    let read = |frame: &str| FromClient::decode(frame).unwrap();
    let FromClient::HttpResponse(first) = read(answers[0]) else { panic!("no answer: {}", answers[0]) };
    assert_eq!((first.status.as_u16(), &first.body[..]), (200, &b"xxxxxxxxxx"[..]));
    assert_eq!(first.headers["content-type"], "text/plain");
    assert_eq!(first.id, "00cbafda-4be7-446f-89aa-a115ef6ffa0b");
    assert!(answers.iter().all(|frame| matches!(read(frame), FromClient::HttpResponse(_))));

    let id = "d596b874-66f4-4d59-b28c-5166f8ce8518".to_owned();
    let accepted = FromClient::WsResponse { id: id.clone(), ok: true, error: String::new() };
    assert_eq!(read(frames("C>S TEXT ", "ws-response")[0]), accepted);
    let message = FromClient::WsMessage { id: id.clone(), opcode: 1, body: "hello".into() };
    assert_eq!(read(frames("C>S TEXT ", "ws-message")[0]), message);
    assert_eq!(read(frames("C>S TEXT ", "ws-teardown")[0]), FromClient::WsTeardown { id });
    assert_eq!(read(frames("C>S TEXT ", "disconnect")[0]), FromClient::Disconnect);
    assert_eq!(read(&ping()), FromClient::Other);
}

/// Member by member; the order of members and the spelling of `&` mean nothing in JSON.
#[test]
fn our_documents_are_the_original_server_s() {
    let compare = |ours: String, theirs: &str| {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(read(&ours), read(theirs));
    };
    for frame in frames("S>C TEXT ", "http-request") {
        let document: Value = serde_json::from_str(frame).unwrap();
        let text = |member: &str| document[member].as_str().unwrap_or_default();
        let headers: BTreeMap<String, String> = serde_json::from_value(document["headers"].clone()).unwrap();
        let method: Method = text("method").parse().unwrap();
        let body = base64::engine::general_purpose::STANDARD.decode(text("body")).unwrap();
        let now = text("@timestamp").parse().unwrap();
        let target = (text("url"), text("query"));
        compare(http_request(text("@id"), now, &method, target, &headers, &body), frame);
    }
    let wish = frames("S>C TEXT ", "ws-request")[0];
    let document: Value = serde_json::from_str(wish).unwrap();
    let headers = serde_json::from_value(document["headers"].clone()).unwrap();
    let (id, now) =
        ("d596b874-66f4-4d59-b28c-5166f8ce8518", "2026-11-22T08:34:11.03436459Z".parse().unwrap());
    compare(ws_request(id, now, ("/ws", "x=1"), &headers), wish);
    let message = frames("S>C TEXT ", "ws-message")[0];
    compare(ws_message(id, "2026-11-22T08:34:11.047414179Z".parse().unwrap(), "hello"), message);
    let teardown = frames("S>C TEXT ", "ws-teardown")[0];
    compare(ws_teardown(id, "2026-11-22T08:34:12.186881088Z".parse().unwrap()), teardown);
    assert_eq!(ping(), frames("S>C TEXT ", "ping.json")[0]);

    let response = frames("S>C TEXT ", "registration-response")[0];
    let (name, now) = (P256_NAME.parse().unwrap(), "2026-11-22T08:27:43.186678149Z".parse().unwrap());
    let hostname = format!("{P256_NAME}.tun.localhost");
    let id = "f3280772-3ad6-4947-9419-e9c3bc403da1";
    compare(registration_response(id, now, &name, Some(&hostname)), response);
}

#[test]
fn a_path_is_decoded_once_and_what_that_loses_is_said() {
    for (path, url, exact) in [
        ("/echo/a%20b//c/%C3%A5", "/echo/a b//c/å", true),
        ("/echo/../x//y", "/echo/../x//y", true),
        ("/%2541", "/%41", true),
        ("/a%2Fb", "/a/b", false),
        ("/%ff", "/\u{fffd}", false),
        ("*", "*", true),
    ] {
        assert_eq!(url_of(path), Path { url: url.into(), exact }, "{path}");
    }
}

#[test]
fn a_content_type_of_its_own_serves_where_headers_have_none() {
    let document = |headers: Value| {
        let text = json!({
            "@type": "https://proxy.brickchain.com/v1/http-response.json", "@id": "x", "status": 200,
            "headers": headers, "contentType": "text/html", "body": null,
        });
        match FromClient::decode(&text.to_string()) {
            Ok(FromClient::HttpResponse(response)) => response.headers["content-type"].clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(document(json!({})), "text/html");
    assert_eq!(document(json!(null)), "text/html");
    assert_eq!(document(json!({ "Content-Type": "a/b" })), "a/b");
}

#[test]
fn what_cannot_be_used_says_which_exchange_it_was_for() {
    let response = |change: &str| {
        format!(
            r#"{{"@type":"https://proxy.brickchain.com/v1/http-response.json","@id":"x","status":200{change}}}"#
        )
    };
    for bad in [
        response(r#","body":"%""#),
        response(r#","headers":{"a b":"c"}"#),
        response(r#","headers":{"a":"b\nc"}"#),
        response(r#","headers":[]"#),
        response("").replace("200", "103"),
        response("").replace("200", "9999"),
        response("").replace("200", "null"),
        r#"{"@type":"https://proxy.brickchain.com/v1/ws-message.json","@id":"x"}"#.to_owned(),
    ] {
        let error = FromClient::decode(&bad).unwrap_err();
        assert!(matches!(&error, DocumentError::Unusable { id, .. } if id == "x"), "{bad}: {error:?}");
    }
    for bad in ["", "[]", "{}", "null", r#"{"@type":1}"#] {
        assert!(matches!(FromClient::decode(bad), Err(DocumentError::NotADocument(_))), "{bad}");
    }
    assert_eq!(FromClient::decode(r#"{"@type":"https://elsewhere.example/x.json"}"#), Ok(FromClient::Other));
}

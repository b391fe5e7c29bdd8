//! Round trips of every message, and what becomes of bytes that are none.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ciborium::{Value, cbor};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use proptest::prelude::*;

use super::{
    message::{BodyPart, CancelCode, Refusal, Registered, RequestStart, ResponseStart, WsKind, WsPart},
    tls::ClientCertificate,
    *,
};

const LIMITS: Limits = Limits { headers: 100 };

fn decode(bytes: impl Into<Bytes>) -> Result<Decoded, DecodeError> {
    Message::decode(bytes.into(), &LIMITS)
}

fn encode_value(value: &Value) -> Bytes {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes.into()
}

prop_compose! {
    fn headers()(pairs in prop::collection::vec(("[a-z][a-z0-9-]{0,20}", "[\\x20-\\x7e\\x80-\\xff]{0,30}"), 0..12))
        -> HeaderMap
    {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value.trim().as_bytes()).unwrap();
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        headers
    }
}

fn data() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn notes() -> impl Strategy<Value = Notes> {
    prop::collection::vec(("[a-z]{1,8}", "\\PC{0,40}"), 0..4).prop_map(|pairs| {
        let mut notes = Notes::default();
        for (name, value) in pairs {
            notes.set(name, value).unwrap();
        }
        notes
    })
}

prop_compose! {
    fn tls()(
        version in "1\\.[23]",
        cipher in "[A-Z0-9_]{0,40}",
        server_name in prop::option::of("[a-z0-9.-]{1,30}"),
        alpn in prop::option::of("[a-z0-9/.]{1,10}"),
        client in prop::option::of(("\\PC{0,60}", any::<[u8; 32]>())),
    ) -> Tls {
        let client = client.map(|(subject, sha256)| ClientCertificate { subject, sha256 });
        Tls { version, cipher, server_name, alpn, client }
    }
}

prop_compose! {
    fn request()(
        (id, exchange, secure, end) in (1..u64::MAX, any::<u64>(), any::<bool>(), any::<bool>()),
        method in "[A-Z!#$%&'*+.^_`|~-]{1,12}",
        target in "/[a-zA-Z0-9%/.;:@&=+$,~_-]{0,40}(\\?[a-z0-9%&=/?]{0,20})?",
        authority in "[a-z0-9.-]{0,30}(:[0-9]{1,5})?",
        visitor in prop::option::of("[0-9.:]{1,20}"),
        headers in headers(),
        notes in notes(),
        tls in prop::option::of(tls()),
        body in data(),
        tunnel in prop::option::of(any::<[u8; 32]>()),
    ) -> RequestStart {
        RequestStart {
            tunnel: tunnel.map(|digest| {
                base32::encode(base32::Alphabet::Rfc4648Lower { padding: false }, &digest).parse().unwrap()
            }),
            id, exchange, secure, end, authority, headers, visitor, notes, body, tls: tls.map(Arc::new),
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            target: PathAndQuery::try_from(target).unwrap(),
        }
    }
}

prop_compose! {
    fn response()(id in 1..u64::MAX, status in 100u16..=999, headers in headers(), body in data(), end in any::<bool>())
        -> ResponseStart
    {
        ResponseStart { id, status: StatusCode::from_u16(status).unwrap(), headers, body, end }
    }
}

fn message() -> impl Strategy<Value = Message> {
    let id = 1..u64::MAX;
    let text = "\\PC{0,60}";
    let kind = prop::sample::select(vec![WsKind::Text, WsKind::Binary]);
    let control = prop::sample::select(vec![WsKind::Ping, WsKind::Pong]);
    let code = prop::sample::select(CancelCode::ALL.to_vec());
    prop_oneof![
        (id.clone(), data()).prop_map(|(id, statement)| Message::RegistrationRequest { id, statement }),
        (id.clone(), text, prop::option::of(any::<u64>()), any::<u64>(), prop::option::of(any::<u64>()))
            .prop_map(|(id, public_url, max_body, n, node)| {
                let name: TunnelName =
                    "sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq".parse().unwrap();
                let hostname = format!("{name}.example");
                let (max_websocket_message, max_exchanges) = (n, n / 2);
                let node = node.map(NodeId);
                let registered = Registered {
                    name,
                    hostname,
                    public_url,
                    max_body,
                    max_websocket_message,
                    max_exchanges,
                    node,
                };
                Message::RegistrationResponse { id, outcome: Ok(registered) }
            }),
        (id.clone(), text, text, any::<bool>()).prop_map(|(id, code, text, retry)| {
            let retry_after = retry.then(|| Duration::from_secs(id));
            Message::RegistrationResponse { id, outcome: Err(Refusal { code, text, retry, retry_after }) }
        }),
        request().prop_map(|start| Message::HttpRequest(Box::new(start))),
        request().prop_map(|start| Message::WsRequest(Box::new(start))),
        response().prop_map(|start| Message::HttpResponse(Box::new(start))),
        response().prop_map(|start| Message::WsResponse(Box::new(start))),
        (id.clone(), data(), any::<bool>(), prop::option::of(headers())).prop_map(
            |(id, data, end, trailers)| {
                let trailers = trailers.filter(|_| end);
                Message::Body(BodyPart { id, data, end, trailers })
            }
        ),
        (id.clone(), any::<u32>()).prop_map(|(id, bytes)| Message::Credit { id, bytes }),
        (id.clone(), code, text).prop_map(|(id, code, detail)| Message::Cancel { id, code, detail }),
        (id.clone(), kind, data(), any::<bool>())
            .prop_map(|(id, kind, data, end)| Message::WsMessage(WsPart { id, kind, data, end })),
        (id.clone(), control, prop::collection::vec(any::<u8>(), 0..=125)).prop_map(|(id, kind, data)| {
            Message::WsMessage(WsPart { id, kind, data: data.into(), end: true })
        }),
        (id, any::<u16>(), text).prop_map(|(id, code, reason)| Message::WsTeardown { id, code, reason }),
        any::<u32>().prop_map(|ms| Message::GoAway { grace: Duration::from_millis(ms.into()) }),
        prop::sample::select(vec![Message::Ping, Message::Pong, Message::Disconnect]),
    ]
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_was(message in message()) {
        let bytes = message.encode();
        prop_assert_eq!(decode(bytes.clone()), Ok(Decoded::Message(message)));
        // Any CBOR reader can read it, and its keys are in deterministic order.
        let value: Value = ciborium::from_reader(&*bytes).unwrap();
        let keys: Vec<u64> = value.as_map().unwrap().iter().map(|(key, _)| key.as_integer().unwrap().try_into().unwrap()).collect();
        prop_assert!(keys.is_sorted() && keys[0] == 0);
    }

    #[test]
    fn a_message_cut_short_is_an_error(message in message(), cut in any::<prop::sample::Index>()) {
        let bytes = message.encode();
        prop_assert!(decode(bytes.slice(..cut.index(bytes.len()))).is_err());
    }

    #[test]
    fn any_bytes_decode_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(bytes);
    }

    #[test]
    fn a_flipped_byte_does_no_harm(message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = message.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(bytes);
    }
}

#[test]
fn unknown_kinds_and_keys_are_skipped() {
    let unknown = cbor!({ 0 => 99, 1 => 5, 77 => [1, { "deep" => null }, 1.5] }).unwrap();
    assert_eq!(decode(encode_value(&unknown)), Ok(Decoded::Unknown { kind: 99 }));
    let grown = cbor!({ 0 => 6, 1 => 5, 2 => 1000, 40 => { "new" => [true] } }).unwrap();
    assert_eq!(decode(encode_value(&grown)), Ok(Decoded::Message(Message::Credit { id: 5, bytes: 1000 })));
}

#[test]
fn a_proxy_that_says_nothing_of_its_node_registers_all_the_same() {
    let name = "sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq";
    let older = cbor!({ 0 => 2, 1 => 1, 14 => name }).unwrap();
    let Ok(Decoded::Message(Message::RegistrationResponse { outcome: Ok(registered), .. })) =
        decode(encode_value(&older))
    else {
        panic!("no registration")
    };
    assert_eq!((registered.name.as_str(), registered.node), (name, None));
}

#[test]
fn what_is_wrong_is_named() {
    let cases: [(Value, DecodeError); 13] = [
        (cbor!([1, 2]).unwrap(), DecodeError::NotAMap),
        (cbor!({}).unwrap(), DecodeError::NoKind),
        (cbor!({ 1 => 1, 0 => 6 }).unwrap(), DecodeError::NoKind),
        (cbor!({ 0 => 6, 1 => 1 }).unwrap(), DecodeError::Missing { kind: 6, key: 2 }),
        (cbor!({ 0 => 5 }).unwrap(), DecodeError::Missing { kind: 5, key: 1 }),
        (
            cbor!({ 0 => 5, 1 => "x" }).unwrap(),
            DecodeError::WrongType { at: 4, wanted: "an unsigned integer" },
        ),
        (
            cbor!({ 0 => 5, 1 => (-1) }).unwrap(),
            DecodeError::WrongType { at: 4, wanted: "an unsigned integer" },
        ),
        (cbor!({ 0 => 5, 1 => 1, 1 => 2 }).unwrap(), DecodeError::Repeated { key: 1 }),
        (cbor!({ 0 => 5, 0 => 5, 1 => 2 }).unwrap(), DecodeError::Repeated { key: 0 }),
        (
            cbor!({ 0 => 4, 1 => 1, 2 => 200, 6 => ["a"] }).unwrap(),
            DecodeError::WrongType { at: 9, wanted: "an array of names and values" },
        ),
        (
            cbor!({ 0 => 3, 1 => 1, 2 => "GET", 5 => "/a#b" }).unwrap(),
            DecodeError::WrongType { at: 11, wanted: "a path with an optional query" },
        ),
        (
            cbor!({ 0 => 3, 1 => 1, 2 => "GE T", 5 => "/" }).unwrap(),
            DecodeError::WrongType { at: 6, wanted: "a method" },
        ),
        (
            cbor!({ 0 => 2, 1 => 1, 22 => "00000000000000AB" }).unwrap(),
            DecodeError::WrongType { at: 6, wanted: "a node's name" },
        ),
    ];
    for (value, error) in cases {
        assert_eq!(decode(encode_value(&value)), Err(error), "{value:?}");
    }
}

#[test]
fn headers_that_http_forbids_are_refused() {
    for (name, value) in [("a b", "x"), ("", "x"), ("a", "x\r\ny: z"), ("a", "\0")] {
        let headers = Value::Array(vec![Value::Text(name.into()), Value::Bytes(value.into())]);
        let bytes = encode_value(&cbor!({ 0 => 4, 1 => 1, 2 => 200, 6 => headers }).unwrap());
        assert_eq!(decode(bytes), Err(DecodeError::BadHeader { at: 10 }), "{name:?}: {value:?}");
    }
}

#[test]
fn sizes_are_bounded_before_anything_is_allocated() {
    // An array that claims four billion items, a byte string of as many bytes, deep nesting, indefinite length.
    assert_eq!(
        decode(&b"\xa2\x00\x04\x06\x9a\xff\xff\xff\xfe"[..]),
        Err(DecodeError::TooManyHeaders { most: 100 })
    );
    assert_eq!(decode(&b"\xa2\x00\x05\x07\x5a\xff\xff\xff\xff"[..]), Err(DecodeError::Truncated));
    assert_eq!(
        decode(&b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x00\x05\x01\x01"[..]),
        Err(DecodeError::Truncated)
    );
    let deep = [&b"\xa2\x00\x05\x18\x63"[..], &[0x81; 1000]].concat();
    assert!(matches!(decode(deep), Err(DecodeError::Malformed { .. })));
    assert!(decode(&b"\xbf\x00\x0c\xff"[..]).is_err());
    let part =
        Message::Body(BodyPart { id: 1, data: vec![0; MAX_PART + 1].into(), end: false, trailers: None });
    assert_eq!(decode(part.encode()), Err(DecodeError::TooLong { at: 6, most: MAX_PART }));
    let ping = WsPart { id: 1, kind: WsKind::Ping, data: vec![0; 126].into(), end: true };
    assert!(decode(Message::WsMessage(ping).encode()).is_err());
}

#[test]
fn bytes_after_a_message_are_an_error() {
    let bytes = [&Message::Ping.encode()[..], b"\x00"].concat();
    assert_eq!(decode(bytes), Err(DecodeError::Malformed { at: 3 }));
}

mod registration {
    use ed25519_dalek::SigningKey;
    use http::Uri;

    use crate::wire::registration::{Statement, StatementError, same_origin};

    const NOW: i64 = 1_800_000_000;
    const NONCE: [u8; 32] = [7; 32];

    fn statement() -> Statement {
        Statement {
            nonce: NONCE,
            audience: "wss://proxy.example.com/proxy/subscribe".into(),
            issued_at: NOW,
            expires_at: NOW + 60,
            session: None,
            hostname: None,
            invitation: None,
        }
    }

    fn own() -> Vec<Uri> {
        vec!["https://proxy.example.com".parse().unwrap(), "http://127.0.0.1:6519".parse().unwrap()]
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    fn verify(statement: &Statement) -> Result<Statement, StatementError> {
        Statement::verify(&statement.sign(&key()), &NONCE, &own(), NOW).map(|(statement, _)| statement)
    }

    #[test]
    fn a_statement_says_who_signed_it() {
        let labelled = Statement { session: Some("abc".into()), ..statement() };
        let wished = Statement {
            hostname: Some("blog".parse().unwrap()),
            invitation: Some("come in".into()),
            ..labelled.clone()
        };
        let hostname = wished.name(&key().verifying_key());
        assert_eq!(hostname.as_str(), "blog", "a wish goes before a label");
        assert!(!format!("{wished:?}").contains("come in"), "a secret has no place in a log");
        for statement in [statement(), labelled, wished] {
            let (read, signer) = Statement::verify(&statement.sign(&key()), &NONCE, &own(), NOW).unwrap();
            assert_eq!(read, statement);
            assert_eq!(signer, key().verifying_key());
            assert_eq!(read.name(&signer), statement.name(&key().verifying_key()));
        }
    }

    #[test]
    fn a_statement_for_another_connection_proxy_or_time_registers_nothing() {
        assert_eq!(verify(&Statement { nonce: [8; 32], ..statement() }), Err(StatementError::WrongNonce));
        for audience in [
            "https://proxy.example.com.evil.net/",
            "http://proxy.example.com",
            "https://proxy.example.com:444",
            "x",
        ] {
            let error = verify(&Statement { audience: audience.into(), ..statement() });
            assert_eq!(error, Err(StatementError::WrongAudience { dialled: audience.into() }));
        }
        let old = Statement { issued_at: NOW - 120, expires_at: NOW - 60, ..statement() };
        assert_eq!(verify(&old), Err(StatementError::Expired { seconds: 120 }));
        let early = Statement { issued_at: NOW + 60, expires_at: NOW + 90, ..statement() };
        assert_eq!(verify(&early), Err(StatementError::FromTheFuture { seconds: 60 }));
        assert_eq!(
            verify(&Statement { expires_at: NOW + 61, ..statement() }),
            Err(StatementError::LivesTooLong)
        );
        let empty = Statement { session: Some(String::new()), ..statement() };
        assert_eq!(verify(&empty), Err(StatementError::BadSessionLabel));
        // What was made from a key can't be wished for, whosever it is.
        let name = statement().name(&key().verifying_key());
        let stolen = Statement { hostname: Some(name), ..statement() };
        assert_eq!(verify(&stolen), Err(StatementError::BadHostname));
        for invitation in [String::new(), "x".repeat(129)] {
            let odd = Statement { invitation: Some(invitation), ..statement() };
            assert!(matches!(verify(&odd), Err(StatementError::Malformed(_))));
        }
    }

    #[test]
    fn any_changed_byte_is_found() {
        let wish = Statement {
            hostname: Some("blog".parse().unwrap()),
            invitation: Some("come in".into()),
            ..statement()
        };
        let signed = wish.sign(&key());
        for at in 0..signed.len() {
            let mut bad = signed.clone();
            bad[at] ^= 1;
            assert!(Statement::verify(&bad, &NONCE, &own(), NOW).is_err(), "byte {at}");
        }
        assert!(Statement::verify(&signed[..signed.len() - 1], &NONCE, &own(), NOW).is_err());
        assert!(Statement::verify(&[], &NONCE, &own(), NOW).is_err());
    }

    #[test]
    fn origins_are_compared_whole() {
        let same = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://a.example", "wss://A.example:443/proxy/subscribe"));
        assert!(same("http://a.example:80", "ws://a.example./"));
        assert!(!same("https://a.example", "http://a.example"));
        assert!(!same("https://a.example", "https://b.example"));
        assert!(!same("/path", "/path"));
    }
}

//! Holds the golden bytes of docs/protocol.md against the code, in both directions.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http::{HeaderMap, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use tunnel::wire::{
    Decoded, Limits, Message, NodeId, Tls, TunnelName,
    message::{BodyPart, CancelCode, Refusal, Registered, RequestStart, ResponseStart, WsKind, WsPart},
    registration::Statement,
    tls::ClientCertificate,
};

const DOCUMENT: &str = include_str!("../docs/protocol.md");

/// The key of RFC 8037 appendix A.1, whose public half is that of A.2.
const KEY: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
    0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

fn statement() -> Statement {
    Statement {
        nonce: [0xaa; 32],
        audience: "ws://localhost:6519/proxy/subscribe".into(),
        issued_at: 1_800_000_000,
        expires_at: 1_800_000_060,
        hostname: None,
        invitation: None,
        session: Some("abc".into()),
    }
}

/// Every message of the document, by its title there.
fn messages() -> Vec<(&'static str, Message)> {
    let key = SigningKey::from_bytes(&KEY);
    let name = TunnelName::of_key(&key.verifying_key());
    let headers = |pairs: &[(&'static str, &[u8])]| {
        let pairs = pairs.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    };
    let request = RequestStart {
        id: 1,
        tunnel: None,
        exchange: 255,
        method: Method::POST,
        secure: true,
        authority: "x.localhost".into(),
        target: PathAndQuery::from_static("/a%2Fb?"),
        headers: headers(&[("x-a", b"1"), ("x-a", b"\xff")]),
        visitor: Some("192.0.2.1:4711".into()),
        tls: Some(Arc::new(Tls {
            version: "1.3".into(),
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            server_name: Some("x.localhost".into()),
            alpn: None,
            client: Some(ClientCertificate { subject: "CN=a".into(), sha256: [0xcc; 32] }),
        })),
        notes: Default::default(),
        body: Bytes::from_static(b"hi"),
        end: true,
    };
    let websocket = RequestStart {
        method: Method::GET,
        id: 2,
        body: Bytes::new(),
        visitor: None,
        tls: None,
        ..request.clone()
    };
    let response = ResponseStart {
        id: 1,
        status: StatusCode::OK,
        headers: headers(&[("content-length", b"5")]),
        body: Bytes::from_static(b"hel"),
        end: false,
    };
    let accepted = ResponseStart {
        id: 2,
        status: StatusCode::SWITCHING_PROTOCOLS,
        headers: headers(&[("sec-websocket-protocol", b"chat")]),
        body: Bytes::new(),
        end: false,
    };
    let registered = Registered {
        hostname: format!("{name}.localhost"),
        public_url: format!("http://{name}.localhost:6519"),
        name,
        max_body: Some(500_000),
        max_websocket_message: 16_777_216,
        max_exchanges: 4096,
        node: Some(NodeId(0xab)),
    };
    let refusal = Refusal { code: "wrong-nonce".into(), text: "no".into(), retry: true, retry_after: None };
    let trailers = headers(&[("etag", b"x")]);
    let ws =
        |kind, data: &'static [u8], end| Message::WsMessage(WsPart { id: 2, kind, data: data.into(), end });
    vec![
        (
            "RegistrationRequest",
            Message::RegistrationRequest { id: 1, statement: statement().sign(&key).into() },
        ),
        ("RegistrationResponse, accepted", Message::RegistrationResponse { id: 1, outcome: Ok(registered) }),
        ("RegistrationResponse, refused", Message::RegistrationResponse { id: 1, outcome: Err(refusal) }),
        ("HttpRequest", Message::HttpRequest(Box::new(request))),
        ("HttpResponse", Message::HttpResponse(Box::new(response))),
        (
            "Body",
            Message::Body(BodyPart {
                id: 1,
                data: Bytes::from_static(b"lo"),
                end: true,
                trailers: Some(trailers),
            }),
        ),
        ("Credit", Message::Credit { id: 1, bytes: 32768 }),
        ("Cancel", Message::Cancel { id: 1, code: CancelCode::OriginUnreachable, detail: "gone".into() }),
        ("WsRequest", Message::WsRequest(Box::new(websocket))),
        ("WsResponse", Message::WsResponse(Box::new(accepted))),
        ("WsMessage, first piece", ws(WsKind::Text, b"he", false)),
        ("WsMessage, last piece", ws(WsKind::Text, b"y", true)),
        ("WsTeardown", Message::WsTeardown { id: 2, code: 1000, reason: "bye".into() }),
        ("Ping", Message::Ping),
        ("Pong", Message::Pong),
        ("Disconnect", Message::Disconnect),
        ("GoAway", Message::GoAway { grace: Duration::from_secs(30) }),
    ]
}

/// The golden blocks of the document: a title, then bytes in hexadecimal.
fn golden() -> Vec<(String, Vec<u8>)> {
    let block = DOCUMENT.split("```golden\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.expect("docs/protocol.md has a golden block");
    let entries = block.split("\n\n").map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (title, hex) = entry.split_once('\n').expect("a title and bytes");
            let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
            let bytes =
                (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
            (title.to_owned(), bytes.collect())
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chunks(40).map(<[String]>::concat).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_documents_bytes_are_the_codes_bytes() {
    let golden = golden();
    let written: Vec<_> =
        messages().iter().map(|(title, message)| format!("{title}\n{}", hex(&message.encode()))).collect();
    let documented: Vec<_> = golden.iter().map(|(title, bytes)| format!("{title}\n{}", hex(bytes))).collect();
    assert!(written == documented, "the golden block should read:\n\n{}\n", written.join("\n\n"));
    for ((title, message), (_, bytes)) in messages().into_iter().zip(golden) {
        let decoded = Message::decode(bytes.into(), &Limits { headers: 10 });
        assert_eq!(decoded, Ok(Decoded::Message(message)), "{title}");
    }
}

#[test]
fn the_documents_statement_verifies() {
    let golden = golden();
    let bytes = Bytes::from(golden[0].1.clone());
    let Ok(Decoded::Message(Message::RegistrationRequest { statement: signed, .. })) =
        Message::decode(bytes, &Limits { headers: 0 })
    else {
        panic!("the first golden message is a registration")
    };
    let own = ["http://localhost:6519".parse().unwrap()];
    let (read, key) = Statement::verify(&signed, &[0xaa; 32], &own, 1_800_000_010).unwrap();
    assert_eq!(read, statement());
    assert_eq!(read.name(&key).as_str(), "lsecyuya75eoayzvixepivoeudaz5qr44hv4izv7m3pnf7xts36q");
}

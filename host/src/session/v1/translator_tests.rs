//! Dialogues of a session and a client of the original's dialect, message by message and document by document.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{super::Losses, *};
use crate::wire::{
    MAX_PART, Notes,
    message::{BodyPart, WsKind, WsPart},
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A translator, and what came out of it.
struct Dialogue(Translator);

impl Dialogue {
    fn new() -> Self {
        let tunnel = "sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq".parse().unwrap();
        Self(Translator::new(Losses::default().of_session(tunnel)))
    }

    /// The session says this; here is what the client gets at once.
    fn say(&mut self, message: Message) -> Vec<Value> {
        self.0.send(&message, NOW);
        self.frames()
    }

    /// The client says this; here is what the session gets at once.
    fn hear(&mut self, document: Value) -> Vec<Message> {
        self.0.receive(&document.to_string(), NOW).unwrap();
        self.arrivals()
    }

    fn frames(&mut self) -> Vec<Value> {
        let read = |outgoing| match outgoing {
            Outgoing::Document(document) => serde_json::from_str(&document).unwrap(),
            Outgoing::Ping => json!("ping"),
        };
        self.0.outgoing.drain(..).map(read).collect()
    }

    fn arrivals(&mut self) -> Vec<Message> {
        self.0.arrivals.drain(..).collect()
    }

    fn losses(&self, loss: Loss) -> u64 {
        self.0.losses.counted(loss)
    }

    /// A request without a body that the client has; its id there.
    fn asked(&mut self, number: u64) -> Value {
        let frames = self.say(Message::HttpRequest(request(number, "/", true)));
        frames[0]["@id"].clone()
    }

    /// A WebSocket of which both ends are there; its id there.
    fn joined(&mut self, number: u64) -> Value {
        let id = self.say(Message::WsRequest(request(number, "/ws", true)))[0]["@id"].clone();
        let arrivals = self.hear(document("ws-response", &id, json!({ "ok": true })));
        assert!(
            matches!(&arrivals[..], [Message::WsResponse(head)] if head.status == 101 && !head.end),
            "{arrivals:?}"
        );
        id
    }
}

fn document(kind: &str, id: &Value, members: Value) -> Value {
    let mut document = members;
    document["@type"] = json!(format!("https://proxy.brickchain.com/v1/{kind}.json"));
    document["@id"] = id.clone();
    document
}

fn answer(id: &Value, body: &[u8]) -> Value {
    let members =
        json!({ "status": 200, "headers": {}, "contentType": "a/b", "body": STANDARD.encode(body) });
    document("http-response", id, members)
}

fn request(number: u64, target: &'static str, end: bool) -> Box<RequestStart> {
    Box::new(RequestStart {
        id: number,
        tunnel: None,
        exchange: 0x0123_4567_89ab_cdef,
        method: Method::GET,
        secure: false,
        authority: "x.example".into(),
        target: http::uri::PathAndQuery::from_static(target),
        headers: HeaderMap::new(),
        visitor: None,
        tls: None,
        notes: Notes::default(),
        body: Bytes::new(),
        end,
    })
}

fn part(id: u64, data: Vec<u8>, end: bool) -> Message {
    Message::Body(BodyPart { id, data: data.into(), end, trailers: None })
}

fn ws(id: u64, kind: WsKind, data: impl Into<Bytes>, end: bool) -> Message {
    Message::WsMessage(WsPart { id, kind, data: data.into(), end })
}

fn credit(arrivals: &[Message]) -> u64 {
    let granted = arrivals.iter().map(|message| match message {
        Message::Credit { bytes, .. } => u64::from(*bytes),
        other => panic!("{other:?} in place of credit"),
    });
    granted.sum()
}

#[test]
fn a_request_goes_out_whole_and_its_answer_comes_back() {
    let mut dialogue = Dialogue::new();
    let mut start = request(7, "/a%20b?q=%2F", false);
    start.method = Method::POST;
    start.headers.append("x-a", "1".parse().unwrap());
    start.headers.append("x-a", "2".parse().unwrap());
    start.body = "hel".into();
    assert!(dialogue.say(Message::HttpRequest(start)).is_empty(), "it isn't all here");
    assert_eq!(credit(&dialogue.arrivals()), 256);
    let frames = dialogue.say(part(7, b"lo".to_vec(), true));
    let [frame] = &frames[..] else { panic!("{frames:?}") };
    let expected = json!({
        "@type": "https://proxy.brickchain.com/v1/http-request.json",
        "@timestamp": "1970-01-01T00:00:00Z", "@id": "01234567-89ab-8cde-bc00-000000000007",
        "url": "/a b", "query": "q=%2F", "headers": { "X-A": "1, 2" }, "method": "POST", "body": "aGVsbG8=",
    });
    assert_eq!(*frame, expected);

    let arrivals = dialogue.hear(answer(&frame["@id"], b"hi"));
    let [Message::HttpResponse(response)] = &arrivals[..] else { panic!("{arrivals:?}") };
    assert_eq!((response.id, &response.body[..], response.end), (7, &b"hi"[..], true));
    assert_eq!(
        (&response.headers["content-type"], &response.headers["content-length"]),
        (&"a/b".parse().unwrap(), &"2".parse().unwrap())
    );
    assert!(dialogue.0.exchanges.is_empty() && dialogue.0.numbers.is_empty());
    assert!(dialogue.hear(answer(&frame["@id"], b"again")).is_empty());
}

#[test]
fn a_body_of_500_kb_passes_by_credit_given_here_and_a_larger_one_is_refused() {
    for (size, passes) in [(v1::MAX_BODY, true), (v1::MAX_BODY + 1, false)] {
        let mut dialogue = Dialogue::new();
        dialogue.say(Message::HttpRequest(request(1, "/", false)));
        let mut credit_left = u64::from(INITIAL_WINDOW);
        let mut left = size;
        let mut frames = Vec::new();
        let refused = loop {
            let piece = left.min(MAX_PART).min(usize::try_from(credit_left).unwrap());
            assert!(piece > 0, "the upload waits for credit with {left} bytes to go");
            left -= piece;
            credit_left -= u64::from(wire::cost(piece));
            frames.extend(dialogue.say(part(1, vec![7; piece], left == 0)));
            let arrivals = dialogue.arrivals();
            if let Some(Message::Cancel { code, detail, .. }) = arrivals.first() {
                assert!(*code == CancelCode::RequestTooLarge && detail.contains("500 kB"), "{detail}");
                break true;
            }
            credit_left += credit(&arrivals);
            if left == 0 {
                break false;
            }
        };
        assert_eq!((refused, frames.len()), (!passes, usize::from(passes)), "{size}");
        assert_eq!(dialogue.losses(Loss::LargeBody), u64::from(!passes));
        if passes {
            assert_eq!(STANDARD.decode(frames[0]["body"].as_str().unwrap()).unwrap().len(), size);
        }
        assert!(dialogue.say(part(1, vec![7], true)).is_empty(), "what was under way is dropped");
    }
}

#[test]
fn a_length_that_is_too_large_is_refused_before_the_body_comes() {
    let mut dialogue = Dialogue::new();
    let mut start = request(1, "/", false);
    start.headers.insert(header::CONTENT_LENGTH, "500001".parse().unwrap());
    dialogue.say(Message::HttpRequest(start));
    let arrivals = dialogue.arrivals();
    assert!(
        matches!(&arrivals[..], [Message::Cancel { code: CancelCode::RequestTooLarge, .. }]),
        "{arrivals:?}"
    );
}

#[test]
fn a_body_that_waits_for_100_continue_is_asked_for() {
    let mut dialogue = Dialogue::new();
    let mut start = request(1, "/", false);
    start.headers.insert(header::EXPECT, "100-continue".parse().unwrap());
    dialogue.say(Message::HttpRequest(start));
    let arrivals = dialogue.arrivals();
    assert!(matches!(&arrivals[..], [Message::HttpResponse(head)] if head.status == 100), "{arrivals:?}");
    let frames = dialogue.say(part(1, b"x".to_vec(), true));
    assert_eq!(frames[0]["headers"], json!({}), "nobody waits any more");
}

#[test]
fn an_answer_waits_for_the_visitor_s_credit() {
    let mut dialogue = Dialogue::new();
    let id = dialogue.asked(1);
    let body: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let arrivals = dialogue.hear(answer(&id, &body));
    let [Message::HttpResponse(head)] = &arrivals[..] else { panic!("{arrivals:?}") };
    assert!(!head.end);
    let mut got = head.body.to_vec();
    let mut ended = false;
    while !ended {
        dialogue.say(Message::Credit { id: 1, bytes: 32_768 });
        let mut cost = 0;
        for message in dialogue.arrivals() {
            let Message::Body(part) = message else { panic!("{message:?}") };
            cost += wire::cost(part.data.len());
            got.extend_from_slice(&part.data);
            ended = part.end;
        }
        assert!(cost <= 32_768 || ended);
    }
    assert!(got == body);
    assert_eq!((dialogue.0.held, dialogue.0.exchanges.len()), (0, 0));
}

#[test]
fn answers_to_head_and_without_content_keep_their_headers_and_have_no_body() {
    let mut dialogue = Dialogue::new();
    let mut start = request(1, "/", true);
    start.method = Method::HEAD;
    let id = dialogue.say(Message::HttpRequest(start))[0]["@id"].clone();
    let members = json!({ "status": 200, "headers": { "Content-Length": "10" }, "body": "eHg=" });
    let arrivals = dialogue.hear(document("http-response", &id, members));
    let [Message::HttpResponse(head)] = &arrivals[..] else { panic!("{arrivals:?}") };
    assert_eq!(
        (&head.headers["content-length"], head.body.len(), head.end),
        (&"10".parse().unwrap(), 0, true)
    );
}

#[test]
fn what_a_client_unpacked_has_the_length_that_it_has_now() {
    let mut dialogue = Dialogue::new();
    let id = dialogue.asked(1);
    let headers = json!({ "Content-Length": "999", "Transfer-Encoding": "chunked" });
    let arrivals = dialogue.hear(document(
        "http-response",
        &id,
        json!({ "status": 200, "headers": headers, "body": "eHg=" }),
    ));
    let [Message::HttpResponse(head)] = &arrivals[..] else { panic!("{arrivals:?}") };
    assert_eq!(head.headers["content-length"], "2");
    assert!(!head.headers.contains_key("transfer-encoding"));
}

#[test]
fn an_answer_that_cannot_be_used_fails_its_exchange_alone() {
    let mut dialogue = Dialogue::new();
    let (one, two) = (dialogue.asked(1), dialogue.asked(2));
    let arrivals = dialogue.hear(document("http-response", &one, json!({ "status": 200, "body": "%" })));
    assert!(
        matches!(&arrivals[..], [Message::Cancel { id: 1, code: CancelCode::ProtocolBroken, .. }]),
        "{arrivals:?}"
    );
    assert_eq!(dialogue.losses(Loss::Unusable), 1);
    assert_eq!(dialogue.hear(answer(&two, b"")).len(), 1);
    assert!(matches!(dialogue.0.receive("no JSON", NOW), Err(Ended::NotADocument(_))));
}

#[test]
fn a_visitor_who_leaves_is_counted_once_the_client_has_the_request() {
    let cancel = |id| Message::Cancel { id, code: CancelCode::Gone, detail: String::new() };
    let mut dialogue = Dialogue::new();
    dialogue.say(Message::HttpRequest(request(1, "/", false)));
    dialogue.say(cancel(1));
    assert_eq!(dialogue.losses(Loss::Cancel), 0, "the client never heard of it");
    let id = dialogue.asked(2);
    assert!(dialogue.say(cancel(2)).is_empty());
    assert_eq!(dialogue.losses(Loss::Cancel), 1);
    assert!(dialogue.hear(answer(&id, b"late")).is_empty());
    let id = dialogue.joined(3);
    let frames = dialogue.say(cancel(3));
    assert_eq!((&frames[0]["@id"], frames.len()), (&id, 1));
    assert!(frames[0]["@type"].as_str().unwrap().ends_with("/ws-teardown.json"));
    assert!(dialogue.0.exchanges.is_empty() && dialogue.0.numbers.is_empty());
}

#[test]
fn what_has_no_place_in_a_request_is_counted() {
    let mut dialogue = Dialogue::new();
    let mut start = request(1, "/a%2Fb", false);
    start.headers.append(header::USER_AGENT, "one".parse().unwrap());
    start.headers.append(header::USER_AGENT, "two".parse().unwrap());
    start.notes.set("user".into(), "x".into()).unwrap();
    dialogue.say(Message::HttpRequest(start));
    let trailers = Some(HeaderMap::from_iter([(header::ETAG, "x".parse().unwrap())]));
    dialogue.say(Message::Body(BodyPart { id: 1, data: Bytes::new(), end: true, trailers }));
    for loss in [Loss::Path, Loss::Header, Loss::Notes, Loss::Trailers] {
        assert_eq!(dialogue.losses(loss), 1, "{loss:?}");
    }
}

#[test]
fn text_messages_pass_whole_and_in_order_both_ways() {
    let mut dialogue = Dialogue::new();
    let id = dialogue.joined(1);
    assert!(dialogue.say(ws(1, WsKind::Text, "hel", false)).is_empty());
    let frames = dialogue.say(ws(1, WsKind::Text, "lo", true));
    assert_eq!((&frames[0]["body"], &frames[0]["messageType"]), (&json!("hello"), &json!(1)));
    assert_eq!(credit(&dialogue.arrivals()), 512);
    let long = "å".repeat(100_000);
    let arrivals = dialogue.hear(document("ws-message", &id, json!({ "messageType": 1, "body": long })));
    let mut got = Vec::new();
    for message in &arrivals {
        let Message::WsMessage(part) = message else { panic!("{message:?}") };
        got.extend_from_slice(&part.data);
    }
    assert_eq!(got.len(), INITIAL_WINDOW as usize, "as much as there is credit for");
    assert!(
        dialogue.hear(document("ws-message", &id, json!({ "messageType": 1, "body": "next" }))).is_empty()
    );
    dialogue.say(Message::Credit { id: 1, bytes: 1 << 20 });
    let mut ends = Vec::new();
    for message in dialogue.arrivals() {
        let Message::WsMessage(part) = message else { panic!("{message:?}") };
        got.extend_from_slice(&part.data);
        ends.extend(part.end.then_some(got.len()));
    }
    assert_eq!(ends, [200_000, 200_004]);
    assert!(got.starts_with(long.as_bytes()) && got.ends_with(b"next"));
}

#[test]
fn binary_messages_close_the_websocket_at_both_ends() {
    let mut dialogue = Dialogue::new();
    let id = dialogue.joined(1);
    let frames = dialogue.say(ws(1, WsKind::Binary, "x", true));
    assert_eq!((&frames[0]["@id"], frames.len()), (&id, 1));
    let arrivals = dialogue.arrivals();
    assert!(matches!(&arrivals[..], [Message::WsTeardown { id: 1, code: 1003, .. }]), "{arrivals:?}");
    assert!(
        dialogue.hear(document("ws-message", &id, json!({ "messageType": 1, "body": "late" }))).is_empty()
    );
    let closed = Message::WsTeardown { id: 1, code: 1003, reason: String::new() };
    assert!(dialogue.say(closed).is_empty() && dialogue.arrivals().is_empty());
    assert_eq!((dialogue.losses(Loss::Binary), dialogue.0.exchanges.len()), (1, 0));

    let id = dialogue.joined(2);
    let text = dialogue.hear(document("ws-message", &id, json!({ "messageType": 2, "body": "plain" })));
    assert!(matches!(&text[..], [Message::WsMessage(part)] if part.kind == WsKind::Binary), "{text:?}");
    let spoilt = dialogue.hear(document("ws-message", &id, json!({ "messageType": 2, "body": "\u{fffd}" })));
    assert!(matches!(&spoilt[..], [Message::WsTeardown { code: 1003, .. }]), "{spoilt:?}");
}

#[test]
fn a_visitor_s_ping_is_answered_here() {
    let mut dialogue = Dialogue::new();
    dialogue.joined(1);
    assert!(dialogue.say(ws(1, WsKind::Ping, "p", true)).is_empty());
    let arrivals = dialogue.arrivals();
    assert!(
        matches!(&arrivals[0], Message::WsMessage(part) if part.kind == WsKind::Pong && part.data == "p"),
        "{arrivals:?}"
    );
    assert_eq!(credit(&arrivals[1..]), 256);
    dialogue.say(ws(1, WsKind::Pong, "p", true));
    assert_eq!(credit(&dialogue.arrivals()), 256);
}

#[test]
fn either_end_closes_a_websocket_and_the_other_hears_it_once() {
    let mut dialogue = Dialogue::new();
    let closed = |id, code| Message::WsTeardown { id, code, reason: "bye".into() };
    let id = dialogue.joined(1);
    let frames = dialogue.say(closed(1, 4000));
    assert_eq!((&frames[0]["@id"], frames.len()), (&id, 1));
    let arrivals = dialogue.arrivals();
    assert!(matches!(&arrivals[..], [Message::WsTeardown { id: 1, code: 4000, .. }]), "{arrivals:?}");
    assert!(dialogue.hear(document("ws-teardown", &id, json!({}))).is_empty());
    assert_eq!(dialogue.losses(Loss::CloseCode), 1);

    let id = dialogue.joined(2);
    let arrivals = dialogue.hear(document("ws-teardown", &id, json!({})));
    assert!(matches!(&arrivals[..], [Message::WsTeardown { id: 2, code: 1005, .. }]), "{arrivals:?}");
    assert!(dialogue.say(closed(2, 1005)).is_empty() && dialogue.arrivals().is_empty());
    assert!(dialogue.0.exchanges.is_empty() && dialogue.0.numbers.is_empty());
}

#[test]
fn a_service_that_takes_no_websocket_is_a_failure_without_its_words() {
    let mut dialogue = Dialogue::new();
    let mut start = request(1, "/ws", true);
    start.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, "chat".parse().unwrap());
    let wish = dialogue.say(Message::WsRequest(start.clone()));
    assert_eq!(wish[0]["headers"], json!({ "Sec-Websocket-Protocol": "chat" }));
    assert!(
        wish[0].get("method").is_none() && wish[0].get("body").is_none() && wish[0].get("query").is_none()
    );
    let refused = json!({ "ok": false, "error": "dial tcp 10.0.0.7:80: refused" });
    let arrivals = dialogue.hear(document("ws-response", &wish[0]["@id"], refused));
    let [Message::Cancel { code: CancelCode::OriginFailed, detail, .. }] = &arrivals[..] else {
        panic!("{arrivals:?}")
    };
    assert!(!detail.contains("10.0.0.7"));

    start.id = 2;
    let id = dialogue.say(Message::WsRequest(start))[0]["@id"].clone();
    dialogue.say(Message::Cancel { id: 2, code: CancelCode::Gone, detail: String::new() });
    dialogue.hear(document("ws-response", &id, json!({ "ok": true })));
    assert_eq!(dialogue.frames()[0]["@id"], id, "nobody waits for it any more");
}

#[test]
fn a_client_that_cannot_be_told_to_go_takes_its_leave() {
    let go_away = Message::GoAway { grace: std::time::Duration::from_secs(1) };
    let mut idle = Dialogue::new();
    assert!(idle.say(go_away.clone()).is_empty());
    assert!(matches!(&idle.arrivals()[..], [Message::Disconnect]));
    assert!(idle.0.draining);

    // One that is busy goes on, for want of another, until it isn't any more.
    let mut busy = Dialogue::new();
    let (one, two) = (busy.asked(1), busy.joined(2));
    busy.say(go_away);
    assert!(busy.arrivals().is_empty());
    assert_eq!(busy.hear(answer(&one, b"")).len(), 1);
    let three = busy.asked(3);
    busy.hear(document("ws-teardown", &two, json!({})));
    busy.say(Message::WsTeardown { id: 2, code: 1005, reason: String::new() });
    let arrivals = busy.hear(answer(&three, b""));
    assert!(matches!(&arrivals[..], [Message::HttpResponse(_), Message::Disconnect]), "{arrivals:?}");
}

#[test]
fn registrations_go_past_the_session_and_pings_are_the_websocket_s() {
    let mut dialogue = Dialogue::new();
    assert_eq!(dialogue.say(Message::Ping), [json!("ping")]);
    let wish = document("registration-request", &json!("r"), json!({ "mandateToken": "t", "session": "" }));
    assert!(dialogue.hear(wish).is_empty());
    let expected = RegistrationRequest { id: "r".into(), mandate_token: "t".into(), session: None };
    assert_eq!(dialogue.0.registration(), Some(expected));
    let bad = document("registration-request", &json!("r"), json!({})).to_string();
    assert!(
        matches!(dialogue.0.receive(&bad, NOW), Err(Ended::Refused(text)) if text.contains("mandateToken"))
    );
}

#[test]
fn small_answers_pass_when_slow_visitors_hold_as_much_as_allowed() {
    let mut dialogue = Dialogue::new();
    let body = vec![7; v1::MAX_BODY];
    let mut failed = 0;
    for number in 1..=200 {
        let id = dialogue.asked(number);
        let arrivals = dialogue.hear(answer(&id, &body));
        failed += arrivals
            .iter()
            .filter(|message| matches!(message, Message::Cancel { code: CancelCode::TooManyExchanges, .. }))
            .count();
    }
    assert_eq!(failed, 200 - MOST_HELD / (v1::MAX_BODY - MAX_PART));
    assert!(dialogue.0.held <= MOST_HELD);
    let id = dialogue.asked(201);
    let arrivals = dialogue.hear(answer(&id, &body[..MAX_PART]));
    assert!(matches!(&arrivals[..], [Message::HttpResponse(head)] if head.end), "{arrivals:?}");
}

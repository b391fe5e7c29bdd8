//! The plugin against a fake host.

use std::time::Duration;

use guest_sdk::testing::{Delivered, Host, Socket, get};

use super::*;

fn open(host: &Host, config: &str) -> Socket<WsGuard> {
    host.load::<WsGuard>(config).websocket(get("/chat"))
}

fn closed(delivered: Delivered) -> String {
    let (code, reason) = delivered.closed.expect("the connection should have been closed");
    assert_eq!(code, POLICY);
    reason
}

#[test]
fn a_message_with_the_right_fields_goes_on_as_it_came() {
    let mut socket = open(&Host::new(), "required = { type = 'text', n = 'number' }");
    let message = r#"{ "n": 1.50, "type": "move" }"#;
    assert_eq!(socket.visitor_sends(message).to_origin, [Message::from(message)]);
    // What the service sends isn't looked at.
    assert_eq!(socket.origin_sends("no JSON").to_visitor, [Message::from("no JSON")]);
}

#[test]
fn a_message_without_them_closes_the_connection() {
    let host = Host::new();
    for (message, reason) in [
        ("hello", "a message has to be a JSON object"),
        ("[1]", "a message has to be a JSON object"),
        (r#"{"n": 1}"#, "the field \"type\" has to be a text"),
        (r#"{"n": 1, "type": 2}"#, "the field \"type\" has to be a text"),
    ] {
        let mut socket = open(&host, "required = { type = 'text', n = 'number' }");
        assert_eq!(closed(socket.visitor_sends(message)), reason);
    }
    assert_eq!(closed(open(&host, "").visitor_sends(vec![0])), "only text messages are allowed here");
    assert_eq!(host.metric("ws_closed", &[]), 5.0);
}

#[test]
fn a_connection_has_a_rate() {
    let host = Host::new();
    let mut socket = open(&host, "rate = { messages = 2, seconds = 1 }");
    for _ in 0..2 {
        assert_eq!(socket.visitor_sends("{}").closed, None);
    }
    host.advance(Duration::from_millis(500));
    assert_eq!(socket.visitor_sends("{}").closed, None);
    assert_eq!(closed(socket.visitor_sends("{}")), "too many messages");
    // Another connection has its own.
    assert_eq!(open(&host, "rate = { messages = 2, seconds = 1 }").visitor_sends("{}").closed, None);
}

#[test]
fn forbidden_words_are_replaced_or_close() {
    let message = r#"{"text":["Ä DAMN thing"],"damn":1}"#;
    let delivered = open(&Host::new(), "forbidden = ['damn']").visitor_sends(message);
    assert_eq!(delivered.to_origin, [Message::from(r#"{"damn":1,"text":["Ä *** thing"]}"#)]);
    let mut strict = open(&Host::new(), "forbidden = ['damn']\non_forbidden = 'close'");
    assert_eq!(closed(strict.visitor_sends(message)), "a word in this message is not allowed here");
}

#[test]
fn fields_of_the_service_are_blanked() {
    let mut socket = open(&Host::new(), "redact = ['email']");
    let delivered = socket.origin_sends(r#"{"users":[{"email":"a@example.com","name":"a"}]}"#);
    assert_eq!(delivered.to_visitor, [Message::from(r#"{"users":[{"email":"***","name":"a"}]}"#)]);
    assert_eq!(socket.origin_sends("[ 1 ]").to_visitor, [Message::from("[ 1 ]")]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fault =
        |config: &str| Host::new().try_load::<WsGuard>(config).err().expect("it is wrong").to_string();
    assert_eq!(
        fault("rate = { messages = 0, seconds = 1 }"),
        "rate: `messages` and `seconds` are at least 1"
    );
    assert!(fault("required = { a = 'string' }").starts_with("config: unknown variant `string`"));
}

#[test]
fn binary_messages_may_pass_but_count() {
    let mut socket = open(&Host::new(), "binary = 'pass'");
    assert_eq!(socket.visitor_sends(vec![0, 255]).to_origin, [Message::from(vec![0, 255])]);
    let mut socket = open(&Host::new(), "binary = 'pass'\nrate = { messages = 1, seconds = 1 }");
    assert_eq!(socket.visitor_sends(vec![0]).closed, None);
    assert_eq!(closed(socket.visitor_sends(vec![0])), "too many messages");
}

#[test]
fn words_are_found_in_whatever_case_and_script() {
    let mut socket = open(&Host::new(), "forbidden = ['ärger']");
    let delivered = socket.visitor_sends(r#"{"text":"İ ÄRGER, \u00c4rger"}"#);
    assert_eq!(delivered.to_origin, [Message::from(r#"{"text":"İ ***, ***"}"#)]);
}

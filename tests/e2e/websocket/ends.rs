//! How a WebSocket ends, and that the far end hears why.

use crate::harness::{Frame, Opcode, Origin, Setup, Tunnel, websocket};

/// Codes that a frame may carry (RFC 6455 section 7.4): registered, for libraries, for applications.
const CODES: [(u16, &str); 6] = [
    (1000, ""),
    (1001, "going away"),
    (1008, "not like this"),
    (1011, "\u{e9}"),
    (3000, "library"),
    (4999, "own"),
];

#[tokio::test]
async fn codes_and_reasons_pass_from_visitor_to_origin() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    for (code, reason) in CODES {
        let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
        visitor.send(Frame::close(code, reason)).await;
        assert_eq!(answers.next().await, Frame::close(code, reason));
        answers.send(Frame::close(code, reason)).await;
        assert_eq!(visitor.next().await.opcode, Opcode::Close);
        visitor.ended().await;
        answers.ended().await;
    }
}

#[tokio::test]
async fn codes_and_reasons_pass_from_origin_to_visitor() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    for (code, reason) in CODES {
        let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
        answers.send(Frame::close(code, reason)).await;
        assert_eq!(visitor.next().await, Frame::close(code, reason));
        visitor.send(Frame::close(code, reason)).await;
        assert_eq!(answers.next().await.opcode, Opcode::Close);
        // RFC 6455 section 7.1.1: the server closes the connection first.
        visitor.ended().await;
    }
}

#[tokio::test]
async fn messages_before_the_close_are_not_lost() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
    for number in 0..100 {
        answers.send(Frame::whole(Opcode::Text, number.to_string())).await;
    }
    answers.send(Frame::close(1000, "done")).await;
    for number in 0..100 {
        assert_eq!(visitor.message().await, Frame::whole(Opcode::Text, number.to_string()));
    }
    assert_eq!(visitor.next().await, Frame::close(1000, "done"));
}

#[tokio::test]
async fn the_answer_to_a_close_is_the_far_ends_own() {
    // Until the far end has answered, it may still send (RFC 6455 section 5.5.1).
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
    visitor.send(Frame::close(4001, "bye")).await;
    assert_eq!(answers.next().await, Frame::close(4001, "bye"));
    answers.send(Frame::whole(Opcode::Text, "last words")).await;
    answers.send(Frame::close(4002, "so be it")).await;
    assert_eq!(visitor.next().await, Frame::whole(Opcode::Text, "last words"));
    assert_eq!(visitor.next().await, Frame::close(4002, "so be it"));
}

#[tokio::test]
async fn a_close_without_a_code_stays_without() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
    visitor.send(Frame::whole(Opcode::Close, "")).await;
    assert_eq!(answers.next().await, Frame::whole(Opcode::Close, ""));
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
    answers.send(Frame::whole(Opcode::Close, "")).await;
    assert_eq!(visitor.next().await, Frame::whole(Opcode::Close, ""));
}

#[tokio::test]
async fn an_end_that_drops_off_takes_the_other_with_it() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let (visitor, answers) = websocket::open(&tunnel, &origin, "/").await;
    drop(visitor);
    gone_without_a_good_bye(answers).await;
    let (visitor, answers) = websocket::open(&tunnel, &origin, "/").await;
    drop(answers);
    gone_without_a_good_bye(visitor).await;
}

/// The connection ends, at most with a code that says so; never as if the far end had said good-bye.
async fn gone_without_a_good_bye(end: crate::harness::Frames) {
    let left = end.into_wire().closed().await;
    for polite in [1000_u16, 1001] {
        assert!(!left.windows(2).any(|pair| pair == polite.to_be_bytes()), "{left:?}");
    }
}

#[tokio::test]
async fn a_frame_that_breaks_the_rules_ends_with_1002() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let (visitor, answers) = websocket::open(&tunnel, &origin, "/").await;
    let mut wire = visitor.into_wire();
    // Not masked (RFC 6455 section 5.1).
    wire.send(b"\x81\x02hi").await;
    let mut visitor = crate::harness::Frames::of_visitor(wire);
    assert_eq!(visitor.next().await.code(), Some(1002));
    drop(answers);

    let (mut visitor, _answers) = websocket::open(&tunnel, &origin, "/").await;
    visitor.send(Frame::whole(Opcode::Continuation, "of nothing")).await;
    assert_eq!(visitor.next().await.code(), Some(1002));
}

#[tokio::test]
async fn text_that_is_not_utf_8_ends_with_1007() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let (mut visitor, _answers) = websocket::open(&tunnel, &origin, "/").await;
    visitor.send(Frame::whole(Opcode::Text, [b'a', 0xff])).await;
    assert_eq!(visitor.next().await.code(), Some(1007));
}

#[tokio::test]
async fn a_lost_session_closes_its_websockets_at_both_ends() {
    let origin = Origin::start().await;
    let mut tunnel = Tunnel::to(&origin.url()).await;
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
    tunnel.client.process.kill().await;
    let close = visitor.next().await;
    assert_eq!(close.code(), Some(1012), "{close:?}");
    answers.ended().await;

    tunnel.client = crate::harness::Client::start(&tunnel.proxy.url(), &origin.url(), &tunnel.key, &[]).await;
    let (_visitor, answers) = websocket::open(&tunnel, &origin, "/").await;
    tunnel.proxy.process.kill().await;
    gone_without_a_good_bye(answers).await;
}

#[tokio::test]
async fn a_draining_proxy_tells_its_websockets_to_come_back() {
    let origin = Origin::start().await;
    let mut tunnel = Setup::new().proxy(&["--grace-period", "300ms"]).start(&origin.url()).await;
    let (mut visitor, _answers) = websocket::open(&tunnel, &origin, "/").await;
    let exit = tunnel.proxy.process.stop();
    let close = visitor.next();
    let (exit, close) = tokio::join!(exit, close);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(matches!(close.code(), Some(1001 | 1012)), "{close:?}");
}

//! What crosses an open WebSocket: every message as it was, once, in order.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Frame, Opcode, Origin, Setup, Tunnel, websocket, within};

#[tokio::test]
async fn messages_pass_to_the_last_byte_both_ways() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
    let every_byte: Vec<u8> = (0..=255).collect();
    for message in [
        Frame::whole(Opcode::Text, "hello, \u{1f980} \u{0} \u{feff}"),
        Frame::whole(Opcode::Binary, every_byte),
        Frame::whole(Opcode::Text, ""),
        Frame::whole(Opcode::Binary, ""),
        Frame::whole(Opcode::Binary, vec![b'a'; 125]),
        Frame::whole(Opcode::Binary, vec![b'b'; 126]),
        Frame::whole(Opcode::Text, "x".repeat(65_535)),
        Frame::whole(Opcode::Text, "\u{e9}".repeat(40_000)),
        Frame::whole(Opcode::Binary, vec![0xff; 65_537]),
    ] {
        visitor.send(message.clone()).await;
        assert_eq!(answers.message().await, message);
        answers.send(message.clone()).await;
        assert_eq!(visitor.message().await, message);
    }
}

#[tokio::test]
async fn fragments_make_one_message() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
    // Cut inside a character of three bytes, with an empty fragment.
    let parts: [&[u8]; 5] = [b"price: ", b"\xe2\x82", b"", b"\xac", b" 5"];
    visitor.send_fragments(Opcode::Text, &parts).await;
    assert_eq!(answers.message().await, Frame::whole(Opcode::Text, "price: \u{20ac} 5"));
    answers.send_fragments(Opcode::Binary, &[&[0; 70_000], b"", &[1; 3]]).await;
    assert_eq!(visitor.message().await, Frame::whole(Opcode::Binary, [vec![0; 70_000], vec![1; 3]].concat()));
    // RFC 6455 section 5.4: control frames may come between fragments.
    visitor.send(Frame { opcode: Opcode::Text, last: false, payload: b"a".into() }).await;
    visitor.send(Frame::whole(Opcode::Ping, "between")).await;
    visitor.send(Frame { opcode: Opcode::Continuation, last: true, payload: b"b".into() }).await;
    let (first, second) = (answers.message().await, answers.message().await);
    assert!([&first, &second].contains(&&Frame::whole(Opcode::Ping, "between")), "{first:?} {second:?}");
    assert!([&first, &second].contains(&&Frame::whole(Opcode::Text, "ab")), "{first:?} {second:?}");
}

#[tokio::test]
async fn a_ping_is_answered_by_the_far_end_alone_and_once() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
    visitor.send(Frame::whole(Opcode::Ping, "are you there")).await;
    assert_eq!(answers.next().await, Frame::whole(Opcode::Ping, "are you there"));
    // The origin takes its time; whoever answers for it on the way is found out here.
    answers.send(Frame::whole(Opcode::Text, "first this")).await;
    assert_eq!(visitor.next().await, Frame::whole(Opcode::Text, "first this"));
    answers.send(Frame::whole(Opcode::Pong, "are you there")).await;
    answers.send(Frame::whole(Opcode::Text, "then that")).await;
    assert_eq!(visitor.next().await, Frame::whole(Opcode::Pong, "are you there"));
    assert_eq!(visitor.next().await, Frame::whole(Opcode::Text, "then that"));

    answers.send(Frame::whole(Opcode::Ping, vec![0xff; 125])).await;
    assert_eq!(visitor.next().await, Frame::whole(Opcode::Ping, vec![0xff; 125]));
    visitor.send(Frame::whole(Opcode::Text, "first this")).await;
    assert_eq!(answers.next().await, Frame::whole(Opcode::Text, "first this"));
    visitor.send(Frame::whole(Opcode::Pong, vec![0xff; 125])).await;
    visitor.send(Frame::whole(Opcode::Pong, "unasked")).await;
    visitor.send(Frame::whole(Opcode::Ping, "")).await;
    assert_eq!(answers.next().await, Frame::whole(Opcode::Pong, vec![0xff; 125]));
    assert_eq!(answers.next().await, Frame::whole(Opcode::Pong, "unasked"));
    assert_eq!(answers.next().await, Frame::whole(Opcode::Ping, ""));
}

#[tokio::test]
async fn large_messages_pass_up_to_the_limit() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    for size in [1 << 20, 16 << 20] {
        let (mut visitor, mut answers) = websocket::open_sockets(&tunnel, &origin, "/").await;
        let message = Message::binary((0..size).map(|at: usize| (at / 251) as u8).collect::<Vec<u8>>());
        let there = async {
            visitor.send(message.clone()).await.expect("taken");
            visitor.next().await.expect("a message").expect("well-formed")
        };
        let back = async {
            let got = answers.next().await.expect("a message").expect("well-formed");
            answers.send(got).await.expect("taken");
            // Goes on reading, as the other side does.
            answers.next().await
        };
        let echoed = within("a large message to come back", async {
            tokio::select! {
                echoed = there => echoed,
                _ = back => panic!("the origin's end broke off"),
            }
        });
        assert!(echoed.await == message, "{size} bytes came back changed");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_ends_with_1009() {
    let origin = Origin::start().await;
    let setup = Setup::new().proxy(&["--max-websocket-message", "64KiB"]);
    let tunnel = setup.client_file("max_websocket_message = '64KiB'").start(&origin.url()).await;
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
    visitor.send(Frame::whole(Opcode::Binary, vec![1; 65_536])).await;
    assert_eq!(answers.message().await.payload.len(), 65_536);
    visitor.send(Frame::whole(Opcode::Binary, vec![1; 65_537])).await;
    assert_eq!(visitor.next().await.code(), Some(1009));
    let end = answers.next().await;
    assert_eq!(end.opcode, Opcode::Close, "the origin learns that it is over: {end:?}");

    // From the other side, and in fragments, none of which is over the limit.
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
    answers.send_fragments(Opcode::Text, &[&[b'a'; 40_000], &[b'b'; 40_000]]).await;
    assert_eq!(answers.next().await.code(), Some(1009));
    assert_eq!(visitor.next().await.opcode, Opcode::Close);
}

#[tokio::test]
async fn ten_thousand_messages_keep_their_order() {
    const COUNT: u32 = 10_000;
    let origin = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--rate", "off"]).start(&origin.url()).await;
    let (visitor, answers) = websocket::open_sockets(&tunnel, &origin, "/").await;
    let message = |number: u32| match number % 2 {
        0 => Message::text(number.to_string()),
        _ => Message::binary(number.to_le_bytes().to_vec()),
    };
    let (mut visitor_out, mut visitor_in) = visitor.split();
    let (mut origin_out, mut origin_in) = answers.split();
    within("ten thousand messages", async {
        tokio::join!(
            async {
                for number in 0..COUNT {
                    visitor_out.send(message(number)).await.expect("taken");
                }
            },
            async {
                for number in 0..COUNT {
                    let got = origin_in.next().await.expect("a message").expect("well-formed");
                    assert_eq!(got, message(number));
                    origin_out.send(got).await.expect("taken");
                }
            },
            async {
                for number in 0..COUNT {
                    let got = visitor_in.next().await.expect("a message").expect("well-formed");
                    assert_eq!(got, message(number));
                }
            },
        )
    })
    .await;
}

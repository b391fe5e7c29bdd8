//! The session's socket against the WebSockets of another library.

use tokio_tungstenite::tungstenite::{
    Message as Frame,
    protocol::{
        CloseFrame,
        frame::{
            Frame as RawFrame,
            coding::{CloseCode, Data, OpCode},
        },
    },
};

use super::*;

/// The code of the close frame that comes next, whatever is before it.
async fn close_code(client: &mut BareSocket) -> Option<u16> {
    loop {
        match client.next().await? {
            Ok(Frame::Close(frame)) => return frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_of_websockets_is_answered_and_is_a_sign_of_life() {
    let (handle, mut client) = with_bare_client().await;
    for payload in [&b""[..], b"still there?"] {
        client.send(Frame::Ping(Bytes::copy_from_slice(payload))).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Frame::Pong(Bytes::copy_from_slice(payload)));
    }
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_message_may_come_in_fragments() {
    let (handle, mut client) = with_bare_client().await;
    let answer = tokio::spawn({
        let handle = handle.clone();
        async move { handle.forward(get(Body::empty())).await.map(http) }
    });
    client.next().await.unwrap().unwrap();
    let response = ResponseStart {
        id: 1,
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"whole"),
        end: true,
    };
    let mut encoded = Message::HttpResponse(Box::new(response)).encode();
    let first = encoded.split_to(5);
    client.send(Frame::Frame(RawFrame::message(first, OpCode::Data(Data::Binary), false))).await.unwrap();
    client.send(Frame::Ping(Bytes::new())).await.unwrap();
    client.send(Frame::Frame(RawFrame::message(encoded, OpCode::Data(Data::Continue), true))).await.unwrap();
    let body = answer.await.unwrap().unwrap().body.collect().await.unwrap().to_bytes();
    assert_eq!(body, "whole");
}

#[tokio::test(start_paused = true)]
async fn who_breaks_the_rules_of_websocket_is_told_so() {
    let (handle, mut client) = with_bare_client().await;
    // A continuation of nothing.
    let frame = RawFrame::message(Bytes::from_static(b"x"), OpCode::Data(Data::Continue), true);
    client.send(Frame::Frame(frame)).await.unwrap();
    assert_eq!(close_code(&mut client).await, Some(1002));
    let ended = handle.ended().await;
    assert!(matches!(ended, Ended::Framing(_)), "{ended:?}");
    assert_eq!(ended.word(), "protocol-broken");
}

#[tokio::test(start_paused = true)]
async fn a_frame_larger_than_any_message_is_refused_by_its_header() {
    let (near, mut far) = tokio::io::duplex(1024);
    let (handle, driver) = open(Socket::over(near, Role::Server, &[]), settings());
    tokio::spawn(driver.run());
    let length = u64::try_from(wire::MAX_MESSAGE).unwrap() + 1;
    let header = [&[0x82, 0x80 | 127][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat();
    tokio::io::AsyncWriteExt::write_all(&mut far, &header).await.unwrap();
    assert_eq!(handle.ended().await, Ended::TooLarge { most: wire::MAX_MESSAGE });
    let mut close = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut far, &mut close).await.unwrap();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1009));
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_says_when_it_closes_is_kept_as_text() {
    let (handle, mut client) = with_bare_client().await;
    let frame = CloseFrame { code: CloseCode::Away, reason: "going \u{1b}[31mhome".into() };
    client.close(Some(frame)).await.unwrap();
    assert_eq!(handle.ended().await, Ended::ClosedBecause("going [31mhome".into()));
    assert_eq!(close_code(&mut client).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn what_was_read_with_the_handshake_comes_first() {
    let (near, far) = tokio::io::duplex(1024);
    drop(far);
    let mut early = Socket::over(near, Role::Server, &[0x82, 0x81, 1, 2, 3, 4, b'a' ^ 1]);
    assert_eq!(early.receive().await.unwrap(), "a");
    assert_eq!(early.receive().await, Err(Ended::ClosedByPeer));
}

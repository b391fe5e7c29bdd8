//! The codec against tungstenite on the other end, and whole relays between two of them.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{
            CloseFrame, Role as PeerRole, WebSocketConfig,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};

use super::*;
use crate::exchange::ErrorKind;

const MAX: usize = 16 * 1024 * 1024;

async fn peer(io: DuplexStream, role: PeerRole) -> WebSocketStream<DuplexStream> {
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    WebSocketStream::from_raw_socket(io, role, Some(config)).await
}

/// A duplex in `role` and tungstenite at the other end of its socket.
async fn against_peer(role: Role) -> (Duplex, WebSocketStream<DuplexStream>) {
    let (ours, theirs) = duplex(16 * 1024);
    let other = match role {
        Role::Server => PeerRole::Client,
        Role::Client => PeerRole::Server,
    };
    (over(ours, role, MAX), peer(theirs, other).await)
}

/// A visitor and an origin, both tungstenite, with a relay between them.
struct Relay {
    visitor: WebSocketStream<DuplexStream>,
    origin: WebSocketStream<DuplexStream>,
    joined: JoinHandle<Joined>,
}

async fn relay() -> Relay {
    let (near, visitor) = against_peer(Role::Server).await;
    let (far, origin) = against_peer(Role::Client).await;
    Relay { visitor, origin, joined: tokio::spawn(join(near, far)) }
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

async fn next(socket: &mut WebSocketStream<DuplexStream>) -> Message {
    socket.next().await.expect("a message").expect("no error")
}

#[tokio::test]
async fn messages_of_every_kind_and_size_pass_both_roles() {
    for role in [Role::Server, Role::Client] {
        let (mut ours, mut peer) = against_peer(role).await;
        // Every form of the length, and both ways of writing a payload.
        for length in [0, 1, 125, 126, 4096, 4097, 65535, 65536, 300_000] {
            let bytes = pattern(length);
            let send = async {
                peer.send(Message::Binary(bytes.clone())).await.unwrap();
                peer
            };
            let (mut back, event) = tokio::join!(send, ours.incoming.next());
            assert_eq!(event, Some(Event::Binary(bytes.clone())), "{role:?}, {length} bytes in");
            let (sent, message) =
                tokio::join!(ours.outgoing.send(Event::Binary(bytes.clone())), next(&mut back));
            sent.unwrap();
            assert_eq!(message, Message::Binary(bytes), "{role:?}, {length} bytes out");
            peer = back;
        }
        ours.outgoing.send(Event::Text(Bytes::from_static("grüß".as_bytes()))).await.unwrap();
        assert_eq!(next(&mut peer).await, Message::text("grüß"));
    }
}

#[tokio::test]
async fn pings_and_pongs_pass_and_are_not_answered() {
    let (mut ours, mut peer) = against_peer(Role::Server).await;
    peer.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
    assert_eq!(ours.incoming.next().await, Some(Event::Ping(Bytes::from_static(b"there?"))));
    // Had the ping been answered, the pong would come first.
    ours.outgoing.send(Event::Pong(Bytes::from_static(b"from far"))).await.unwrap();
    assert_eq!(next(&mut peer).await, Message::Pong(Bytes::from_static(b"from far")));
    let long = Event::Ping(pattern(126));
    let error = ours.outgoing.send(long).await.expect_err("over 125 bytes");
    assert_eq!(error.kind(), ErrorKind::PeerBrokeProtocol);
}

#[tokio::test]
async fn the_limit_is_the_largest_message() {
    let (ours, theirs) = duplex(256 * 1024);
    let mut ours = over(ours, Role::Client, MAX);
    let mut origin = peer(theirs, PeerRole::Server).await;
    let bytes = pattern(MAX);
    let (sent, event) = tokio::join!(origin.send(Message::Binary(bytes.clone())), ours.incoming.next());
    sent.unwrap();
    assert!(event == Some(Event::Binary(bytes)), "16 MiB to the byte");
    // The header alone is enough to refuse one byte more.
    let header = [0x82, 127, 0, 0, 0, 0, 1, 0, 0, 1];
    let (mut raw, theirs) = duplex(64);
    let mut ours = over(theirs, Role::Client, MAX);
    raw.write_all(&header).await.unwrap();
    let Some(Event::Close(close)) = ours.incoming.next().await else { panic!("no close") };
    assert_eq!(close.code, 1009);
}

#[tokio::test]
async fn a_broken_rule_is_told_to_both_sides() {
    for (frame, code) in [(&b"\x81\x80\0\0\0\0\xc1\x80\0\0\0\0"[..], 1002), (b"\x81\x81\0\0\0\0\xff", 1007)] {
        let (mut visitor, io) = duplex(1024);
        let (far, mut origin) = against_peer(Role::Client).await;
        let joined = tokio::spawn(join(over(io, Role::Server, MAX), far));
        visitor.write_all(frame).await.unwrap();
        let mut seen = loop {
            if let Message::Close(close) = next(&mut origin).await {
                break close;
            }
        };
        assert_eq!(seen.take().map(|close| u16::from(close.code)), Some(code));
        // The visitor gets the close frame and then the end of the connection.
        let mut bytes = Vec::new();
        visitor.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes[0], 0x88);
        assert_eq!(bytes[2..4], code.to_be_bytes());
        assert_eq!(bytes.len(), 2 + usize::from(bytes[1]), "nothing after the close");
        drop((visitor, origin));
        assert_eq!(joined.await.unwrap().near.code, code);
    }
}

#[tokio::test]
async fn a_relay_keeps_fragments_pings_and_order() {
    let mut relay = relay().await;
    let fragments = [
        (OpCode::Data(Data::Text), "Hel", false),
        (OpCode::Data(Data::Continue), "l", false),
        (OpCode::Data(Data::Continue), "o", true),
    ];
    for (i, (code, text, last)) in fragments.into_iter().enumerate() {
        relay.visitor.send(Message::Frame(Frame::message(text, code, last))).await.unwrap();
        if i == 0 {
            relay.visitor.send(Message::Ping(Bytes::from_static(b"mid"))).await.unwrap();
        }
    }
    assert_eq!(next(&mut relay.origin).await, Message::Ping(Bytes::from_static(b"mid")));
    assert_eq!(next(&mut relay.origin).await, Message::text("Hello"));
    // Tungstenite at the origin answered the ping; its answer is the only one.
    relay.origin.send(Message::text("after")).await.unwrap();
    assert_eq!(next(&mut relay.visitor).await, Message::Pong(Bytes::from_static(b"mid")));
    assert_eq!(next(&mut relay.visitor).await, Message::text("after"));
}

#[tokio::test]
async fn close_codes_and_reasons_pass_both_ways() {
    for by_visitor in [true, false] {
        let Relay { mut visitor, mut origin, joined } = relay().await;
        let (first, second) = match by_visitor {
            true => (&mut visitor, &mut origin),
            false => (&mut origin, &mut visitor),
        };
        let frame = CloseFrame { code: CloseCode::Library(4001), reason: "enough".into() };
        first.close(Some(frame.clone())).await.unwrap();
        assert_eq!(next(second).await, Message::Close(Some(frame.clone())));
        // Tungstenite echoes the close; its next poll sends it.
        assert!(second.next().await.is_none());
        assert_eq!(next(first).await, Message::Close(Some(frame)));
        assert!(first.next().await.is_none());
        let joined = joined.await.unwrap();
        assert_eq!(joined.near, Close::new(4001, "enough"));
        assert_eq!(joined.far, Close::new(4001, "enough"));
    }
}

#[tokio::test]
async fn an_empty_close_stays_empty() {
    let mut relay = relay().await;
    relay.visitor.close(None).await.unwrap();
    assert_eq!(next(&mut relay.origin).await, Message::Close(None));
}

#[tokio::test]
async fn a_lost_visitor_breaks_the_origin_off_without_a_close() {
    let (visitor, io) = duplex(1024);
    let (mut origin, far) = duplex(1024);
    let joined = tokio::spawn(join(over(io, Role::Server, MAX), over(far, Role::Client, MAX)));
    drop(visitor);
    let mut bytes = Vec::new();
    origin.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.is_empty(), "no frame was made up: {bytes:?}");
    drop(origin);
    let joined = joined.await.unwrap();
    assert_eq!((joined.near, joined.far), (Close::abnormal(), Close::abnormal()));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_never_answered_ends_after_a_while() {
    let Relay { mut visitor, origin, joined } = relay().await;
    visitor.close(None).await.unwrap();
    // The origin is there and silent.
    let joined = joined.await.unwrap();
    assert_eq!((joined.near.code, joined.far.code), (Close::NONE, Close::ABNORMAL));
    drop(origin);
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_the_sender_back() {
    let (ours, theirs) = duplex(1024);
    let mut ours = over(ours, Role::Server, MAX);
    let piece = pattern(8 * 1024);
    let mut accepted = 0;
    // Ready or not at once: nobody reads, so that readiness can't come back.
    while let Some(sent) =
        futures_util::FutureExt::now_or_never(ours.outgoing.feed(Event::Binary(piece.clone())))
    {
        sent.unwrap();
        accepted += 1;
        assert!(accepted < 100, "the buffer grows without bound");
    }
    assert!(accepted >= 8, "64 KiB fit");
    let mut visitor = peer(theirs, PeerRole::Client).await;
    let flush = async {
        ours.outgoing.flush().await.unwrap();
    };
    let read = async {
        for _ in 0..accepted {
            assert_eq!(next(&mut visitor).await, Message::Binary(piece.clone()));
        }
    };
    tokio::join!(flush, read);
}

#[tokio::test]
async fn bytes_are_counted_each_way() {
    let Relay { mut visitor, mut origin, joined } = relay().await;
    visitor.send(Message::binary(pattern(1000))).await.unwrap();
    next(&mut origin).await;
    origin.send(Message::text("four")).await.unwrap();
    next(&mut visitor).await;
    visitor.close(None).await.unwrap();
    while origin.next().await.is_some() {}
    while visitor.next().await.is_some() {}
    let joined = joined.await.unwrap();
    assert_eq!((joined.to_far_bytes, joined.to_near_bytes), (1000, 4));
}

#[tokio::test]
async fn the_reason_of_a_refusal_arrives_though_the_peer_goes_on_sending() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let (visitor, accepted) = tokio::join!(connecting, listener.accept());
    let (far, mut origin) = against_peer(Role::Client).await;
    let joined = tokio::spawn(join(over(accepted.unwrap().0, Role::Server, 1024), far));
    // Bytes that were never read would make the kernel reset the connection, close frame and all.
    let (mut read, mut write) = visitor.unwrap().into_split();
    let size = 4 * 1024 * 1024_u64;
    write
        .write_all(&[&[0x82, 0xff][..], &size.to_be_bytes(), &[0; 4], &pattern(size as usize)].concat())
        .await
        .unwrap();
    drop(write);
    let mut bytes = Vec::new();
    read.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes[2..4], 1009_u16.to_be_bytes());
    assert!(matches!(next(&mut origin).await, Message::Close(Some(close)) if close.code == CloseCode::Size));
    assert!(origin.next().await.is_none());
    assert_eq!(joined.await.unwrap().near.code, 1009);
}

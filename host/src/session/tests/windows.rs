//! How much a peer may send before anything was taken out, and after.

use http::header::CONTENT_LENGTH;

use super::*;
use crate::wire::{Decoded, INITIAL_WINDOW, Limits, MAX_PART, message::RequestStart};

/// The next message that a bare client hears.
async fn heard(client: &mut BareSocket) -> Message {
    let encoded = client.next().await.unwrap().unwrap().into_data();
    match Message::decode(encoded, &Limits { headers: 10 }).unwrap() {
        Decoded::Message(message) => message,
        Decoded::Unknown { kind } => panic!("kind {kind}"),
    }
}

async fn say(client: &mut BareSocket, message: Message) {
    client.send(tokio_tungstenite::tungstenite::Message::Binary(message.encode())).await.unwrap();
}

fn announcing(length: u64) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_LENGTH, length.into())])
}

fn head(id: u64, length: u64) -> Message {
    let (status, headers) = (StatusCode::OK, announcing(length));
    Message::HttpResponse(Box::new(ResponseStart { id, status, headers, body: Bytes::new(), end: false }))
}

fn part(id: u64, bytes: usize, end: bool) -> Message {
    Message::Body(BodyPart { id, data: vec![7; bytes].into(), end, trailers: None })
}

/// What a client with as much to send as it says is granted before anything was read.
async fn granted(length: u64) -> Option<u32> {
    let (handle, mut client) = with_bare_client().await;
    let answer = tokio::spawn(async move { handle.forward(get(Body::empty())).await.map(http) });
    assert!(matches!(heard(&mut client).await, Message::HttpRequest(_)));
    say(&mut client, head(1, length)).await;
    let _unread = answer.await.unwrap().unwrap();
    match heard(&mut client).await {
        Message::Credit { id: 1, bytes } => Some(bytes),
        // Nothing but a look whether anybody is there.
        Message::Ping => None,
        message => panic!("{message:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_announced_length_opens_the_window_at_once() {
    let window = u64::from(INITIAL_WINDOW);
    assert_eq!(granted(window).await, None);
    assert_eq!(granted(window + 1).await, Some(INITIAL_WINDOW));
    assert_eq!(granted(2 * window).await, Some(2 * INITIAL_WINDOW));
    assert_eq!(granted(400_000).await, Some(6 * INITIAL_WINDOW));
    assert_eq!(granted(u64::MAX).await, Some(7 * INITIAL_WINDOW));
}

/// A node keeps what it sends to another until that one has found a place for it: it must not be made to send more than it keeps.
#[tokio::test(start_paused = true)]
async fn between_nodes_nothing_is_granted_before_the_exchange_has_its_place() {
    for (tunnel, expected) in [(Some(name()), true), (None, false)] {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let mut opener = WebSocketStream::from_raw_socket(near, protocol::Role::Server, None).await;
        let forward = Arc::new(Origin(|_| std::future::pending()));
        let (_handle, driver) =
            serve(Socket::over(far, Role::Client, &[]), Settings { tunnel, ..settings() }, forward);
        tokio::spawn(driver.run());
        let Request { mut head, context, .. } = get(Body::empty());
        head.headers = announcing(400_000);
        let start = super::super::translate::start_of(head, &context, Bytes::new(), false, true);
        say(&mut opener, Message::HttpRequest(Box::new(RequestStart { id: 1, ..start }))).await;
        let granted = matches!(heard(&mut opener).await, Message::Credit { .. });
        assert_eq!(granted, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn readers_of_whom_nothing_is_known_leave_room_for_others() {
    let (handle, mut client) = with_bare_client().await;
    let growth = &handle.lines().growth;
    assert!(growth.take(super::super::inbox::MAX_GROWTH / 2 - 1));
    let answer = tokio::spawn({
        let handle = handle.clone();
        async move { handle.forward(get(Body::empty())).await.map(http) }
    });
    heard(&mut client).await;
    say(&mut client, head(1, 400_000)).await;
    let _unread = answer.await.unwrap().unwrap();
    assert_eq!(heard(&mut client).await, Message::Ping);
}

#[tokio::test(start_paused = true)]
async fn where_answers_are_long_credit_comes_with_the_request() {
    let (handle, mut client) = with_bare_client().await;
    let asks = || {
        let handle = handle.clone();
        tokio::spawn(async move {
            http(handle.forward(get(Body::empty())).await.unwrap()).body.collect().await.unwrap()
        })
    };
    for id in 1..=2 {
        let answer = asks();
        assert!(matches!(heard(&mut client).await, Message::HttpRequest(_)));
        say(&mut client, head(id, 100_000)).await;
        assert!(matches!(heard(&mut client).await, Message::Credit { .. }));
        say(&mut client, part(id, MAX_PART, false)).await;
        say(&mut client, part(id, 100_000 - MAX_PART, true)).await;
        answer.await.unwrap();
    }
    let answer = asks();
    assert!(matches!(heard(&mut client).await, Message::HttpRequest(_)));
    assert_eq!(heard(&mut client).await, Message::Credit { id: 3, bytes: 7 * INITIAL_WINDOW });
    say(&mut client, head(3, 7 * u64::from(INITIAL_WINDOW))).await;
    for sent in 1..=7 {
        say(&mut client, part(3, MAX_PART, sent == 7)).await;
    }
    assert_eq!(answer.await.unwrap().to_bytes().len(), 7 * MAX_PART);
    // All that was announced had its credit.
    assert_eq!(heard(&mut client).await, Message::Ping);
}

/// What takes more credit than its length, because it comes in small parts, and what is longer than announced.
#[tokio::test(start_paused = true)]
async fn a_wrong_or_wasteful_length_stops_no_body() {
    for (announced, large, small) in [(70_000, MAX_PART, 3000), (10, 3 * MAX_PART, 500), (600_000, 0, 5000)] {
        let (near, _far) = pair(Origin(move |_| async move {
            let large = std::iter::repeat_n(Bytes::from_static(&[7; 4096]), large / 4096);
            let pieces = large.chain(std::iter::repeat_n(Bytes::from_static(b"7"), small));
            let frames = futures_util::stream::iter(pieces.map(|piece| Ok(http_body::Frame::data(piece))));
            let body = Body::stream(StreamBody::new(frames));
            Ok(Answer::Http(Response { status: StatusCode::OK, headers: announcing(announced), body }))
        }))
        .await;
        let body = http(near.forward(get(Body::empty())).await.unwrap()).body;
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), large + small, "{announced}");
    }
}

/// The credit that was to go with a head must not be left when the head is dropped.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_unsent_takes_its_credit_along() {
    use super::super::mux::{Mux, Side};
    let mut mux = Mux::new(Side::Opener, 8, Duration::from_secs(10), std::time::Instant::now());
    let context = get(Body::empty()).context;
    let start =
        super::super::translate::start_of(get(Body::empty()).head, &context, Bytes::new(), true, false);
    for number in 0..2 {
        let id = mux.open(Box::new(start.clone()), false, number);
        mux.grant(id, 1000);
    }
    assert_eq!(mux.cancel(1, crate::wire::message::CancelCode::Gone, String::new()), Some(0));
    let sent: Vec<_> = std::iter::from_fn(|| mux.transmit().map(|(message, _)| message)).collect();
    let [Message::HttpRequest(head), Message::Credit { id: 2, bytes: 1000 }] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(head.id, 2);
}

//! What ends a session, or an exchange before its time: silence, draining, limits, and peers that break the rules.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_and_then_given_up() {
    let (handle, mut client) = with_bare_client().await;
    let started = tokio::time::Instant::now();
    let ping = client.next().await.unwrap().unwrap().into_data();
    assert_eq!(ping, Message::Ping.encode());
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(handle.ended().await, Ended::Silent(Duration::from_secs(20)));
    assert_eq!(started.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn an_answered_ping_keeps_the_session() {
    let (near, far) = pair(Origin(|_| async { Ok(ok(Body::empty())) })).await;
    tokio::time::timeout(Duration::from_secs(3600), near.ended()).await.expect_err("nothing ends it");
    near.forward(get(Body::empty())).await.unwrap();
    assert_eq!((near.state(), far.state()), (State::Open, State::Open));
}

#[tokio::test(start_paused = true)]
async fn draining_lets_what_is_under_way_end() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let origin = {
        let (started, go) = (Arc::clone(&started), Arc::clone(&go));
        Origin(move |_| {
            started.notify_one();
            let go = Arc::clone(&go);
            async move {
                go.notified().await;
                Ok(ok(Body::full("done")))
            }
        })
    };
    let (near, far) = pair(origin).await;
    let answer = near.forward(get(Body::empty()));
    let ((answer, ()), _) = tokio::join!(
        async {
            tokio::join!(answer, async {
                started.notified().await;
                near.go_away(Duration::from_secs(30));
                far.draining().await;
                far.disconnect();
                near.draining().await;
                let mut refused = near.forward(get(Body::empty())).await.unwrap_err();
                assert!(refused.take_unsent().is_some());
                go.notify_one();
            })
        },
        far.ended()
    );
    assert_eq!(http(answer.unwrap()).body.collect().await.unwrap().to_bytes(), "done");
    near.ended().await;
}

/// What a session says of a client that sends these messages after the first request came.
async fn verdict_on(messages: Vec<Message>) -> Ended {
    let (handle, mut client) = with_bare_client().await;
    let request = tokio::spawn({
        let handle = handle.clone();
        async move { handle.forward(get(Body::empty())).await.map(http)?.body.collect().await.map(drop) }
    });
    client.next().await.unwrap().unwrap();
    for message in messages {
        client.send(tokio_tungstenite::tungstenite::Message::Binary(message.encode())).await.unwrap();
    }
    let ended = handle.ended().await;
    assert!(request.await.unwrap().is_err());
    ended
}

fn response(id: u64, end: bool) -> Message {
    let status = StatusCode::OK;
    Message::HttpResponse(Box::new(ResponseStart { end, ..*ResponseStart::bare(id, status) }))
}

fn body(id: u64, bytes: usize) -> Message {
    Message::Body(BodyPart { id, data: Bytes::from(vec![0; bytes]), end: false, trailers: None })
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_the_rules_is_out() {
    use super::mux::Violation;
    let cases = [
        (vec![response(9, true)], Violation::NeverOpened(9)),
        (vec![body(1, 1)], Violation::OutOfOrder(1)),
        (vec![response(1, false), response(1, false)], Violation::OutOfOrder(1)),
        (
            vec![response(1, false), body(1, 0), Message::GoAway { grace: Duration::ZERO }],
            Violation::WrongRole,
        ),
        (vec![Message::RegistrationRequest { id: 1, statement: Bytes::new() }], Violation::Registration),
        (vec![Message::Credit { id: 1, bytes: u32::MAX }; 2], Violation::TooMuchCredit(1)),
    ];
    for (messages, violation) in cases {
        assert_eq!(verdict_on(messages).await, Ended::Violation(violation));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_can_not_send_more_than_its_credit() {
    let (handle, mut client) = with_bare_client().await;
    let mut sent = vec![response(1, false)];
    sent.extend((0..300).map(|_| body(1, 1)));
    let answer = tokio::spawn({
        let handle = handle.clone();
        async move { handle.forward(get(Body::empty())).await.map(http) }
    });
    client.next().await.unwrap().unwrap();
    for message in sent {
        // Even parts of one byte cost something: nobody reads this body, so that its window runs out.
        let frame = tokio_tungstenite::tungstenite::Message::Binary(message.encode());
        if client.send(frame).await.is_err() {
            break;
        }
    }
    assert_eq!(handle.ended().await, Ended::Violation(super::mux::Violation::OverCredit(1)));
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_session_with_a_close_code() {
    let (handle, mut client) = with_bare_client().await;
    client.send(tokio_tungstenite::tungstenite::Message::Binary(Bytes::from_static(&[0xff]))).await.unwrap();
    let close = client.next().await.unwrap().unwrap();
    assert!(matches!(handle.ended().await, Ended::Undecodable(_)));
    let tokio_tungstenite::tungstenite::Message::Close(Some(frame)) = close else { panic!("{close:?}") };
    assert_eq!(u16::from(frame.code), 1007);
}

#[tokio::test(start_paused = true)]
async fn more_exchanges_than_allowed_are_handed_back() {
    let (near, _far) = pair(Origin(|_| std::future::pending())).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut forward = Box::pin(near.forward(get(Body::empty())));
        assert!(futures_util::poll!(&mut forward).is_pending());
        open.push(forward);
    }
    let mut error = near.forward(get(Body::empty())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyExchanges);
    assert!(error.take_unsent().is_some());
    drop(open);
    assert_eq!(near.busy(), 0);
}

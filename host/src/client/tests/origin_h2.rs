//! An origin that speaks HTTP/2, played frame by frame.

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use h2::{
    Reason,
    server::{Connection, SendResponse},
};
use http::HeaderMap;
use http_body_util::BodyExt;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::*;
use crate::{
    client::{
        HostHeader,
        connect::tests::agreeing_on,
        tests::{
            TestOrigin, channel_body, http, read_body, read_head, request, serve_plain, websocket_request,
        },
    },
    exchange::{Forward, Response},
};

type Served = Connection<TcpStream, Bytes>;
type Taken = (http::Request<h2::RecvStream>, SendResponse<Bytes>);

async fn origin() -> TestOrigin {
    let mut origin = TestOrigin::bind().await;
    origin.config.protocol = OriginProtocol::H2;
    origin
}

async fn served(origin: &TestOrigin) -> Served {
    h2::server::handshake(origin.accept().await).await.unwrap()
}

async fn taken(served: &mut Served) -> Taken {
    served.accept().await.unwrap().unwrap()
}

/// Goes on reading and writing for as long as the test lasts.
fn driven(mut served: Served) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { while let Some(Ok(_)) = served.accept().await {} })
}

/// The origin's part in one exchange that it answers with an empty 200; what it was asked, and its connection.
async fn answered(origin: &TestOrigin) -> (http::Request<h2::RecvStream>, Served) {
    let mut served = served(origin).await;
    let (request, mut response) = taken(&mut served).await;
    response.send_response(http::Response::new(()), true).unwrap();
    (request, served)
}

/// The same by whichever connection the request comes: the client may open one, and then find another for it.
async fn answered_by_any(origin: &TestOrigin) -> Served {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            socket = origin.accept() => connections.push(async {
                let mut served = h2::server::handshake(socket).await.ok()?;
                let taken = served.accept().await?.ok()?;
                Some((served, taken))
            }),
            Some(asked) = connections.next(), if !connections.is_empty() => {
                if let Some((served, (_, mut response))) = asked {
                    response.send_response(http::Response::new(()), true).unwrap();
                    return served;
                }
            }
        }
    }
}

async fn forwarded(stage: &Origin, request: Request) -> Response {
    http(stage.forward(request).await.unwrap())
}

#[tokio::test]
async fn a_request_has_the_visitors_host_and_nothing_of_one_hop() {
    let mut origin = origin().await;
    for (setting, expected) in [
        (HostHeader::Keep, "visited.example"),
        (HostHeader::Value(HeaderValue::from_static("set.example:81")), "set.example:81"),
    ] {
        origin.config.host_header = setting;
        let stage = origin.stage();
        let mut asked = request("GET", "/a%2Fb//c/../d?q=%");
        for (name, value) in
            [("x-first", "1"), ("te", "gzip, trailers"), ("cookie", "a=1"), ("connection", "x")]
        {
            asked.head.headers.append(name, HeaderValue::from_static(value));
        }
        let serving = async {
            let (seen, served) = answered(&origin).await;
            (seen, driven(served))
        };
        let (response, (seen, _driven)) = tokio::join!(forwarded(&stage, asked), serving);
        assert_eq!(response.status, 200);
        let uri = seen.uri();
        assert_eq!(uri.authority().unwrap(), expected);
        assert_eq!(uri.path_and_query().unwrap(), "/a%2Fb//c/../d?q=%");
        let fields: Vec<_> =
            seen.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("x-first", &b"1"[..]), ("cookie", b"a=1"), ("te", b"trailers")]);
    }
}

#[tokio::test]
async fn both_bodies_and_both_trailers_go_at_once() {
    let origin = origin().await;
    let stage = origin.stage();
    let (sender, body) = channel_body();
    let mut asked = request("POST", "/talk");
    asked.body = body;
    let serving = async {
        let mut served = served(&origin).await;
        let (request, mut response) = taken(&mut served).await;
        (request.into_body(), response.send_response(http::Response::new(()), false).unwrap(), driven(served))
    };
    // The head of the answer comes before anything of the request's body.
    let (answer, (mut upload, mut download, _driven)) = tokio::join!(forwarded(&stage, asked), serving);
    let mut body = answer.body;
    for round in 0..3_u8 {
        sender.send(Ok(http_body::Frame::data(Bytes::from(vec![round])))).await.unwrap();
        let heard = upload.data().await.unwrap().unwrap();
        assert_eq!(heard, [round][..]);
        download.send_data(Bytes::from(vec![round, round]), false).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), [round, round][..]);
    }
    let trailers =
        |value| HeaderMap::from_iter([("x-end".parse().unwrap(), HeaderValue::from_static(value))]);
    sender.send(Ok(http_body::Frame::trailers(trailers("there")))).await.unwrap();
    drop(sender);
    assert!(upload.data().await.is_none());
    assert_eq!(upload.trailers().await.unwrap().unwrap(), trailers("there"));
    download.send_trailers(trailers("back")).unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers("back"));
}

#[tokio::test]
async fn whoever_goes_away_cancels_the_stream_and_nothing_else() {
    let origin = origin().await;
    let stage = origin.stage();
    let serving = async {
        let mut served = served(&origin).await;
        let (_, mut response) = taken(&mut served).await;
        let stream = response.send_response(http::Response::new(()), false).unwrap();
        (stream, driven(served))
    };
    let (answer, (mut stream, _driven)) =
        tokio::join!(forwarded(&stage, request("GET", "/endless")), serving);
    drop(answer);
    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, Reason::CANCEL);
}

#[tokio::test]
async fn a_request_that_breaks_off_is_cancelled_and_keeps_its_reason() {
    let origin = origin().await;
    let stage = origin.stage();
    let (sender, body) = channel_body();
    let mut asked = request("POST", "/");
    asked.body = body;
    let serving = async {
        let mut served = served(&origin).await;
        let (request, _response) = taken(&mut served).await;
        let mut upload = request.into_body();
        let driven = driven(served);
        sender.send(Err(ForwardError::new(ErrorKind::Cancelled, "the visitor left"))).await.unwrap();
        let error = upload.data().await.unwrap().unwrap_err();
        drop(driven);
        error
    };
    let (answer, error) = tokio::join!(stage.forward(asked), serving);
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn a_stream_that_the_origin_resets_is_no_end_of_an_answer() {
    let origin = origin().await;
    let stage = origin.stage();
    let serving = async {
        let mut served = served(&origin).await;
        let (_, mut response) = taken(&mut served).await;
        let mut stream = response.send_response(http::Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        (stream, driven(served))
    };
    let (answer, (mut stream, _driven)) = tokio::join!(forwarded(&stage, request("GET", "/")), serving);
    let mut body = answer.body;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    stream.send_reset(Reason::INTERNAL_ERROR);
    assert_eq!(body.frame().await.unwrap().unwrap_err().kind(), ErrorKind::OriginFailed);
}

#[tokio::test]
async fn what_was_refused_unseen_is_sent_again_whatever_its_method() {
    let origin = origin().await;
    let stage = origin.stage();
    let serving = async {
        let mut served = served(&origin).await;
        let (_, mut refused) = taken(&mut served).await;
        refused.send_reset(Reason::REFUSED_STREAM);
        let (again, mut response) = taken(&mut served).await;
        response.send_response(http::Response::new(()), true).unwrap();
        (again, driven(served))
    };
    let (answer, (again, _driven)) = tokio::join!(forwarded(&stage, request("POST", "/twice")), serving);
    assert_eq!(answer.status, 200);
    assert_eq!((again.method().as_str(), again.uri().path()), ("POST", "/twice"));
}

#[tokio::test]
async fn an_origin_that_leaves_between_two_requests_is_no_failure() {
    let origin = origin().await;
    let stage = origin.stage();
    for round in 0..3 {
        let serving = async {
            let (_, mut served) = answered(&origin).await;
            served.graceful_shutdown();
            driven(served).await.unwrap();
        };
        let (answer, ()) = tokio::join!(forwarded(&stage, request("POST", "/")), serving);
        assert_eq!(answer.status, 200, "round {round}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_off_under_a_safe_request_costs_it_nothing_and_a_post_its_life() {
    let origin = origin().await;
    for method in ["GET", "POST"] {
        let stage = origin.stage();
        let breaking = async {
            let mut served = served(&origin).await;
            let (_, mut response) = taken(&mut served).await;
            response.send_response(http::Response::new(()), true).unwrap();
            drop(taken(&mut served).await);
        };
        let first = async { assert_eq!(forwarded(&stage, request("GET", "/")).await.status, 200) };
        let mut asking = std::pin::pin!(async {
            first.await;
            stage.forward(request(method, "/")).await
        });
        tokio::select! {
            answer = &mut asking => panic!("{answer:?}"),
            () = breaking => {}
        }
        // Whether it is sent again shows by a connection, or by the lack of one.
        tokio::select! {
            answer = &mut asking => {
                assert_eq!((method, answer.unwrap_err().kind()), ("POST", ErrorKind::OriginFailed));
            }
            served = answered_by_any(&origin) => {
                let _driven = driven(served);
                assert_eq!((method, http(asking.await.unwrap()).status.as_u16()), ("GET", 200));
            }
        }
    }
}

#[tokio::test]
async fn when_a_connection_is_full_another_one_is_opened() {
    let origin = origin().await;
    let stage = origin.stage();
    let accepting = async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        let mut first: Served = builder.handshake(origin.accept().await).await.unwrap();
        let mut waiting = vec![taken(&mut first).await, taken(&mut first).await];
        let first = driven(first);
        let mut second: Served = builder.handshake(origin.accept().await).await.unwrap();
        waiting.push(taken(&mut second).await);
        let second = driven(second);
        for (_, response) in &mut waiting {
            response.send_response(http::Response::new(()), true).unwrap();
        }
        (waiting, first, second)
    };
    let asking = |path: &'static str| forwarded(&stage, request("GET", path));
    let (a, b, c, _served) = tokio::join!(asking("/a"), asking("/b"), asking("/c"), accepting);
    assert_eq!([a.status, b.status, c.status], [http::StatusCode::OK; 3]);
}

#[tokio::test]
async fn a_reader_who_stops_holds_no_more_than_a_window_and_holds_nobody_up() {
    let origin = origin().await;
    let stage = origin.stage();
    let serving = async {
        let mut served = served(&origin).await;
        let (_, mut slow) = taken(&mut served).await;
        let mut slow = slow.send_response(http::Response::new(()), false).unwrap();
        slow.reserve_capacity(10 << 20);
        let (_, mut quick) = taken(&mut served).await;
        let mut quick = quick.send_response(http::Response::new(()), false).unwrap();
        let driven = driven(served);
        // All that the origin may send before anybody reads.
        let mut sent = 0;
        while sent < 64 * 1024 {
            let room = std::future::poll_fn(|cx| slow.poll_capacity(cx)).await.unwrap().unwrap();
            slow.send_data(Bytes::from(vec![0; room]), false).unwrap();
            sent += room;
        }
        assert_eq!(sent, 64 * 1024);
        quick.send_data(Bytes::from_static(b"quick"), true).unwrap();
        (slow, driven)
    };
    let asking = async {
        let slow = forwarded(&stage, request("GET", "/slow")).await;
        let quick = forwarded(&stage, request("GET", "/quick")).await;
        (slow, read_body(quick.body).await)
    };
    let ((_slow, quick), (mut sending, _driven)) = tokio::join!(asking, serving);
    assert_eq!(quick, b"quick");
    let more = futures_util::poll!(std::future::poll_fn(|cx| sending.poll_capacity(cx)));
    assert!(more.is_pending(), "{more:?}");
}

#[tokio::test]
async fn an_origin_that_speaks_http1_is_told_apart_with_the_way_out() {
    let origin = origin().await;
    let stage = origin.stage();
    let (answer, ()) = tokio::join!(stage.forward(request("GET", "/")), serve_plain(&origin));
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OriginUnreachable);
    assert!(error.detail().contains("--origin-protocol http1"), "{}", error.detail());
}

async fn over_tls(protocol: OriginProtocol) -> TestOrigin {
    let mut origin = TestOrigin::bind().await;
    origin.config.scheme = http::uri::Scheme::HTTPS;
    origin.config.insecure = true;
    origin.config.protocol = protocol;
    origin
}

#[tokio::test]
async fn over_tls_http2_is_spoken_where_both_agree_on_it() {
    for protocol in [OriginProtocol::H2, OriginProtocol::Auto] {
        let origin = over_tls(protocol).await;
        let stage = origin.stage();
        let serving = async {
            let stream = agreeing_on(&["h2", "http/1.1"]).accept(origin.accept().await).await.unwrap();
            let mut served = h2::server::handshake(stream).await.unwrap();
            let (seen, mut response): (http::Request<h2::RecvStream>, SendResponse<Bytes>) =
                served.accept().await.unwrap().unwrap();
            response.send_response(http::Response::new(()), true).unwrap();
            let driven = tokio::spawn(async move { while let Some(Ok(_)) = served.accept().await {} });
            (seen, driven)
        };
        let (answer, (seen, _driven)) = tokio::join!(forwarded(&stage, request("GET", "/")), serving);
        assert_eq!((answer.status.as_u16(), seen.uri().scheme_str()), (200, Some("https")));
    }
}

#[tokio::test]
async fn a_service_that_knows_http1_alone_is_asked_once_whether_it_knows_more() {
    let origin = over_tls(OriginProtocol::Auto).await;
    let stage = origin.stage();
    let serving = async {
        // The question, which is dropped; and a connection for both requests.
        drop(agreeing_on(&["http/1.1"]).accept(origin.accept().await).await.unwrap());
        let mut stream = agreeing_on(&["http/1.1"]).accept(origin.accept().await).await.unwrap();
        for _ in 0..2 {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    };
    let asking = async {
        for _ in 0..2 {
            assert_eq!(forwarded(&stage, request("GET", "/")).await.status, 200);
        }
    };
    tokio::join!(asking, serving);

    let strict = over_tls(OriginProtocol::H2).await;
    let stage = strict.stage();
    let serving = async { drop(agreeing_on(&["http/1.1"]).accept(strict.accept().await).await) };
    let (answer, ()) = tokio::join!(stage.forward(request("GET", "/")), serving);
    assert!(answer.unwrap_err().detail().contains("--origin-protocol http1"));
}

#[tokio::test]
async fn a_websocket_is_a_stream_where_the_origin_takes_it() {
    let origin = origin().await;
    let stage = origin.stage();
    let mut asked = websocket_request("/chat");
    asked.head.headers.insert("sec-websocket-protocol", HeaderValue::from_static("v1, v2"));
    let serving = async {
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        let mut served: Served = builder.handshake(origin.accept().await).await.unwrap();
        let (request, mut response) = taken(&mut served).await;
        let accepted = http::Response::builder().header("sec-websocket-protocol", "v2").body(()).unwrap();
        let stream = response.send_response(accepted, false).unwrap();
        (request, stream, driven(served))
    };
    let (answer, (seen, mut download, _driven)) = tokio::join!(stage.forward(asked), serving);
    assert_eq!(seen.method(), Method::CONNECT);
    assert_eq!(seen.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
    assert_eq!(
        (seen.uri().path(), &seen.headers()["sec-websocket-version"]),
        ("/chat", &HeaderValue::from_static("13"))
    );
    let Answer::WebSocket(mut accepted) = answer.unwrap() else { panic!("no WebSocket") };
    assert_eq!(accepted.headers["sec-websocket-protocol"], "v2");
    download.send_data(Bytes::from_static(b"\x81\x02hi"), false).unwrap();
    let event = futures_util::StreamExt::next(&mut accepted.duplex.incoming).await.unwrap();
    assert_eq!(event, crate::exchange::websocket::Event::Text(Bytes::from_static(b"hi")));
}

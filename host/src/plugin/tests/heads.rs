//! What plugins do to heads.

use super::*;
use crate::exchange::ErrorKind;

#[tokio::test]
async fn a_good_edit_is_applied_and_the_rest_stays() {
    let (chain, origin) = chain(hostile("on-request", "good")).await;
    let (status, _, body) = exchange(&chain, request("body")).await.unwrap();
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"answer"[..]));
    let (head, body) = origin.seen().remove(0);
    assert_eq!(head.headers, headers(&[("x-keep", "2"), ("x-hostile", "was here")]));
    assert_eq!((head.target.as_str(), &body[..]), ("/a%2Fb?c", &b"body"[..]));
}

/// A gateway behind the client may read `_` as `-`: what a plugin says of a visitor is said by nobody else.
#[tokio::test]
async fn a_visitor_forges_nothing_that_a_plugin_sets() {
    let (chain, origin) = chain(hostile("on-request", "good")).await;
    let mut forged = request("body");
    forged.head.headers.append("x_hostile", "forged".parse().unwrap());
    exchange(&chain, forged).await.unwrap();
    let (head, _) = origin.seen().remove(0);
    assert_eq!(head.headers, headers(&[("x-keep", "2"), ("x-hostile", "was here")]));
}

#[tokio::test]
async fn edits_that_no_plugin_may_make_fail_the_exchange_and_change_nothing() {
    for deed in [
        "crlf", "nul", "name", "te", "length", "host", "reserved", "path", "connect", "status", "many",
        "huge",
    ] {
        let (denied, origin) = chain(hostile("on-request", deed)).await;
        let error = exchange(&denied, request("")).await.expect_err(deed);
        assert_eq!((error.kind(), origin.seen().len()), (ErrorKind::PluginFailed, 0), "{deed}");

        let mut config = hostile("on-request", deed);
        config.on_failure = OnFailure::Skip;
        let (skipped, origin) = chain(config).await;
        exchange(&skipped, request("")).await.expect(deed);
        let (head, _) = origin.seen().remove(0);
        assert_eq!(head.headers, request("").head.headers, "{deed}");
        assert_eq!((head.method, head.target.as_str()), (Method::POST, "/a%2Fb?c"), "{deed}");
    }
}

#[tokio::test]
async fn the_same_holds_on_the_way_back() {
    for deed in ["crlf", "nul", "name", "te", "length", "reserved", "connect", "status", "many", "huge"] {
        let (chain, _) = chain(hostile("on-response", deed)).await;
        let error = exchange(&chain, request("")).await.expect_err(deed);
        assert_eq!(error.kind(), ErrorKind::PluginFailed, "{deed}");
    }
    let (chain, _) = chain(hostile("on-response", "good")).await;
    let (_, changed, _) = exchange(&chain, request("")).await.unwrap();
    assert_eq!(changed["x-hostile"], "was here");
    assert_eq!(changed["x-origin"], "yes");
}

#[tokio::test]
async fn an_answer_on_the_spot_is_checked_and_nothing_is_forwarded() {
    let (answering, origin) = chain(hostile("on-request", "respond")).await;
    let (status, headers, body) = exchange(&answering, request("")).await.unwrap();
    assert_eq!((status.as_u16(), &body[..]), (418, &b"a teapot"[..]));
    assert_eq!(headers["content-length"], "8");
    assert_eq!(origin.seen().len(), 0);
    for deed in ["respond-huge", "respond-101"] {
        let (chain, origin) = chain(hostile("on-request", deed)).await;
        let error = exchange(&chain, request("")).await.expect_err(deed);
        assert_eq!((error.kind(), origin.seen().len()), (ErrorKind::PluginFailed, 0), "{deed}");
    }
}

#[tokio::test]
async fn who_breaks_an_exchange_off_keeps_the_reason_from_the_visitor() {
    for hook in ["on-request", "on-response"] {
        let (chain, _) = chain(hostile(hook, "abort")).await;
        let error = exchange(&chain, request("")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RefusedByPlugin);
        assert!(!error.detail().contains("secret"), "{}", error.detail());
    }
}

#[tokio::test]
async fn earlier_plugins_see_the_answer_of_a_later_one_and_it_does_not_see_its_own() {
    let origin = Arc::new(Origin::default());
    let mut second = hostile("on-request", "respond");
    second.config = r#"{"on-request": "respond", "on-response": "trap"}"#.to_owned();
    let plugins = vec![load(hostile("on-response", "good")).await, load(second).await];
    let chain = Chain::new(plugins, Arc::clone(&origin) as Arc<dyn Forward>);
    let (status, headers, _) = exchange(&chain, request("")).await.unwrap();
    assert_eq!((status.as_u16(), &headers["x-hostile"]), (418, &HeaderValue::from_static("was here")));
}

#[tokio::test]
async fn notes_go_on_with_the_request() {
    struct Notes(Mutex<Option<String>>);
    impl Forward for Notes {
        fn forward(&self, request: Request) -> ForwardFuture<'_> {
            *self.0.lock().unwrap() = request.context.notes.get("hostile").map(str::to_owned);
            Box::pin(async { Err(ForwardError::new(ErrorKind::Offline, "enough seen")) })
        }
    }
    let noted = Arc::new(Notes(Mutex::default()));
    let plugin = load(hostile("on-request", "note")).await;
    let chain = Chain::new(vec![plugin], Arc::clone(&noted) as Arc<dyn Forward>);
    exchange(&chain, request("")).await.unwrap_err();
    assert_eq!(noted.0.lock().unwrap().as_deref(), Some("Role::Proxy"));
}

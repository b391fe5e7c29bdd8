//! Guests that try to take the host with them.

use futures_util::{FutureExt, future::join_all};

use super::*;
use crate::exchange::ErrorKind;

#[tokio::test]
async fn whatever_a_hook_does_only_its_exchange_fails() {
    for hook in ["on-request", "on-response"] {
        for (deed, cause) in [
            ("loop", "ran for longer"),
            ("bomb", "bytes of memory"),
            ("overflow", "trapped"),
            ("trap", "trapped"),
            ("fault", "fault"),
        ] {
            let (denied, _) = chain(hostile(hook, deed)).await;
            let error = exchange(&denied, request("")).await.expect_err(deed);
            assert_eq!(error.kind(), ErrorKind::PluginFailed, "{hook} {deed}");
            assert!(error.cause().unwrap().to_string().contains(cause), "{hook} {deed}: {:?}", error.cause());
            assert!(!error.detail().contains("secret"), "{}", error.detail());

            let mut config = hostile(hook, deed);
            config.on_failure = OnFailure::Skip;
            let (skipped, origin) = chain(config).await;
            let (status, _, body) = exchange(&skipped, request("body")).await.expect(deed);
            assert_eq!((status, &body[..]), (StatusCode::OK, &b"answer"[..]), "{hook} {deed}");
            assert_eq!(&origin.seen().remove(0).1[..], b"body", "{hook} {deed}");
        }
    }
}

#[tokio::test]
async fn an_init_that_fails_keeps_the_plugin_out() {
    for (deed, says) in [
        ("fault", "a fault with a secret"),
        ("trap", "trapped"),
        ("loop", "ran for longer"),
        ("bomb", "memory"),
    ] {
        let refused = host().load(&guest("hostile"), hostile("init", deed)).await;
        let Err(LoadError::Init(text)) = refused else { panic!("{deed} got in") };
        assert!(text.contains(says), "{deed}: {text}");
    }
    let mut config = hostile("", "");
    config.config = "no JSON".to_owned();
    assert!(matches!(host().load(&guest("hostile"), config).await, Err(LoadError::Init(_))));
}

#[tokio::test]
async fn a_long_line_of_log_is_cut() {
    let (chain, _) = chain(hostile("on-request", "log")).await;
    exchange(&chain, request("")).await.unwrap();
}

#[tokio::test]
async fn others_are_served_while_a_guest_loops() {
    let mut config = hostile("on-request", "loop");
    // As good as for ever: this test ends it.
    config.limits.time = std::time::Duration::from_secs(600);
    config.limits.wait = std::time::Duration::from_secs(600);
    let plugin = load(config).await;
    let looping = Chain::new(vec![Arc::clone(&plugin)], Arc::new(Origin::default()));
    let (good, origin) = chain(hostile("on-request", "good")).await;

    let mut stuck: Vec<_> = (0..4).map(|_| Box::pin(exchange(&looping, request("")))).collect();
    for stuck in &mut stuck {
        // Each poll ends at the next tick, when the guest gives way.
        assert!(stuck.as_mut().now_or_never().is_none());
    }
    let served = join_all((0..100).map(|_| exchange(&good, request("")))).await;
    assert!(served.iter().all(Result::is_ok));
    assert_eq!(origin.seen().len(), 100);
    for stuck in &mut stuck {
        assert!(stuck.as_mut().now_or_never().is_none(), "it still loops");
    }
    assert_eq!(plugin.places(), plugin.config().limits.instances - 4);
    drop(stuck);
    assert_eq!(plugin.places(), plugin.config().limits.instances, "who gives up gives the place back");
}

#[tokio::test]
async fn calls_wait_for_an_instance_and_too_many_fail() {
    let mut config = hostile("on-request", "loop");
    config.limits.time = std::time::Duration::from_secs(600);
    config.limits.instances = 1;
    config.limits.queue = 1;
    let (chain, _) = chain(config).await;
    let mut first = Box::pin(exchange(&chain, request("")));
    assert!(first.as_mut().now_or_never().is_none(), "it has the instance");
    let mut second = Box::pin(exchange(&chain, request("")));
    assert!(second.as_mut().now_or_never().is_none(), "it waits");
    let third = exchange(&chain, request("")).await.unwrap_err();
    assert_eq!(third.kind(), ErrorKind::PluginBusy);
    drop(first);
    assert!(second.as_mut().now_or_never().is_none(), "it loops now, and didn't before");
}

#[tokio::test]
async fn who_fails_too_often_is_not_asked_for_a_while() {
    let mut config = hostile("on-request", "trap");
    config.limits.failures = 3;
    let (chain, _) = chain(config).await;
    for _ in 0..3 {
        let error = exchange(&chain, request("")).await.unwrap_err();
        assert!(error.cause().unwrap().to_string().contains("trapped"));
    }
    let error = exchange(&chain, request("")).await.unwrap_err();
    assert!(error.cause().unwrap().to_string().contains("too often"), "{:?}", error.cause());
}

#[tokio::test]
async fn an_exchange_may_have_an_instance_of_its_own() {
    let mut config = hostile("on-request", "good");
    config.isolation = Isolation::Exchange;
    let (chain, origin) = chain(config).await;
    for _ in 0..3 {
        exchange(&chain, request("")).await.unwrap();
    }
    assert_eq!(origin.seen().len(), 3);
}

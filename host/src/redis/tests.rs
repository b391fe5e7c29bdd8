//! A real server for tests. `cargo xtask test` starts one and says where it is.

use std::sync::Arc;

use super::*;

/// Where `cargo xtask test` has started a server.
const WHERE: &str = "TUNNEL_TEST_REDIS";

/// The test's server, shared by all tests: keys and channels need names of their own.
pub(crate) fn redis() -> Redis {
    let address = std::env::var(WHERE).unwrap_or_else(|_| {
        panic!(
            "{WHERE} is not set: run `cargo xtask test`, or set it to the URL of a Redis that tests may use"
        )
    });
    Redis::new(address.parse::<Address>().expect("a URL of Redis"))
}

/// A prefix that no other test uses.
pub(crate) fn prefix() -> String {
    format!("test:{:016x}", getrandom::u64().expect("randomness"))
}

#[tokio::test]
async fn what_is_published_arrives_and_is_counted() {
    let (redis, channel) = (redis(), prefix());
    let publish = |payload: &str| cmd("PUBLISH").arg(&channel).arg(payload).to_owned();
    assert_eq!(redis.call::<u64>(&publish("nobody hears this")).await, Ok(0));
    let mut inbox = Inbox::open(redis.address(), std::slice::from_ref(&channel)).await.unwrap();
    assert_eq!(redis.call::<u64>(&publish("heard")).await, Ok(1));
    let published = inbox.next().await.unwrap();
    assert_eq!((published.channel, &published.payload[..]), (channel, &b"heard"[..]));
}

#[tokio::test]
async fn a_refused_command_leaves_the_connection_in_place() {
    let redis = redis();
    assert!(matches!(redis.call::<()>(&cmd("NONSENSE")).await, Err(RedisError::Refused(_))));
    redis.ping().await.unwrap();
}

#[test]
fn a_server_that_is_still_loading_its_data_does_not_refuse() {
    let loading = ErrorKind::Server(ServerErrorKind::BusyLoading);
    let error =
        RedisError::of(&::redis::RedisError::from((loading, "Redis is loading the dataset in memory")));
    assert!(matches!(error, RedisError::Lost(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_that_says_so_and_hides_the_password() {
    // A port that was free a moment ago, with nobody listening.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let redis = Redis::new(format!("redis://:secret@127.0.0.1:{port}").parse().unwrap());
    let error = redis.ping().await.unwrap_err();
    assert!(matches!(&error, RedisError::Away { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn callers_at_once_share_one_connection() {
    let redis = redis();
    let id = Arc::new(cmd("CLIENT").arg("ID").to_owned());
    let calls = (0..50).map(|_| {
        let (redis, id) = (redis.clone(), Arc::clone(&id));
        tokio::spawn(async move { redis.call::<u64>(&id).await.unwrap() })
    });
    let ids: std::collections::HashSet<u64> =
        futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_killed_connection_is_replaced() {
    let redis = redis();
    let id = cmd("CLIENT").arg("ID").to_owned();
    let first: u64 = redis.call(&id).await.unwrap();
    let killer = redis.another();
    killer.call::<u64>(cmd("CLIENT").arg("KILL").arg("ID").arg(first)).await.unwrap();
    // The first one may find out the hard way.
    let second = match redis.call::<u64>(&id).await {
        Ok(id) => id,
        Err(RedisError::Lost(_)) => redis.call(&id).await.unwrap(),
        Err(error) => panic!("{error}"),
    };
    assert_ne!(first, second);
}

//! Policies before a stage in memory.

use std::sync::Mutex;

use http::{HeaderMap, Method, StatusCode, uri::PathAndQuery};
use proptest::prelude::*;

use super::*;
use crate::{
    exchange::{Answer, Body, Context, ExchangeId, RequestHead, RequestKind, Response, Scheme},
    redis::tests::{prefix, redis},
};

fn tunnel(letter: char) -> TunnelName {
    letter.to_string().repeat(52).parse().unwrap()
}

/// Says its name.
struct Named(&'static str, Option<Arc<dyn Forward>>);

impl Forward for Named {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        match &self.1 {
            Some(next) => next.forward(request),
            None => {
                let body = Body::full(self.0);
                let headers = HeaderMap::new();
                Box::pin(async move { Ok(Answer::Http(Response { status: StatusCode::OK, headers, body })) })
            }
        }
    }
}

/// A policy that answers by its name.
fn policy(name: &'static str, domain: &str, path: Option<&str>) -> Policy {
    Policy {
        domain: domain.parse().unwrap(),
        path: path.map(|path| path.parse().unwrap()),
        limits: PolicyLimits::default(),
        stages: Arc::new(move |_| Arc::new(Named(name, None))),
        about: About::default(),
    }
}

fn base() -> Base {
    Base {
        domain: "example.com".to_owned(),
        max_body: Some(10),
        rate: None,
        redis: None,
        answer_timeout: Duration::from_secs(30),
        next: Arc::new(Named("bus", None)),
    }
}

fn stage(policies: &[Policy]) -> PolicyStage {
    PolicyStage::new(base(), policies)
}

fn request(tunnel: TunnelName, path: &str, body: &'static str) -> Request {
    Request {
        head: RequestHead {
            kind: RequestKind::Http,
            method: Method::POST,
            scheme: Scheme::Https,
            // What the visitor writes doesn't choose: the tunnel does.
            authority: "anything.example.org".to_owned(),
            target: path.parse::<PathAndQuery>().unwrap(),
            headers: HeaderMap::new(),
        },
        body: Body::full(body),
        context: Context {
            exchange: ExchangeId(1),
            tunnel,
            visitor: None,
            tls: None,
            notes: Default::default(),
            interim: None,
            witness: None,
        },
    }
}

async fn met(stage: &PolicyStage, tunnel: TunnelName, path: &str) -> String {
    use http_body_util::BodyExt;
    match stage.forward(request(tunnel, path, "")).await {
        Ok(Answer::Http(response)) => {
            String::from_utf8(response.body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
        }
        Ok(Answer::WebSocket(_)) => unreachable!("nobody asked for one"),
        Err(error) => error.kind().code().to_owned(),
    }
}

#[tokio::test]
async fn the_first_that_fits_counts_and_the_others_pass() {
    let stage = stage(&[
        policy("admin", "*.example.com", Some("/admin/*")),
        policy("a", &tunnel('a').to_string(), None),
        policy("elsewhere", "*.example.org", None),
    ]);
    for (name, path, meets) in [
        ('a', "/admin", "admin"),
        ('b', "/admin/x?y=/", "admin"),
        ('a', "/adminx", "a"),
        ('b', "/adminx", "bus"),
        ('b', "/x?/admin/", "bus"),
    ] {
        assert_eq!(met(&stage, tunnel(name), path).await, meets, "{name} {path}");
    }
}

#[tokio::test]
async fn no_disguise_gets_past_a_guarded_path() {
    let stage = stage(&[policy("guard", "*", Some("/admin/*"))]);
    for path in [
        "/%61dmin/",
        "//admin/x",
        "/x/../admin",
        "/./admin",
        "/admin/../public",
        "/x%2F..%2Fadmin/",
        "/admin;x=1/y",
        "/x\\..\\admin",
        "/%2e%2e/admin",
        "/admin%2fx",
    ] {
        let meets = met(&stage, tunnel('a'), path).await;
        assert!(["guard", "bad-request"].contains(&meets.as_str()), "{path} meets {meets}");
    }
    for path in ["/public//x", "/public/%2e%2e/x", "/a%2Fb", "/public;v=1"] {
        assert_eq!(met(&stage, tunnel('a'), path).await, "bus", "{path} is nobody's business");
    }
}

#[tokio::test]
async fn limits_are_the_proxys_unless_a_policy_has_its_own() {
    let mut wide = policy("wide", "*", Some("/wide"));
    wide.limits.max_body = Some(None);
    let stage = stage(&[wide, policy("narrow", "*", Some("/narrow"))]);
    let answer = |path: &'static str| stage.forward(request(tunnel('a'), path, "more than ten bytes"));
    assert!(answer("/wide").await.is_ok());
    for path in ["/narrow", "/other"] {
        assert_eq!(answer(path).await.unwrap_err().kind(), ErrorKind::RequestTooLarge { limit: 10 });
    }
}

#[tokio::test]
async fn an_exchange_ends_under_the_policy_it_began_with() {
    struct Slow(Mutex<Option<tokio::sync::oneshot::Receiver<()>>>);
    impl Forward for Slow {
        fn forward(&self, request: Request) -> ForwardFuture<'_> {
            let gate = self.0.lock().unwrap().take();
            Box::pin(async move {
                if let Some(gate) = gate {
                    gate.await.unwrap();
                }
                Named("slow", None).forward(request).await
            })
        }
    }
    let (open, gate) = tokio::sync::oneshot::channel();
    let slow: Arc<dyn Forward> = Arc::new(Slow(Mutex::new(Some(gate))));
    let mut first = policy("", "*", None);
    first.stages = Arc::new(move |_| Arc::clone(&slow));
    let stage = stage(&[first]);
    let mut under_way = Box::pin(met(&stage, tunnel('a'), "/"));
    assert!(futures_util::poll!(&mut under_way).is_pending());
    stage.replace(&[policy("second", "*", None)]);
    assert_eq!(met(&stage, tunnel('a'), "/").await, "second");
    open.send(()).unwrap();
    assert_eq!(under_way.await, "slow");
    stage.replace(&[]);
    assert_eq!(met(&stage, tunnel('a'), "/").await, "bus");
}

#[tokio::test(start_paused = true)]
async fn what_was_used_of_a_rate_stays_used_while_the_rate_stays() {
    let one = std::num::NonZeroU32::MIN;
    let seldom = |burst| {
        let mut policy = policy("seldom", "*", None);
        policy.limits.rate = Some(Some(Rate { tokens: one, per: Duration::from_secs(60), burst }));
        policy
    };
    let stage = stage(&[seldom(one)]);
    assert_eq!(met(&stage, tunnel('a'), "/").await, "seldom");
    stage.replace(&[policy("other", "*", Some("/x")), seldom(one)]);
    assert_eq!(met(&stage, tunnel('a'), "/").await, "too-many-requests");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(met(&stage, tunnel('a'), "/").await, "seldom");
    stage.replace(&[seldom(one.saturating_add(1))]);
    assert_eq!(met(&stage, tunnel('a'), "/").await, "seldom", "another rate begins anew");
}

#[tokio::test]
async fn a_rate_is_counted_together_where_the_same_policy_holds() {
    // Of its own domain, so that no other test counts.
    let domain = prefix();
    let rate = |tokens, burst: u32| {
        let number = |n| std::num::NonZeroU32::new(n).unwrap();
        Rate { tokens: number(tokens), per: Duration::from_secs(3600), burst: number(burst) }
    };
    let limited = |name, path, rate| {
        let mut policy = policy(name, "*", path);
        policy.limits.rate = Some(Some(rate));
        policy
    };
    let node = |policies: &[Policy]| {
        let (domain, redis) = (domain.clone(), Some(redis()));
        PolicyStage::new(Base { domain, redis, rate: Some(rate(1, 1)), ..base() }, policies)
    };
    let api = limited("api", Some("/api/*"), rate(1, 2));
    let open = policy("open", "*", Some("/open"));
    let nodes = [node(std::slice::from_ref(&api)), node(&[open, api.clone()])];
    for node in &nodes {
        assert_eq!(met(node, tunnel('a'), "/api").await, "api");
    }
    // Whoever asks, and after a change elsewhere or a start.
    nodes[0].replace(&[limited("new", Some("/new"), rate(1, 2)), api.clone()]);
    for node in [&nodes[0], &nodes[1], &node(&[api])] {
        assert_eq!(met(node, tunnel('a'), "/api").await, "too-many-requests");
    }
    // Another path, tunnel, burst or rate is another bucket, and so is the proxy's own.
    assert_eq!(met(&nodes[0], tunnel('a'), "/new").await, "new");
    assert_eq!(met(&nodes[0], tunnel('b'), "/api").await, "api");
    for (tokens, burst) in [(1, 3), (2, 2)] {
        nodes[0].replace(&[limited("api", Some("/api/*"), rate(tokens, burst))]);
        assert_eq!(met(&nodes[0], tunnel('a'), "/api").await, "api");
    }
    assert_eq!(met(&nodes[0], tunnel('a'), "/").await, "bus");
    // Policies without a rate of their own count with it.
    assert_eq!(met(&nodes[1], tunnel('a'), "/open").await, "too-many-requests");
}

#[test]
fn a_policy_behind_one_that_takes_everything_is_unreachable() {
    let all = policy("", "*", None);
    let api = policy("", "*.example.com", Some("/api/*"));
    assert!(all.shadows(&api) && !api.shadows(&all));
    assert!(policy("", "*", Some("/*")).shadows(&all));
    assert!(!policy("", "*", Some("/api/*")).shadows(&policy("", "*", None)));
}

proptest! {
    /// However a path is written, what an origin would make of it in any of the usual ways is under the guard, or the
    /// request is refused.
    #[test]
    fn a_guarded_path_stays_guarded(path in "/(admin|x|\\.\\.|\\.|%2e%2e|%2F|;a|\\\\|/|%61dmin){0,6}(/admin)?(/x)?") {
        let guard: [Policy; 1] = [policy("guard", "*", Some("/admin/*"))];
        let patterns = guard.iter().map(|policy| (&policy.domain, policy.path.as_ref()));
        let chosen = choose(patterns, &tunnel('a'), "example.com", &path);
        let guarded = path::readings(&path).iter().any(|reading| {
            **reading == *b"/admin" || reading.starts_with(b"/admin/")
        });
        match chosen {
            Ok(None) => prop_assert!(!guarded, "{path}"),
            Ok(Some(_)) => prop_assert!(guarded, "{path}"),
            Err(Ambiguous) => prop_assert!(guarded, "{path} is refused for nothing"),
        }
    }
}

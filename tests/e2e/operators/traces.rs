//! Traces of a real proxy and a real client, as a collector gets them, and the headers that carry them to the service.

use crate::harness::{
    Collector, Origin, Setup, Tunnel, collector::Span, compiled, guest, origin::ok, path_text,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}")
}

/// Both ends export there; `more` is the rest of the proxy's `[traces]`, and its further tables.
async fn start(collector: &Collector, origin: &str, more: &str) -> Tunnel {
    let both = format!("[traces]\notlp = '{}'\n", collector.url());
    let (wasm, cache) = (guest("hostile"), compiled());
    let flag = format!("{}?on-request=mark:client", path_text(&wasm));
    let proxy = format!("{both}{more}");
    let setup = Setup::new().proxy_file(&proxy).client_file(&both).proxy(&["--plugin-cache", &cache]);
    setup.client(&["--plugin-cache", &cache, "--plugin", &flag]).start(origin).await
}

#[track_caller]
fn one<'a>(spans: &'a [Span], service: &str, name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.service == service && span.name == name).collect();
    assert_eq!(found.len(), 1, "{service} {name} in {spans:#?}");
    found[0]
}

async fn ends(mut tunnel: Tunnel) {
    assert_eq!(tunnel.client.process.stop().await.code, Some(0));
    assert_eq!(tunnel.proxy.process.stop().await.code, Some(0));
}

#[tokio::test]
async fn one_trace_from_the_visitor_to_the_service_with_plugins_at_both_ends() {
    let (collector, origin) = (Collector::start().await, Origin::start().await.answering(|_| ok("traced")));
    let wasm = guest("hostile");
    let more = format!(
        "trust = 'everybody'\n[[plugin]]\nname = 'mark'\nfile = {wasm:?}\n\
         config = {{ on-request = 'mark:p', on-response = 'mark:p' }}\n[[policy]]\ndomain = '*'\nplugins = ['mark']\n"
    );
    let tunnel = start(&collector, &origin.url(), &more).await;
    let parent = traceparent("01");
    let fields = [parent.as_str(), "tracestate: rojo=1", "User-Agent: test/1"];
    let reply = tunnel.ask("GET /path?token=hidden", &fields).await.reply("GET").await;
    assert_eq!((reply.status(), reply.text().as_str()), (200, "traced"));
    let label = tunnel.client.label().to_owned();
    let got = origin.seen()[0].head.texts("traceparent");
    assert_eq!(origin.seen()[0].head.texts("tracestate"), ["rojo=1"]);
    ends(tunnel).await;

    let spans = collector.at_least(7).await;
    let (proxy, client) = ("tunnel-proxy", "tunnel-client");
    let server = one(&spans, proxy, "GET");
    let hop = one(&spans, proxy, "GET tunnel");
    let inward = one(&spans, client, "GET");
    let outward = one(&spans, client, "GET origin");
    let asked = one(&spans, proxy, "plugin mark on-request");
    let answered = one(&spans, proxy, "plugin mark on-response");
    let at_client = one(&spans, client, "plugin hostile on-request");
    assert_eq!(server.parent, PARENT);
    for (span, parent) in [
        (hop, server),
        (inward, hop),
        (outward, inward),
        (asked, server),
        (answered, server),
        (at_client, inward),
    ] {
        assert_eq!((&span.parent, span.trace.as_str()), (&parent.id, TRACE), "{} in {spans:#?}", span.name);
    }
    assert_eq!(got, [format!("00-{TRACE}-{}-01", outward.id)], "the service is told its parent");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/path"),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "test/1"),
        ("tunnel.name", &label),
        ("tunnel.session", "1"),
    ] {
        assert_eq!(server.attributes.get(key).map(String::as_str), Some(value), "{key} in {server:#?}");
    }
    assert_eq!(asked.attributes["tunnel.plugin.verdict"], "forward");
    assert_eq!(server.attributes["tunnel.exchange"], outward.attributes["tunnel.exchange"]);
    assert!(!spans.iter().any(|span| span.failed), "{spans:#?}");
    assert!(!format!("{spans:?}").contains("hidden"), "a query is the visitor's own");
}

#[tokio::test]
async fn a_visitor_chooses_the_trace_but_not_that_it_is_recorded() {
    let (collector, origin) = (Collector::start().await, Origin::start().await.answering(|_| ok("")));
    let tunnel = start(&collector, &origin.url(), "ratio = 0.0\n").await;
    assert_eq!(tunnel.ask("GET /sampled", &[&traceparent("01")]).await.reply("GET").await.status(), 200);
    assert_eq!(tunnel.get("/fresh").await.status(), 200);
    let got: Vec<String> =
        origin.seen().iter().flat_map(|request| request.head.texts("traceparent")).collect();
    ends(tunnel).await;
    assert!(got[0].starts_with(&format!("00-{TRACE}-")) && got[0].ends_with("-00"), "{got:?}");
    assert!(!got[0].contains(PARENT), "{got:?}");
    assert!(got[1].ends_with("-00") && !got[1].contains(TRACE), "{got:?}");
    assert_eq!(collector.spans().len(), 0, "{:#?}", collector.spans());
}

#[tokio::test]
async fn a_parent_that_is_none_begins_a_trace_anew() {
    let (collector, origin) = (Collector::start().await, Origin::start().await.answering(|_| ok("")));
    let tunnel = start(&collector, &origin.url(), "trust = 'everybody'\n").await;
    let fields = [format!("traceparent: 00-{TRACE}-0000000000000000-01"), "tracestate: rojo=1".to_owned()];
    let fields = fields.each_ref().map(String::as_str);
    assert_eq!(tunnel.ask("GET /", &fields).await.reply("GET").await.status(), 200);
    assert!(!origin.seen()[0].head.has("tracestate"));
    ends(tunnel).await;
    let spans = collector.at_least(5).await;
    let server = one(&spans, "tunnel-proxy", "GET");
    assert!(server.parent.is_empty() && server.trace != TRACE, "{server:#?}");
}

#[tokio::test]
async fn failures_are_errors_of_whoever_made_them() {
    let (collector, origin) = (Collector::start().await, Origin::start().await);
    let url = origin.url();
    let tunnel = start(&collector, &url, "").await;
    drop(origin);
    tunnel.get("/").await.explained(502, "origin-unreachable");
    ends(tunnel).await;
    let spans = collector.at_least(5).await;
    for (service, name) in
        [("tunnel-proxy", "GET"), ("tunnel-proxy", "GET tunnel"), ("tunnel-client", "GET origin")]
    {
        let span = one(&spans, service, name);
        assert!(span.failed && span.attributes["error.type"] == "origin-unreachable", "{span:#?}");
    }
    assert_eq!(one(&spans, "tunnel-proxy", "GET").attributes["http.response.status_code"], "502");
}

#[tokio::test]
async fn where_nothing_is_exported_the_headers_pass_as_they_came() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let tunnel = Tunnel::to(&origin.url()).await;
    let parent = traceparent("01");
    assert_eq!(tunnel.ask("GET /", &[&parent, "tracestate: rojo=1"]).await.reply("GET").await.status(), 200);
    assert_eq!(tunnel.get("/").await.status(), 200);
    let seen = origin.seen();
    assert_eq!(seen[0].head.texts("traceparent"), [format!("00-{TRACE}-{PARENT}-01")]);
    assert_eq!(seen[0].head.texts("tracestate"), ["rojo=1"]);
    assert!(!seen[1].head.has("traceparent"), "none is made up");
}

//! The plugin against a fake host.

use guest_sdk::testing::{Host, Loaded, answer, get};

use super::*;

fn rewrite(config: &str) -> Loaded<Rewrite> {
    Host::new().load(config)
}

#[test]
fn the_first_path_that_fits_counts() {
    let plugin = rewrite(
        "paths = [{ from = '/api', to = '/v2' }, { from = '/old/', to = '/' }, { from = '/api', to = '/never' }]",
    );
    for (path, expected) in [
        ("/api", "/v2"),
        ("/api/users?page=2", "/v2/users?page=2"),
        ("/api?x", "/v2?x"),
        ("/apiary", "/apiary"),
        ("/old/page%2F1", "/page%2F1"),
    ] {
        assert_eq!(plugin.request(get(path)).forwarded().path, expected);
    }
}

#[test]
fn hosts_and_headers_are_changed() {
    let plugin = rewrite(
        "authority = 'app.internal:8080'
        request = { set = [['x-from', 'tunnel']], remove = ['cookie'] }
        response = { set = [['x-frame-options', 'DENY']], remove = ['server'] }",
    );
    let exchange = plugin.request(get("/").header("cookie", "a=b")).forwarded();
    assert_eq!(exchange.authority, "app.internal:8080");
    assert_eq!((exchange.header("x-from"), exchange.header("cookie")), (Some("tunnel"), None));
    let response = exchange.response(answer(200).with("server", "old/1.0").body("as it is")).forwarded();
    assert_eq!((response.header("x-frame-options"), response.header("server")), (Some("DENY"), None));
    assert_eq!(response.text(), "as it is");
}

#[test]
fn a_snippet_goes_into_pages_wherever_they_are_cut() {
    let plugin = rewrite("inject = '<script></script>'");
    let page = "<body>a < b</b></BODY></html></body>";
    for cut in 0..=page.len() {
        let exchange = plugin.request(get("/").header("accept-encoding", "gzip")).forwarded();
        assert_eq!(exchange.header("accept-encoding"), None);
        let (start, end) = page.split_at(cut);
        let response = answer(200).with("content-type", "text/html; charset=utf-8").pieces([start, end]);
        let text = exchange.response(response).forwarded().text();
        assert_eq!(text, "<body>a < b</b><script></script></BODY></html></body>", "cut at {cut}");
    }
}

#[test]
fn only_pages_that_can_be_read_are_changed() {
    let plugin = rewrite("inject = '!'");
    let page = |kind: &str| answer(200).with("content-type", kind).body("</body>");
    let through = |response| plugin.request(get("/")).forwarded().response(response).forwarded().text();
    assert_eq!(through(page("text/html")), "!</body>");
    assert_eq!(through(page("text/plain")), "</body>");
    assert_eq!(through(page("text/html").with("content-encoding", "br")), "</body>");
    // A page that ends in the middle loses nothing.
    assert_eq!(through(answer(200).with("content-type", "text/html").pieces(["a</bo"])), "a</bo");
}

#[test]
fn events_are_changed_one_by_one_wherever_they_are_cut() {
    let plugin = rewrite("events = [{ find = 'secret', replace = '*' }, { find = 'ä', replace = 'ae' }]");
    let stream = "id: secret\ndata: a secret\ndata: ä\n\n: comment\r\n\r\ndata: last secret";
    for cut in 0..=stream.len() {
        let (start, end) = stream.as_bytes().split_at(cut);
        let response = answer(200).with("content-type", "text/event-stream").pieces([start, end]);
        let text = plugin.request(get("/")).forwarded().response(response).forwarded().text();
        assert_eq!(text, "id: secret\ndata: a *\ndata: ae\n\n: comment\r\n\r\ndata: last *", "cut at {cut}");
    }
}

#[test]
fn an_event_goes_on_as_soon_as_it_is_whole() {
    let plugin = rewrite("events = [{ find = 'a', replace = 'b' }]");
    let response =
        answer(200).with("content-type", "text/event-stream").pieces(["data: a\n", "\ndata: a", "\n\n"]);
    let response = plugin.request(get("/")).forwarded().response(response).forwarded();
    assert_eq!(response.pieces, [&b"data: b\n\n"[..], b"data: b\n\n"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fault =
        |config: &str| Host::new().try_load::<Rewrite>(config).err().expect("it is wrong").to_string();
    assert_eq!(
        fault("paths = [{ from = 'api', to = '/' }]"),
        "paths: a path begins with /, not as \"api\" does"
    );
    assert_eq!(
        fault("events = [{ find = '', replace = '' }]"),
        "events: `find` is empty, which stands everywhere"
    );
}

#[test]
fn a_prefix_may_be_taken_off() {
    let plugin = rewrite("paths = [{ from = '/api', to = '/' }, { from = '/old/', to = '/new' }]");
    for (path, expected) in [
        ("/api/users?p=2", "/users?p=2"),
        ("/api", "/"),
        ("/api?x", "/?x"),
        ("/old/a", "/new/a"),
        ("/old/", "/new/"),
    ] {
        assert_eq!(plugin.request(get(path)).forwarded().path, expected);
    }
}

#[test]
fn event_streams_come_uncompressed_too() {
    let plugin = rewrite("events = [{ find = 'a', replace = 'b' }]");
    let exchange = plugin.request(get("/").header("accept-encoding", "gzip")).forwarded();
    assert_eq!(exchange.header("accept-encoding"), None);
}

#[test]
fn a_part_of_a_page_stays_what_its_range_says() {
    let part =
        answer(206).with("content-type", "text/html").with("content-range", "bytes 0-6/9").body("</body>");
    let response = rewrite("inject = '!'").request(get("/")).forwarded().response(part).forwarded();
    assert_eq!(response.text(), "</body>");
}

/// The pieces that go on of an event stream that comes in these.
fn events<T: AsRef<[u8]>>(pieces: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    let plugin = rewrite("events = [{ find = 'secret', replace = '*' }]");
    let response = answer(200).with("content-type", "text/event-stream").pieces(pieces);
    plugin.request(get("/")).forwarded().response(response).forwarded().pieces
}

#[test]
fn lines_of_events_end_in_three_ways() {
    for end in ["\n", "\r\n", "\r"] {
        let event = format!("event: a{end}data: secret{end}data: secret{end}{end}");
        let expected = event.replace("secret", "*");
        assert_eq!(events([&event, &event]), [expected.as_bytes(), expected.as_bytes()], "{end:?}");
        for cut in 0..event.len() {
            let (start, end) = event.split_at(cut);
            assert_eq!(events([start, end]).concat(), expected.as_bytes(), "cut at {cut}");
        }
    }
    assert_eq!(events(["data: secret\r\n\n", "data: 2\n\n"]).len(), 2);
}

#[test]
fn an_event_too_long_to_be_kept_passes_as_it_is_and_the_next_is_changed() {
    let long = format!("data: secret{}", "x".repeat(40_000));
    for end in ["\n\n", "\r\n\r\n", "\r\r"] {
        let text = format!("{long}\ndata: secret{end}data: secret{end}");
        let expected = format!("{long}\ndata: secret{end}data: *{end}");
        // Up to before the empty line: an event that is there in one piece is changed, however long.
        let inside = long.len() + "\ndata: secret".len() + end.len() / 2;
        for cut in long.len()..=inside {
            let (start, rest) = text.split_at(cut);
            assert_eq!(
                String::from_utf8(events([start, "", rest]).concat()).as_deref(),
                Ok(&*expected),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn many_small_events_in_one_piece_take_little_time() {
    // Of 1 MiB, so that what looks at all of the rest for each event shows: it would take minutes.
    let many = "data: secret\n\n".repeat(75_000);
    assert_eq!(events([&many]).concat(), "data: *\n\n".repeat(75_000).as_bytes());
}

#[test]
fn what_the_host_would_refuse_is_told_before_any_visitor_comes() {
    let fault =
        |config: &str| Host::new().try_load::<Rewrite>(config).err().expect("it is wrong").to_string();
    assert!(fault("request.set = [['a b', 'c']]").starts_with("request: \"a b\" is no name"));
    assert!(fault("response.remove = ['a b']").starts_with("response: \"a b\" is no name"));
    assert!(fault("response.set = [['a', \"b\\nc\"]]").starts_with("response: "));
    assert!(fault("authority = 'a b'").starts_with("authority: "));
    assert!(fault("paths = [{ from = '/a', to = '/b c' }]").starts_with("paths: "));
    assert!(fault("events = [{ find = 'a', replace = \"b\\n\" }]").starts_with("events: "));
}

use super::*;

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    map
}

fn list(map: &HeaderMap) -> Vec<(&str, &str)> {
    map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
}

fn arrive(headers: &mut HeaderMap, peer: &str, trusted: &[&str]) -> Visitor {
    let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
    let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
    let arrival = Arrival { peer, scheme: Scheme::Http, authority: "a.example.com:6519", trusted: &trusted };
    request(headers, RequestKind::Http, &arrival, &Description::of(&arrival))
}

const OURS: [(&str, &str); 4] = [
    ("x-forwarded-for", "192.0.2.1"),
    ("forwarded", r#"for=192.0.2.1;host="a.example.com:6519";proto=http"#),
    ("x-forwarded-host", "a.example.com:6519"),
    ("x-forwarded-proto", "http"),
];

#[test]
fn end_to_end_headers_keep_their_order_and_repeats() {
    let kept = [("b", "1"), ("b", "2"), ("a", "3"), ("cookie", "x=1"), ("cookie", "y=2"), ("trailer", "sum")];
    let mut headers = map(&[("host", "a.example.com"), ("connection", "keep-alive")]);
    headers.extend(map(&kept));
    headers.extend(map(&[("keep-alive", "timeout=5"), ("z", "end")]));
    arrive(&mut headers, "192.0.2.1", &[]);
    assert_eq!(list(&headers), [&kept[..], &[("z", "end")], &OURS].concat());
}

#[test]
fn what_belongs_to_one_hop_comes_off() {
    let mut headers = map(&[
        ("connection", "close, X-Mine"),
        ("connection", "x-other"),
        ("x-mine", "1"),
        ("X-Other", "2"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("te", "gzip"),
    ]);
    arrive(&mut headers, "192.0.2.1", &[]);
    assert_eq!(list(&headers), OURS);
}

/// The class of CVE-2024-45410: `Connection` must not take off what is set afterwards.
#[test]
fn connection_cannot_name_away_what_we_set() {
    let mut headers =
        map(&[("connection", "X-Forwarded-Host, X-Forwarded-For, Forwarded, TE"), ("te", "trailers")]);
    arrive(&mut headers, "192.0.2.1", &[]);
    assert_eq!(list(&headers), [&[("te", "trailers")], &OURS[..]].concat());
}

#[test]
fn te_keeps_exactly_trailers() {
    let mut headers = map(&[("te", "deflate;q=0.5, Trailers"), ("te", "gzip")]);
    arrive(&mut headers, "192.0.2.1", &[]);
    assert_eq!(list(&headers)[0], ("te", "trailers"));
    assert_eq!(headers.len(), 5);
}

#[test]
fn a_stranger_is_not_believed_by_any_spelling() {
    let mut headers = map(&[
        ("x-forwarded-for", "10.0.0.1"),
        ("X_Forwarded_For", "10.0.0.1"),
        ("x-forwarded_proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-real-ip", "10.0.0.1"),
        ("x_real_ip", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-forwarded-host", "bank.example"),
        ("tunnel-error", "none"),
        ("Tunnel_Request_Id", "1"),
        ("tunneled", "stays"),
    ]);
    let visitor = arrive(&mut headers, "192.0.2.1", &["10.0.0.0/8"]);
    assert_eq!(list(&headers), [&[("tunneled", "stays")], &OURS[..]].concat());
    assert_eq!(visitor.address, "192.0.2.1:4711".parse().unwrap());
    assert_eq!(visitor.scheme, Scheme::Http);
}

#[test]
fn a_trusted_proxy_is_believed_up_to_the_first_stranger() {
    let mut headers = map(&[
        ("x-forwarded-for", "203.0.113.9, 198.51.100.7"),
        ("x-forwarded-for", "10.0.0.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("forwarded", "for=198.51.100.7"),
        ("x_forwarded_for", "127.0.0.1"),
    ]);
    let visitor = arrive(&mut headers, "::ffff:10.0.0.1", &["10.0.0.0/8"]);
    assert_eq!(visitor.address.ip(), "198.51.100.7".parse::<IpAddr>().unwrap());
    assert_eq!(visitor.scheme, Scheme::Https);
    let told = [
        ("x-forwarded-for", "198.51.100.7, 10.0.0.2, 10.0.0.1"),
        (
            "forwarded",
            r#"for=198.51.100.7;host="a.example.com:6519";proto=https, for=10.0.0.2, for=10.0.0.1;host="a.example.com:6519";proto=http"#,
        ),
        ("x-forwarded-host", "a.example.com:6519"),
        ("x-forwarded-proto", "https"),
    ];
    assert_eq!(list(&headers), told);
}

/// A server in front that sets two of the headers and passes on the rest as they come, as most do by default.
#[test]
fn a_visitor_behind_a_careless_server_forges_nothing() {
    let mut headers = map(&[
        ("connection", "X-Forwarded-For, X-Forwarded-Proto"),
        ("x-forwarded-for", "127.0.0.1, 10.0.0.9"),
        ("forwarded", "for=127.0.0.1;host=bank.example;proto=https"),
        ("x-forwarded-host", "bank.example"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-prefix", "//bank.example"),
        ("x-real-ip", "127.0.0.1"),
        ("X_Forwarded_For", "127.0.0.1"),
        // What the server appends.
        ("x-forwarded-for", "198.51.100.7"),
        ("x-forwarded-proto", "https, http"),
    ]);
    let visitor = arrive(&mut headers, "10.0.0.1", &["10.0.0.0/8", "127.0.0.0/8"]);
    assert_eq!(visitor, Visitor { address: "198.51.100.7:0".parse().unwrap(), scheme: Scheme::Http });
    let told = [
        ("x-forwarded-for", "198.51.100.7, 10.0.0.1"),
        (
            "forwarded",
            r#"for=198.51.100.7;host="a.example.com:6519";proto=http, for=10.0.0.1;host="a.example.com:6519";proto=http"#,
        ),
        ("x-forwarded-host", "a.example.com:6519"),
        ("x-forwarded-proto", "http"),
    ];
    assert_eq!(list(&headers), told);
}

#[test]
fn an_unreadable_entry_ends_the_chain() {
    let mut headers = map(&[("x-forwarded-for", "203.0.113.9, unknown, 10.0.0.2")]);
    let visitor = arrive(&mut headers, "10.0.0.1", &["10.0.0.0/8"]);
    assert_eq!(visitor.address, "10.0.0.2:0".parse().unwrap());
    assert_eq!(headers["x-forwarded-for"], "10.0.0.2, 10.0.0.1");
}

#[test]
fn addresses_with_ports_and_brackets_are_read() {
    for (text, address) in [
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("[2001:db8::1]", "[2001:db8::1]:0"),
        ("1.2.3.4:5", "1.2.3.4:5"),
    ] {
        assert_eq!(parse_address(text), Some(address.parse().unwrap()));
    }
    assert_eq!(parse_address("_hidden"), None);
}

#[test]
fn ipv6_is_quoted_and_bracketed_in_forwarded_only() {
    let mut headers = HeaderMap::new();
    arrive(&mut headers, "2001:db8::1", &[]);
    assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
    assert_eq!(headers["forwarded"], r#"for="[2001:db8::1]";host="a.example.com:6519";proto=http"#);
}

#[test]
fn a_websocket_request_loses_the_handshake_of_its_hop() {
    let mut headers = map(&[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-protocol", "chat"),
        ("origin", "http://a.example.com"),
    ]);
    let peer = "192.0.2.1:1".parse().unwrap();
    let arrival = Arrival { peer, scheme: Scheme::Http, authority: "a.example.com:6519", trusted: &[] };
    request(&mut headers, RequestKind::WebSocket, &arrival, &Description::of(&arrival));
    let kept = [("sec-websocket-protocol", "chat"), ("origin", "http://a.example.com")];
    assert_eq!(list(&headers), [&kept[..], &OURS].concat());
}

#[test]
fn a_clean_response_is_left_as_it_is_and_an_unclean_one_keeps_its_order() {
    let clean = [("b", "1"), ("set-cookie", "x"), ("set-cookie", "y"), ("a", "2"), ("trailer", "sum")];
    let mut headers = map(&clean);
    response(&mut headers);
    assert_eq!(list(&headers), clean);
    headers = map(&[("connection", "b2"), ("tunnel-error", "none"), ("proxy-authenticate", "Basic")]);
    headers.extend(map(&clean));
    headers.extend(map(&[("b2", "x"), ("keep-alive", "timeout=5")]));
    response(&mut headers);
    assert_eq!(list(&headers), clean);
}

#[test]
fn trailers_carry_neither_framing_nor_claims() {
    let mut headers = map(&[
        ("content-length", "5"),
        ("grpc-status", "0"),
        ("transfer-encoding", "chunked"),
        ("x-forwarded-for", "10.0.0.1"),
        ("tunnel-error", "none"),
        ("host", "b"),
        ("sum", "1"),
    ]);
    trailers(&mut headers);
    assert_eq!(list(&headers), [("grpc-status", "0"), ("sum", "1")]);
}

#[test]
fn a_visitor_who_names_no_host_gets_none() {
    let mut headers = HeaderMap::new();
    let peer = "192.0.2.1:1".parse().unwrap();
    let arrival = Arrival { peer, scheme: Scheme::Http, authority: "", trusted: &[] };
    request(&mut headers, RequestKind::Http, &arrival, &Description::of(&arrival));
    assert_eq!(headers["forwarded"], "for=192.0.2.1;proto=http");
    assert!(!headers.contains_key("x-forwarded-host"));
}

/// GHSA-5m6w-wvh7-57vm, CVE-2025-64484: gateways that make variables of headers read `_` as `-`.
#[test]
fn what_gateways_would_read_as_ours_comes_off() {
    let mut headers = map(&[
        ("content_length", "5"),
        ("Transfer_Encoding", "chunked"),
        ("transfer-encoding_", "chunked"),
        ("Keep_Alive", "1"),
        ("proxy_authorization", "Basic x"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("x-real_ip", "6.6.6.6"),
        ("Tunnel_Request_Id", "forged"),
        ("http2_settings", "x"),
        ("api_key", "k"),
        ("x_own", "1"),
    ]);
    arrive(&mut headers, "1.2.3.4", &[]);
    let names: Vec<_> = list(&headers).into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names[..3], ["transfer-encoding_", "api_key", "x_own"]);
    assert!(names[3..].iter().all(|name| !name.contains('_')), "{names:?}");
    let mut headers = map(&[("content_length", "5"), ("x_forwarded_for", "6.6.6.6"), ("sum_1", "x")]);
    trailers(&mut headers);
    assert_eq!(list(&headers), [("sum_1", "x")]);
}

#[test]
fn aliases_of_what_a_plugin_says_come_off() {
    let mut headers =
        map(&[("x_user-id", "forged"), ("x-user-id", "1"), ("x-user-ids", "2"), ("X_USER_ID", "forged")]);
    without_aliases(&mut headers, &HeaderName::from_static("x-user-id"));
    assert_eq!(list(&headers), [("x-user-id", "1"), ("x-user-ids", "2")]);
}

use super::*;

fn target(text: &str) -> String {
    match text.parse::<Target>().unwrap_or_else(|wrong| panic!("{text}: {wrong}")) {
        Target::Origin(origin) => origin.to_string(),
        Target::Name(name) => format!("name {name}"),
    }
}

fn refusal<T: FromStr<Err = Wrong> + fmt::Debug>(text: &str) -> String {
    text.parse::<T>().unwrap_err().to_string()
}

#[test]
fn a_target_is_a_port_an_address_a_url_or_a_name() {
    for (text, expected) in [
        ("3000", "http://localhost:3000"),
        ("db.lan:80", "http://db.lan:80"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("HTTPS://Example.com/", "https://example.com"),
        ("https://[::1]", "https://[::1]"),
        ("web", "name web"),
        ("my-app_2", "name my-app_2"),
        ("localhost", "name localhost"),
    ] {
        assert_eq!(target(text), expected, "{text}");
    }
}

#[test]
fn a_wrong_target_is_told_what_to_write() {
    for (text, says) in [
        ("", "write a port (3000)"),
        ("example.com", "a URL (https://db.lan)"),
        ("0", "1 to 65535"),
        ("70000", "1 to 65535"),
        ("localhost:0", "1 to 65535"),
        ("localhost:99999", "1 to 65535"),
        ("localhost:", "1 to 65535"),
        (":3000", "the host is missing"),
        ("http://localhost:3000/api", "it takes no path or query; write http://localhost:3000"),
        ("http://localhost:3000?a=1", "write http://localhost:3000"),
        ("http://localhost#top", "write http://localhost"),
        ("localhost:3000/api", "it takes no path"),
        ("ftp://localhost", "one of: http, https"),
        ("http://a:b@localhost", "leave out what is before the @"),
        ("a b:80", "no host and port"),
        ("http://", "no host and port"),
    ] {
        let why = refusal::<Target>(text);
        assert!(why.contains(says), "{text}: {why}");
    }
}

#[test]
fn an_origin_in_a_file_is_never_a_name() {
    assert!(refusal::<Origin>("web").contains("http://web"));
}

#[test]
fn proxy_urls_lose_the_endpoint_and_refuse_other_paths() {
    let url = |text: &str| text.parse::<ProxyUrl>().unwrap().0.to_string();
    assert_eq!(url("https://example.com"), "https://example.com/");
    assert_eq!(url("ws://localhost:6519/proxy/subscribe"), "ws://localhost:6519/");
    assert_eq!(ProxyUrl::default().0.to_string(), "http://localhost:6519/");
    assert!(refusal::<ProxyUrl>("example.com").contains("write https://example.com"));
    assert!(refusal::<ProxyUrl>("https://example.com/x").contains("write https://example.com"));
}

#[test]
fn public_urls_are_http() {
    assert_eq!("https://Example.com:8443".parse::<PublicUrl>().unwrap().0, "https://example.com:8443/");
    assert!(refusal::<PublicUrl>("wss://example.com").contains("one of: http, https"));
}

#[test]
fn domains_are_names_alone() {
    assert_eq!("Example.COM.".parse(), Ok(Domain("example.com".to_owned())));
    assert_eq!(Domain::default().0, "localhost");
    assert!(refusal::<Domain>("*.example.com").ends_with(": example.com"));
    for text in ["", "https://example.com", "example.com:80", "a..b", "a/b", &"a.".repeat(120)] {
        assert!(refusal::<Domain>(text).contains("tunnel.example.com"), "{text}");
    }
}

#[test]
fn addresses_and_networks() {
    assert_eq!("[::]:0".parse::<Listen>().unwrap().0.port(), 0);
    assert!(refusal::<Listen>("6519").contains("127.0.0.1:6519"));
    assert_eq!("10.0.0.7".parse::<Network>().unwrap().0.to_string(), "10.0.0.7/32");
    assert_eq!("fd00::/8".parse::<Network>().unwrap().0.to_string(), "fd00::/8");
    assert!(refusal::<Network>("lan").contains("10.0.0.0/8"));
}

#[test]
fn host_headers() {
    assert_eq!("keep".parse(), Ok(HostHeader::Keep));
    assert_eq!("origin".parse(), Ok(HostHeader::Origin));
    assert_eq!("app.lan:80".parse(), Ok(HostHeader::Value(HeaderValue::from_static("app.lan:80"))));
    for text in ["", "a b", "a\r\nx: y", "u@h"] {
        assert!(refusal::<HostHeader>(text).contains("keep, origin"), "{text:?}");
    }
}

#[test]
fn session_labels_are_bounded() {
    assert_eq!("blue".parse(), Ok(SessionLabel("blue".to_owned())));
    for text in ["", "a\nb", &"a".repeat(129)] {
        assert!(refusal::<SessionLabel>(text).contains("1 to 128"), "{text:?}");
    }
}

#[test]
fn dialects_are_named_and_at_least_one_is() {
    let read = |text: &str| text.parse::<DialectList>().map(|list| (list.0.v1, list.0.v2));
    assert_eq!(read("v2,v1"), Ok((true, true)));
    assert_eq!(read("v1, v2"), Ok((true, true)));
    assert_eq!(read("v2"), Ok((false, true)));
    for (text, says) in [("", "\"\" is no dialect"), ("v3", "\"v3\" is no dialect"), ("v2,", "is no dialect")]
    {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    #[derive(Debug, Deserialize)]
    struct File {
        dialects: DialectList,
    }
    let file = |text: &str| toml::from_str::<File>(text).map(|file| file.dialects.0.v1);
    assert!(file("dialects = ['v1']").unwrap());
    assert!(file("dialects = []").unwrap_err().to_string().contains("no client could attach"));
}

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const LABEL: &str = "sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq";

fn names(domain: &str, public_url: Option<&str>) -> Names {
    let mut config = crate::proxy::tests::config();
    config.domain = domain.to_owned();
    config.public_url = public_url.map(|url| url.parse().unwrap());
    config.also_known_as = vec!["http://proxy.example.com:80".parse().unwrap()];
    Names::new(&config, "127.0.0.1:6519".parse().unwrap())
}

fn route(authority: &str, path: &str) -> Route {
    let target = Target { authority: authority.to_owned(), path: path.parse().unwrap() };
    names("example.com", Some("https://example.com")).route(&target)
}

fn tunnel(path: &str) -> Route {
    Route::Tunnel { name: LABEL.parse().unwrap(), target: path.parse().unwrap() }
}

#[test]
fn by_host_whatever_case_port_and_dot() {
    let upper = LABEL.to_uppercase();
    for host in [
        format!("{LABEL}.example.com"),
        format!("{upper}.EXAMPLE.com:8443"),
        format!("{LABEL}.example.com.:80"),
        format!("{LABEL}.example.com:"),
    ] {
        assert_eq!(route(&host, "/a%2Fb//../;x?"), tunnel("/a%2Fb//../;x?"), "{host}");
    }
}

#[test]
fn by_path_with_the_prefix_cut_off() {
    for (path, rest) in [
        ("", "/"),
        ("/", "/"),
        ("?", "/?"),
        ("?a=b", "/?a=b"),
        ("//a", "//a"),
        ("/%2e%2e/a%2Fb;c?", "/%2e%2e/a%2Fb;c?"),
        ("/proxy/subscribe", "/proxy/subscribe"),
    ] {
        assert_eq!(route("example.com", &format!("/proxy/request/{LABEL}{path}")), tunnel(rest), "{path}");
    }
    let chosen = Route::Tunnel { name: "short".parse().unwrap(), target: "/x".parse().unwrap() };
    assert_eq!(route("example.com", "/proxy/request/short/x"), chosen);
    assert_eq!(route("example.com", "/proxy/request/a_b/x"), Route::NotAName);
    assert_eq!(route("example.com", "/proxy/request/www.example.org/x"), Route::NotAName, "nobody has it");
    assert_eq!(route("example.com", "/proxy/request/"), Route::NotAName);
}

#[test]
fn a_tunnels_host_has_no_paths_of_ours() {
    let host = format!("{LABEL}.example.com");
    for path in ["/proxy/subscribe", "/healthz", &format!("/proxy/request/{LABEL}/")] {
        assert_eq!(route(&host, path), tunnel(path));
    }
}

#[test]
fn the_proxys_own_hosts() {
    for host in
        ["example.com", "Example.COM.:1", "localhost:6519", "127.0.0.1", "[::1]:6519", "10.1.2.3:1", ""]
    {
        assert_eq!(route(host, "/?x"), Route::Own(Own::Greeting), "{host}");
        assert_eq!(route(host, "/healthz"), Route::Own(Own::Health));
        assert_eq!(route(host, "/readyz"), Route::Own(Own::Ready));
        assert_eq!(route(host, "/proxy/subscribe?v=2"), Route::Own(Own::Subscribe));
        assert_eq!(route(host, "/Healthz"), Route::Own(Own::Other));
    }
    assert_eq!(
        route("proxy.example.com", "/"),
        Route::Own(Own::Greeting),
        "though it stands under the domain"
    );
}

#[test]
fn hosts_of_nobody() {
    for host in [
        "a_b.example.com",
        "-a.example.com",
        &format!("a.{LABEL}.example.com"),
        &format!("{LABEL}{LABEL}.example.com"),
        ".example.com",
    ] {
        assert_eq!(route(host, "/"), Route::NotAName, "{host}");
    }
    for host in
        ["example.org", &format!("{LABEL}.example.org"), "badexample.com", &format!("{LABEL}example.com")]
    {
        assert_eq!(route(host, "/"), Route::UnknownHost, "{host}");
    }
}

#[test]
fn chosen_names_and_listed_hostnames_lead_to_their_tunnels() {
    let names = names("example.com", Some("https://example.com:8443"));
    let [blog, www] = ["blog", "www.example.org"].map(|name| name.parse::<TunnelName>().unwrap());
    let mut rules = Registration::default();
    let domains = vec![www.clone(), "proxy.example.com".parse().unwrap()];
    let rules_of_key = crate::proxy::admission::KeyRules { domains, ..Default::default() };
    rules.keys.insert(LABEL.parse().unwrap(), rules_of_key);
    let asked = |authority: &str, path: &str| match names
        .route(&Target { authority: authority.to_owned(), path: path.parse().unwrap() })
    {
        Route::Tunnel { name, target } => format!("{name} {target}"),
        other => format!("{other:?}"),
    };
    assert_eq!(asked("www.example.org", "/"), "UnknownHost", "before it is listed");
    names.hostnames().replace(&rules);
    for (host, path, leads) in [
        ("Blog.example.com:443", "/x", "blog /x"),
        ("WWW.Example.org.:80", "/proxy/subscribe", "www.example.org /proxy/subscribe"),
        ("example.com", "/proxy/request/www.example.org/x?y", "www.example.org /x?y"),
        ("example.com", "/proxy/request/blog", "blog /"),
        ("example.org", "/", "UnknownHost"),
        ("a.www.example.org", "/", "UnknownHost"),
        // The proxy's own stay its own, whatever is listed.
        ("proxy.example.com", "/x", "Own(Other)"),
    ] {
        assert_eq!(asked(host, path), leads, "{host}{path}");
    }
    assert_eq!(names.public_url_of(&blog), "https://blog.example.com:8443");
    assert_eq!(names.public_url_of(&www), "https://www.example.org:8443");
    assert_eq!(names.hostname_of(&www).as_deref(), Some("www.example.org"));
    let shortest = |name: &str| names.shortest(name.parse().unwrap());
    assert_eq!(shortest("blog.example.com"), Some(blog.clone()));
    assert_eq!(shortest("blog"), Some(blog));
    assert_eq!(shortest("www.example.org"), Some(www));
    assert_eq!(shortest(&format!("{LABEL}.example.com")), None, "nobody chooses a key's name");
}

#[test]
fn public_urls() {
    let name: TunnelName = LABEL.parse().unwrap();
    for (domain, url, base, of) in [
        ("localhost", None, "http://localhost:6519", format!("http://{LABEL}.localhost:6519")),
        (
            "example.com",
            Some("https://example.com"),
            "https://example.com",
            format!("https://{LABEL}.example.com"),
        ),
        ("t.io", Some("http://p.t.io:81"), "http://p.t.io:81", format!("http://{LABEL}.t.io:81")),
        ("::1", None, "http://[::1]:6519", format!("http://[::1]:6519/proxy/request/{LABEL}")),
        ("10.0.0.1", None, "http://10.0.0.1:6519", format!("http://10.0.0.1:6519/proxy/request/{LABEL}")),
    ] {
        let names = names(domain, url);
        assert_eq!(names.public_url(), base);
        assert_eq!(names.public_url_of(&name), of);
    }
}

fn read(method: &str, uri: &str, hosts: &[&str]) -> Result<(String, String), BadTarget> {
    let mut headers = HeaderMap::new();
    for host in hosts {
        headers.append(header::HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
    }
    let method = method.parse().unwrap();
    let target = target(&method, Version::HTTP_11, &uri.parse().unwrap(), &headers)?;
    Ok((target.authority, target.path.to_string()))
}

#[test]
fn targets_that_are_refused() {
    assert_eq!(read("GET", "/", &[]), Err(BadTarget::NoHost));
    assert_eq!(read("GET", "http://a.b/", &[]), Err(BadTarget::NoHost), "RFC 9112 section 3.2");
    assert_eq!(read("GET", "/", &["a", "a"]), Err(BadTarget::TwoHosts));
    assert_eq!(read("CONNECT", "a:443", &["a:443"]), Err(BadTarget::Connect));
    assert_eq!(read("GET", "*", &["a"]), Err(BadTarget::BadPath));
    assert_eq!(read("GET", "a.b", &["a"]), Err(BadTarget::BadPath));
    for host in ["", "a b", "a/b", "user@a", "a:b:c", "é", "http://u@a/"] {
        assert_eq!(read("GET", "/", &[host]), Err(BadTarget::BadHost), "{host}");
    }
    assert_eq!(read("GET", "http://u@a/", &["u@a"]), Err(BadTarget::BadHost));
}

#[test]
fn an_absolute_target_names_the_host_that_host_names() {
    let read = |uri, host| read("GET", uri, &[host]);
    for (uri, host, authority, path) in [
        ("http://A.b:81//x%2Fy/../?", "a.b:81", "A.b:81", "//x%2Fy/../?"),
        ("http://a.b", "A.B", "a.b", "/"),
        ("http://a.b?x", "a.b.:80", "a.b", "/?x"),
        ("http://a.b:/", "a.b:80", "a.b:", "/"),
        ("https://a.b/", "a.b:443", "a.b", "/"),
        ("http://[::1]:80/", "[::1]", "[::1]:80", "/"),
    ] {
        assert_eq!(read(uri, host), Ok((authority.to_owned(), path.to_owned())), "{uri} {host}");
    }
    for (uri, host) in [
        ("http://a.b/", "other"),
        ("http://a.b/", "a.b:81"),
        ("https://a.b/", "a.b:80"),
        ("http://a.b:81/", "a.b"),
        ("http://a.b/", "a.b.c"),
        ("http://[::1]:80/", "[::1]:81"),
    ] {
        assert_eq!(read(uri, host), Err(BadTarget::OtherHost), "{uri} {host}");
    }
}

#[test]
fn options_star_and_http_10_without_host() {
    assert_eq!(read("OPTIONS", "*", &["a"]), Ok(("a".to_owned(), "*".to_owned())));
    let none = target(&Method::GET, Version::HTTP_10, &"/x".parse().unwrap(), &HeaderMap::new()).unwrap();
    assert_eq!(none, Target { authority: String::new(), path: "/x".parse().unwrap() });
}

/// A host of thousands of zeros once ended the session of the tunnel that it named.
#[test]
fn an_authority_is_bounded() {
    for host in [
        format!("x.localhost:{}", "0".repeat(3000)),
        format!("{}.localhost", "x".repeat(300)),
        "x.localhost:70000".into(),
        "x.localhost:-1".into(),
    ] {
        let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
        let uri: Uri = "/".parse().unwrap();
        assert_eq!(target(&Method::GET, Version::HTTP_11, &uri, &headers), Err(BadTarget::BadHost), "{host}");
    }
    for host in ["x.localhost:", "[::1]", "[::1]:80", "x.localhost:80"] {
        let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
        let uri: Uri = "/".parse().unwrap();
        assert!(target(&Method::GET, Version::HTTP_11, &uri, &headers).is_ok(), "{host}");
    }
}

proptest! {
    #[test]
    fn what_is_usual_is_an_authority_to_the_library_too(authority in "[-._~a-zA-Z0-9]{0,9}(:[0-9]{0,6})?") {
        if is_usual(authority.as_bytes()) {
            let parsed: Authority = authority.parse().unwrap();
            let (host, port) = authority.split_once(':').unwrap_or((&authority, ""));
            assert_eq!(parsed.host(), host);
            assert_eq!(parsed.port_u16(), (!port.is_empty()).then(|| port.parse().unwrap()));
        }
    }
}

#[test]
fn what_is_usual_is_known_as_such() {
    for authority in ["a", "A.b-c_d~e.", "127.0.0.1:1", "a:8080", "a:59999"] {
        assert!(is_usual(authority.as_bytes()), "{authority}");
    }
    for authority in
        ["", ":80", "a:", "a:60000", "a:065535", "a:8o", "[::1]", "a:80:80", "a@b", "a,b", "\u{e4}"]
    {
        assert!(!is_usual(authority.as_bytes()), "{authority}");
    }
    for (authority, is_one) in
        [("a:60000", true), ("a:", true), ("a:65536", false), ("a:065535", true), ("[::1]:8", true)]
    {
        assert_eq!(check_authority(authority.as_bytes()).is_ok(), is_one, "{authority}");
    }
}

use super::{BadTarget::*, Violation::*, *};

const BOUNDS: Bounds = Bounds { head: 8192, fields: 10 };

/// What passes of some bytes, and what is wrong with the rest. `at_once` bytes come at a time.
fn run(bytes: &[u8], at_once: usize) -> (Vec<u8>, Result<Machine, Violation>) {
    let mut machine = Machine::new(BOUNDS);
    let (mut waiting, mut passed) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(at_once) {
        waiting.extend_from_slice(piece);
        loop {
            match machine.step(&waiting) {
                Ok(Step::Pass(n)) => passed.extend(waiting.drain(..n)),
                Ok(Step::Skip(n)) => _ = waiting.drain(..n),
                Ok(Step::More | Step::Hold) => break,
                Err(violation) => return (passed, Err(violation)),
            }
        }
    }
    (passed, Ok(machine))
}

/// However the bytes come, the same passes.
fn read(bytes: &[u8]) -> (Vec<u8>, Option<Violation>) {
    let (passed, end) = run(bytes, usize::MAX);
    for at_once in [1, 2, 3, 7] {
        let (again, other) = run(bytes, at_once);
        assert_eq!(again, passed, "{at_once} at once of {}", String::from_utf8_lossy(bytes));
        assert_eq!(other.as_ref().err(), end.as_ref().err(), "{}", String::from_utf8_lossy(bytes));
    }
    (passed, end.err())
}

/// Nothing of it passes.
fn refused(bytes: impl AsRef<[u8]>, violation: impl Into<Violation>) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(read(bytes), (Vec::new(), Some(violation.into())), "{shown}");
}

fn passes(bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(read(bytes), (bytes.to_vec(), None), "{shown}");
}

/// A request with these lines between its first one and the empty one.
fn with(lines: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn what_is_http_passes_unchanged() {
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /?q HTTP/1.0\r\n\r\n",
        "get /\"{}|^~?`^ HTTP/1.1\r\nhOsT:\ta:80 \r\nX:\r\nY: \t\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/x HTTP/1.1\r\nHost: A:80\r\n\r\n",
        "!#$%&'*+-.^_`|~1 / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
    ] {
        passes(request);
    }
    passes(b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\nX: \xff\xfe\r\n\r\n");
    passes(with("Content-Length: 4\r\n") + "\n\r\0\n" + &with("Content-Length: 0\r\n"));
    passes(
        with("Transfer-Encoding: Chunked\r\n")
            + "3\r\n\r\n\r\r\n00A;ext=\"v ;\"\r\n0123456789\r\n0\r\nSum: 1\r\n\r\n"
            + &with(""),
    );
    passes(with("Upgrade: h2c\r\n") + &with(""));
}

#[test]
fn one_empty_line_is_left_out() {
    let request = with("");
    let (passed, end) = read(format!("\r\n{request}\r\n{request}").as_bytes());
    assert_eq!((String::from_utf8(passed).unwrap(), end), (request.clone() + &request, None));
    refused(format!("\r\n\r\n{request}"), EmptyLines);
    refused(format!("\n{request}"), BareLf);
    refused(format!("\r{request}"), BareCr);
}

#[test]
fn first_lines() {
    for line in ["GET", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1", "GET /a b HTTP/1.1"] {
        refused(format!("{line}\r\nHost: a\r\n\r\n"), RequestLine);
    }
    refused("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", RequestLine);
    refused("GET /\ta HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine);
    refused("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Method);
    refused("G:T / HTTP/1.1\r\nHost: a\r\n\r\n", Method);
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1x", "HTTP/01.1", "HTTP/11", "x"]
    {
        refused(format!("GET / {version}\r\nHost: a\r\n\r\n"), Version);
    }
    refused("GET /\r\n\r\n", Version);
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Version);
    refused("\x16\x03\x01\x02", Control);
}

#[test]
fn targets() {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for target in ["*", "a", "a:80", "x", "/a#b", "/#", "ftp://a/", "http:///", "http://", "a/b", "?x", "//"]
    {
        if target != "//" {
            refused(get(target), BadPath);
        }
    }
    refused(get("/\0"), Control);
    refused(get("/\x7f"), Control);
    refused(get("http://b/"), OtherHost);
    refused(get("http://a:81/"), OtherHost);
    refused(get("http://b@a/"), BadHost);
    refused("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Connect);
    refused("OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", BadPath);
    refused("GET http://a/ HTTP/1.0\r\n\r\n", NoHost);
}

#[test]
fn hosts() {
    refused("GET / HTTP/1.1\r\n\r\n", NoHost);
    refused(with("Host: a\r\n"), TwoHosts);
    refused(with("host: b\r\n"), TwoHosts);
    for host in ["", "a b", "a/b", "u@a", "a:b", "a,b", "é", "a\t", "a:80:80", "a?", "a#"] {
        if host != "a\t" {
            refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), BadHost);
        }
    }
}

#[test]
fn fields() {
    refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", LeadingSpace);
    refused("GET / HTTP/1.1\r\n\tX: 1\r\nHost: a\r\n\r\n", LeadingSpace);
    refused(with("X: 1\r\n 2\r\n"), Fold);
    refused(with("X: 1\r\n\t\r\n"), Fold);
    refused(with("X : 1\r\n"), SpaceBeforeColon);
    refused(with("Content-Length\t: 1\r\n"), SpaceBeforeColon);
    for name in ["", "X Y", "X(Y", "X\"", "X/Y", "é", "[x]", "x@y", "Transfer\u{2010}Encoding"] {
        refused(with(&format!("{name}: 1\r\n")), FieldName);
    }
    refused(with("no colon\r\n"), FieldName);
    refused(with(&format!("{}: 1\r\n", "x".repeat(1025))), FieldName);
    for control in ["\0", "\x01", "\x0b", "\x0c", "\x1b", "\x7f"] {
        refused(with(&format!("X: a{control}b\r\n")), Control);
        refused(with(&format!("X{control}: a\r\n")), Control);
    }
    refused(with("X: 1\n"), BareLf);
    refused(with("X: 1\rY: 2\r\n"), BareCr);
    refused(with("X: 1\r\r\n"), BareCr);
    refused(with("\n"), BareLf);
    refused("GET / HTTP/1.1\nHost: a\n\n", BareLf);
    refused("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLf);
}

#[test]
fn lengths() {
    for value in [
        "",
        "+5",
        "-1",
        "0x5",
        "5, 5",
        "5,",
        "5 5",
        "5;",
        "5.0",
        "1e1",
        "05",
        "00",
        "five",
        "５",
        "\u{b2}",
        "18446744073709551616",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        refused(with(&format!("Content-Length: {value}\r\n")), Length);
    }
    refused(with("Content-Length: 5\r\nContent-Length: 5\r\n"), LengthTwice);
    refused(with("Content-Length: 5\r\ncontent-length: 6\r\n"), LengthTwice);
    let (te, cl) = ("Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n");
    refused(with(&format!("{te}{cl}")), LengthAndCoding);
    refused(with(&format!("{cl}{te}")), LengthAndCoding);
    refused(with(&format!("{cl}Transfer-Encoding: identity\r\n")), LengthAndCoding);
    refused("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", TraceBody);
    refused("TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", TraceBody);
    passes("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn codings() {
    for value in [
        "",
        ",",
        "chunked, chunked",
        ", chunked",
        "chunked,",
        "chunked;",
        "chun ked",
        "\"chunked\"",
        "ch\u{fc}nked",
    ] {
        refused(with(&format!("Transfer-Encoding: {value}\r\n")), Coding);
    }
    refused(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Coding);
    for value in [
        "gzip",
        "gzip, chunked",
        "x , Chunked",
        "chunked, identity",
        "xchunked",
        "chunked\r\nTransfer-Encoding: x",
    ] {
        refused(with(&format!("Transfer-Encoding: {value}\r\n")), UnknownCoding);
    }
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CodingInHttp10);
    refused("POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: x\r\n\r\n", CodingInHttp10);
}

/// What of a chunked body passes, and what is wrong with the rest.
fn chunked(body: impl AsRef<[u8]>) -> (Vec<u8>, Option<Violation>) {
    let head = with("Transfer-Encoding: chunked\r\n");
    let (mut passed, violation) = read(&[head.as_bytes(), body.as_ref()].concat());
    (passed.split_off(head.len()), violation)
}

#[test]
fn chunks() {
    for size in
        ["x", "", "+5", "-5", " 5", "5 ", "5\t;x", "0x5", "5,", "0000000000000005", "11111111111111111", "é"]
    {
        assert_eq!(chunked(format!("{size}\r\nabcde\r\n0\r\n\r\n")), (vec![], Some(ChunkSize)), "{size}");
    }
    assert_eq!(chunked("5;a\nabcde\r\n0\r\n\r\n"), (vec![], Some(BareLf)));
    assert_eq!(chunked("5\nabcde\r\n0\r\n\r\n"), (vec![], Some(BareLf)));
    assert_eq!(chunked("\n5\r\nabcde\r\n"), (vec![], Some(BareLf)));
    assert_eq!(chunked("5;a\rb\r\nabcde\r\n0\r\n\r\n"), (vec![], Some(BareCr)));
    assert_eq!(chunked("5\rXabcde\r\n0\r\n\r\n"), (vec![], Some(BareCr)));
    assert_eq!(chunked("5;\0\r\nabcde\r\n0\r\n\r\n"), (vec![], Some(ChunkExtension)));
    for end in ["\n0\r\n\r\n", "0\r\n\r\n", "x\r\n0\r\n\r\n", "\r0\r\n\r\n", "\r\r\n"] {
        let whole = format!("5\r\nabcde{end}");
        assert_eq!(chunked(&whole), (b"5\r\nabcde".to_vec(), Some(ChunkEnd)), "{end:?}");
    }
    assert_eq!(chunked("2\r\nabcde\r\n").1, Some(ChunkEnd));
}

#[test]
fn extensions_are_bounded() {
    let chunk = |extension: usize| format!("1;{}\r\nx\r\n", "e".repeat(extension - 1));
    assert_eq!(chunked(chunk(4096) + "0\r\n\r\n").1, None);
    assert_eq!(chunked(chunk(4097)).1, Some(ChunkExtension));
    assert_eq!(chunked(chunk(100).repeat(41)).1, Some(ChunkExtension));
    assert_eq!(chunked(format!("1;{}", "e".repeat(5000))), (vec![], Some(ChunkExtension)), "without an end");
}

#[test]
fn trailers() {
    assert_eq!(chunked("0\r\nA: 1\r\nB: 2\r\n\r\n").1, None);
    for (lines, violation) in [
        ("A : 1\r\n", SpaceBeforeColon),
        (" A: 1\r\n", Fold),
        ("A: 1\r\n b\r\n", Fold),
        ("A\r\n", FieldName),
        ("A: 1\n", BareLf),
        ("A: \0\r\n", Control),
        ("GET / HTTP/1.1\r\n", FieldName),
    ] {
        assert_eq!(chunked(format!("0\r\n{lines}\r\n")), (b"0\r\n".to_vec(), Some(violation)), "{lines}");
    }
    assert_eq!(chunked(format!("0\r\n{}\r\n", "A: 1\r\n".repeat(9))).1, None);
    assert_eq!(chunked(format!("0\r\n{}\r\n", "A: 1\r\n".repeat(10))).1, Some(Trailers));
    assert_eq!(chunked(format!("0\r\nA: {}", "x".repeat(8192))).1, Some(Trailers));
    assert_eq!(chunked("0\r\n\n").1, Some(BareLf));
}

#[test]
fn heads_are_bounded() {
    refused(format!("GET /{}", "x".repeat(8192)), TargetTooLong);
    refused(with(&format!("X: {}", "x".repeat(8192))), HeadTooLarge);
    refused(with(&"X: x\r\n".repeat(10)), HeadTooLarge);
    passes(with(&"X: x\r\n".repeat(9)));
    let fits = with("X: \r\n").len();
    passes(with(&format!("X: {}\r\n", "x".repeat(8192 - fits))));
    refused(with(&format!("X: {}\r\n", "x".repeat(8193 - fits))), HeadTooLarge);
}

#[test]
fn nothing_passes_after_a_request_to_upgrade_until_it_is_granted() {
    for (request, body) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n".to_owned(), ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, x\r\n\r\n".to_owned(), ""),
        ("GET / HTTP/1.0\r\nUpgrade: x\r\n\r\n".to_owned(), ""),
        (with("upgrade: x\r\nContent-Length: 3\r\n"), "abc"),
        (with("Upgrade: x\r\nTransfer-Encoding: chunked\r\n"), "1\r\nx\r\n0\r\n\r\n"),
    ] {
        let head = request + body;
        let (passed, machine) = run((head.clone() + "GET /smuggled HTTP/1.1\r\n\r\n").as_bytes(), 5);
        assert_eq!(String::from_utf8(passed).unwrap(), head);
        let mut machine = machine.unwrap();
        assert_eq!(machine.step(b"\0anything"), Ok(Step::Hold));
        machine.switch();
        assert_eq!((machine.step(b"\0anything"), machine.free()), (Ok(Step::Pass(9)), u64::MAX));
    }
    let mut machine = Machine::new(BOUNDS);
    machine.switch();
    assert_eq!(machine.step(b"\0"), Err(Control), "nobody asked");
}

#[test]
fn bytes_that_are_free_need_not_be_shown() {
    let mut machine = run(with("Transfer-Encoding: chunked\r\n").as_bytes(), 999).1.unwrap();
    assert_eq!(machine.step(b"5\r\n"), Ok(Step::Pass(3)));
    assert_eq!(machine.free(), 5);
    machine.passed(4);
    assert_eq!(machine.free(), 1);
    machine.passed(1);
    assert_eq!((machine.free(), machine.step(b"x")), (0, Err(ChunkEnd)));
    let mut machine = run(with("Content-Length: 5\r\n").as_bytes(), 999).1.unwrap();
    machine.passed(5);
    assert!(machine.free() == 0 && !machine.is_mid_body() && !machine.is_mid_head());
    assert_eq!(machine.step(b"G"), Ok(Step::More));
    assert!(machine.is_mid_head());
}

#[test]
fn each_kind_has_a_word_and_a_sentence_of_its_own() {
    let all = [
        EmptyLines,
        BareLf,
        BareCr,
        Control,
        RequestLine,
        Method,
        TraceBody,
        Version,
        LeadingSpace,
        Fold,
        SpaceBeforeColon,
        FieldName,
        LengthTwice,
        Length,
        LengthAndCoding,
        Coding,
        UnknownCoding,
        CodingInHttp10,
        ChunkSize,
        ChunkExtension,
        ChunkEnd,
        Trailers,
        TargetTooLong,
        HeadTooLarge,
        Target(NoHost),
        Target(TwoHosts),
        Target(BadHost),
        Target(BadPath),
        Target(OtherHost),
        Target(Connect),
    ];
    let kinds: std::collections::HashSet<_> = all.iter().map(|violation| violation.kind()).collect();
    let sentences: std::collections::HashSet<_> = all.iter().map(|violation| violation.to_string()).collect();
    assert_eq!((kinds.len(), sentences.len()), (all.len(), all.len()));
    assert!(all.iter().all(|violation| violation.status().is_client_error() || *violation == UnknownCoding));
}

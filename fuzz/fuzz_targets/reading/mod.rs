//! Three readings of one connection's bytes: the machine's, one of our own by the parser that the HTTP library uses, and the
//! library's own. Whatever the machine lets through, all have to read alike.

use std::{
    cell::RefCell,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};
use tunnel::proxy::strict::{Bounds, Machine, Step};

const BOUNDS: Bounds = Bounds { head: 8192, fields: 20 };

/// A request that is whole.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// Holds all readings against each other. Bytes come `at_once` at a time.
pub fn check(bytes: &[u8], at_once: usize) {
    let (passed, heads) = pass(bytes, at_once.max(1));
    let all_at_once = pass(bytes, usize::MAX);
    assert_eq!((&passed, &heads), (&all_at_once.0, &all_at_once.1), "it matters how bytes come");
    let (own, own_heads) = read(&passed);
    assert_eq!(own_heads, heads, "requests begin at other places");
    let librarys = serve(&passed);
    assert_eq!(librarys, own[..librarys.len()]);
    // The library ends where a request says that it is the last.
    let last = librarys.last().is_some_and(|it| it.headers.iter().any(|(name, _)| name == "connection"));
    let old = passed.windows(10).any(|bytes| bytes == b"HTTP/1.0\r\n");
    assert!(librarys.len() == own.len() || last || old, "the library stops short");
}

/// What the machine lets through, and where in it requests begin.
fn pass(bytes: &[u8], at_once: usize) -> (Vec<u8>, Vec<usize>) {
    let mut machine = Machine::new(BOUNDS);
    let (mut waiting, mut passed, mut heads) = (Vec::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(at_once) {
        waiting.extend_from_slice(piece);
        loop {
            let head = !machine.is_mid_body();
            match machine.step(&waiting) {
                Ok(Step::Pass(n)) => {
                    assert!(n > 0 && n <= waiting.len());
                    if head {
                        heads.push(passed.len());
                    }
                    passed.extend(waiting.drain(..n));
                }
                Ok(Step::Skip(n)) => drop(waiting.drain(..n)),
                Ok(Step::More) => {
                    // A line that doesn't end is refused at some length.
                    assert!(waiting.len() <= BOUNDS.head + 1, "{} bytes wait", waiting.len());
                    break;
                }
                Ok(Step::Hold) => break,
                Err(_) => return (passed, heads),
            }
        }
    }
    (passed, heads)
}

/// Requests that are whole, and where requests begin, by a second reading.
fn read(mut bytes: &[u8]) -> (Vec<Request>, Vec<usize>) {
    let (mut requests, mut heads) = (Vec::new(), Vec::new());
    let whole = bytes.len();
    while !bytes.is_empty() {
        heads.push(whole - bytes.len());
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = parsed.parse(bytes) else {
            panic!("a head passed that is none: {:?}", String::from_utf8_lossy(bytes));
        };
        let values = |name: &str| -> Vec<&[u8]> {
            parsed.headers.iter().filter(|it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value).collect()
        };
        let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
        let after = &bytes[length..];
        let body = match (&lengths[..], &codings[..]) {
            ([], []) => Some((Vec::new(), 0)),
            ([length], []) => {
                let length: usize = std::str::from_utf8(length).expect("digits").parse().expect("digits");
                (after.len() >= length).then(|| (after[..length].to_vec(), length))
            }
            ([], [coding]) => {
                assert!(coding.eq_ignore_ascii_case(b"chunked"));
                dechunk(after)
            }
            other => panic!("framed twice: {other:?}"),
        };
        let headers = parsed.headers.iter().map(|it| (it.name.to_ascii_lowercase(), it.value.to_vec()));
        let headers = sorted(headers);
        let Some((body, used)) = body else { break };
        let (method, path) = (parsed.method.expect("parsed").to_owned(), parsed.path.expect("parsed"));
        // The library writes an absolute target with a slash at its end.
        let absolute = || path.parse::<hyper::Uri>().expect("a target").to_string();
        let target = if path.starts_with(['/', '*']) { path.to_owned() } else { absolute() };
        requests.push(Request { method, target, headers, body });
        bytes = &after[used..];
    }
    (requests, heads)
}

/// By name; those of one name stay in order, which is all that the library's map keeps.
fn sorted(fields: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// A whole body, and how many bytes it took.
fn dechunk(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(&bytes[at..]) else {
            return None;
        };
        at += line;
        if size == 0 {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            return match httparse::parse_headers(&bytes[at..], &mut fields) {
                Ok(httparse::Status::Complete((length, _))) => Some((body, at + length)),
                _ => None,
            };
        }
        let size = usize::try_from(size).ok()?;
        body.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        if bytes.get(at..at + 2)? != b"\r\n" {
            panic!("a chunk passed that doesn't end");
        }
        at += 2;
    }
}

/// The library's reading, by a server that answers each request at once when it is whole.
fn serve(bytes: &[u8]) -> Vec<Request> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let record = Rc::clone(&seen);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let record = Rc::clone(&record);
        async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let fields = head.headers.iter();
                let headers = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
                record.borrow_mut().push(Request {
                    method: head.method.to_string(),
                    target: head.uri.to_string(),
                    headers: sorted(headers),
                    body: body.to_bytes().to_vec(),
                });
            }
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .max_header_size(BOUNDS.head)
        .max_buf_size(BOUNDS.head)
        .max_headers(BOUNDS.fields);
    let serving = builder.serve_connection(Tape(Bytes::copy_from_slice(bytes)), service);
    // It ends with the bytes, well or not.
    let _ = futures_executor::block_on(serving);
    seen.take()
}

/// Bytes to read, and then the end.
struct Tape(Bytes);

impl Read for Tape {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let length = self.0.len().min(buf.remaining());
        let piece = self.0.split_to(length);
        buf.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl Write for Tape {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

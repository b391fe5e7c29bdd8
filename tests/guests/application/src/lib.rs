//! An application that does what the path of a request says, good and bad; see [`serve`].

use std::{
    io::{Read, Write},
    mem,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use wasip2::{
    cli::{environment::get_environment, stderr::get_stderr, stdout::get_stdout},
    clocks::monotonic_clock,
    exports::http::incoming_handler::Guest,
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
            ResponseOutparam, Scheme,
        },
    },
    io::streams::OutputStream,
};

struct Application;

wasip2::http::proxy::export!(Application);

/// Requests that this instance has had.
static REQUESTS: AtomicU32 = AtomicU32::new(0);

impl Guest for Application {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (order, argument) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        REQUESTS.fetch_add(1, Relaxed);
        serve(order, argument, request, out);
    }
}

fn serve(order: &str, argument: &str, request: IncomingRequest, out: ResponseOutparam) {
    let fields = Fields::new();
    match order {
        "about" => {
            let said = format!(
                "{:?} {:?} {:?} {:?}",
                request.method(),
                request.scheme(),
                request.authority(),
                request.headers().entries().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            );
            fields.append("content-type", b"text/plain").unwrap();
            fields.append("x-two", b"1").unwrap();
            fields.append("x-two", b"2").unwrap();
            fields.append("content-length", said.len().to_string().as_bytes()).unwrap();
            answer(out, 200, fields, said.as_bytes());
        }
        "echo" => echo(&request, out),
        "ignore" => answer(out, 200, fields, b"ignored"),
        "status" => answer(out, argument.parse().unwrap(), fields, b""),
        "panic" => panic!("as asked"),
        "late-panic" => {
            let (_body, mut stream) = begin(out, 200, fields);
            write(&mut stream, b"part");
            panic!("as asked");
        }
        "spin" => loop {
            std::hint::spin_loop();
        },
        "late-spin" => {
            let (_body, mut stream) = begin(out, 200, fields);
            write(&mut stream, b"part");
            loop {
                std::hint::spin_loop();
            }
        }
        "eat" => {
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(std::hint::black_box(vec![1; 1 << 20]));
            }
        }
        // Never, as far as any visitor is concerned.
        "wait" => monotonic_clock::subscribe_duration(3_600_000_000_000).block(),
        "silent" => {}
        "silent-leak" => mem::forget(out),
        "error" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("a guest's secret".to_owned())))),
        "twice" => {
            // SAFETY: none; that is the test. The handle is used up by the first answer.
            let again = unsafe { ResponseOutparam::from_handle(out.handle()) };
            answer(out, 200, Fields::new(), b"first");
            answer(again, 200, fields, b"second");
        }
        "endless" => {
            let (_body, mut stream) = begin(out, 200, fields);
            while stream.write_all(&[7; 4096]).is_ok() {}
        }
        "forget" => {
            let (body, mut stream) = begin(out, 200, fields);
            write(&mut stream, b"part");
            drop(stream);
            mem::forget(body);
        }
        "drop" => {
            let (_body, mut stream) = begin(out, 200, fields);
            write(&mut stream, b"part");
        }
        "short" => {
            fields.append("content-length", b"10").unwrap();
            let (body, mut stream) = begin(out, 200, fields);
            write(&mut stream, b"part");
            drop(stream);
            let _ = OutgoingBody::finish(body, None);
        }
        "no-body" => {
            fields.append("content-length", b"10").unwrap();
            ResponseOutparam::set(out, Ok(OutgoingResponse::new(fields)));
        }
        "large-head" => {
            let mut taken = 0;
            while taken < argument.parse().unwrap() && fields.append("x", &[b'x'; 1000]).is_ok() {
                taken += 1;
            }
            fields.set("taken", &[taken.to_string().into_bytes()]).unwrap();
            answer(out, 200, fields, b"");
        }
        "many-headers" => {
            for at in 0..argument.parse().unwrap() {
                fields.append(&format!("x-{at}"), b"").unwrap();
            }
            answer(out, 200, fields, b"");
        }
        "names" => {
            let names = ["connection", "transfer-encoding", "upgrade", "te", "host", "tunnel-error", "expect", "x-fine"];
            let taken = names.into_iter().filter(|name| fields.append(name, b"1").is_ok()).collect::<Vec<_>>();
            let said = taken.join(" ");
            answer(out, 200, fields, said.as_bytes());
        }
        "count" => answer(out, 200, fields, REQUESTS.load(Relaxed).to_string().as_bytes()),
        "leak-request" => {
            mem::forget(request);
            answer(out, 200, fields, REQUESTS.load(Relaxed).to_string().as_bytes());
        }
        "print" => {
            get_stdout().write_all(b"said aloud\n").unwrap();
            get_stderr().write_all(b"complained\n").unwrap();
            let variables = get_environment().into_iter().map(|(name, value)| format!("{name}={value}"));
            answer(out, 200, fields, variables.collect::<Vec<_>>().join(" ").as_bytes());
        }
        "afterwards" => {
            answer(out, 200, fields, b"answered");
            // Something that the answer doesn't wait for.
            monotonic_clock::subscribe_duration(1_000_000).block();
            get_stdout().write_all(b"afterwards\n").unwrap();
        }
        "panic-afterwards" => {
            answer(out, 200, fields, b"answered");
            panic!("as asked");
        }
        "fetch" => {
            let said = match fetch(argument) {
                Ok((status, body)) => format!("{status} {}", String::from_utf8_lossy(&body)),
                Err(error) => format!("{error:?}"),
            };
            answer(out, 200, fields, said.as_bytes());
        }
        _ => answer(out, 404, fields, b"no such order"),
    }
}

fn begin(out: ResponseOutparam, status: u16, fields: Fields) -> (OutgoingBody, OutputStream) {
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    let stream = body.write().unwrap();
    ResponseOutparam::set(out, Ok(response));
    (body, stream)
}

fn write(stream: &mut OutputStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
}

fn answer(out: ResponseOutparam, status: u16, fields: Fields, bytes: &[u8]) {
    let (body, mut stream) = begin(out, status, fields);
    write(&mut stream, bytes);
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// Gives back the body, as it comes, with its trailers.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let (body, mut stream) = begin(out, 200, Fields::new());
    let mut from = incoming.stream().unwrap();
    let mut piece = vec![0; 64 << 10];
    loop {
        match Read::read(&mut from, &mut piece).unwrap() {
            0 => break,
            read => write(&mut stream, &piece[..read]),
        }
    }
    drop((from, stream));
    let trailers = IncomingBody::finish(incoming);
    trailers.subscribe().block();
    let trailers = trailers.get().unwrap().unwrap().unwrap();
    let trailers = trailers.map(|fields| Fields::from_list(&fields.entries()).unwrap());
    OutgoingBody::finish(body, trailers).unwrap();
}

fn fetch(authority: &str) -> Result<(u16, Vec<u8>), ErrorCode> {
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Post).unwrap();
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some("/asked?x=1")).unwrap();
    let body = request.body().unwrap();
    let answer = outgoing_handler::handle(request, None)?;
    body.write().unwrap().write_all(b"question").unwrap();
    OutgoingBody::finish(body, None)?;
    answer.subscribe().block();
    let answer = answer.get().unwrap().unwrap()?;
    let body = answer.consume().unwrap();
    let mut bytes = Vec::new();
    body.stream().unwrap().read_to_end(&mut bytes).unwrap();
    Ok((answer.status(), bytes))
}

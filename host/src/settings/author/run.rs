//! `tunnel plugin run`: one request through a plugin, before an origin that answers as it is told.

use std::{
    fmt::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::PathAndQuery};
use http_body_util::BodyExt;

use super::{AuthorError, LoadArgs, host, read, tunnel};
use crate::{
    exchange::{
        Answer, Body, Context, ExchangeId, Forward, ForwardError, ForwardFuture, Request, RequestHead,
        RequestKind, Response, Scheme,
    },
    plugin::{Chain, Isolation},
};

/// `tunnel plugin run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tunnel plugin run auth.wasm --config '{\"realm\":\"staff\"}' -H 'authorization: Basic YTpi' /admin")]
pub struct RunArgs {
    #[command(flatten)]
    load: LoadArgs,

    /// Path with query
    #[arg(default_value = "/")]
    path: String,

    /// Method [default: GET, or POST with a body]
    #[arg(short = 'X', long, value_name = "METHOD", help_heading = "Request")]
    request: Option<Method>,

    /// A header; may be given again
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header, help_heading = "Request")]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// The body; @FILE reads one
    #[arg(short = 'd', long, value_name = "TEXT|@FILE", help_heading = "Request")]
    data: Option<String>,

    /// The visitor's address
    #[arg(long, value_name = "ADDRESS", default_value = "203.0.113.7", help_heading = "Request")]
    visitor: std::net::IpAddr,

    /// The status by which the origin answers
    #[arg(long, value_name = "STATUS", default_value = "200", help_heading = "Origin")]
    respond: StatusCode,

    /// A header of the origin's answer; may be given again
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header, help_heading = "Origin")]
    respond_header: Vec<(HeaderName, HeaderValue)>,

    /// The body of the origin's answer; @FILE reads one
    #[arg(
        long,
        value_name = "TEXT|@FILE",
        default_value = "hello from the origin\n",
        help_heading = "Origin"
    )]
    respond_data: String,
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is no name of a header"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} is no value of a header"))?;
    Ok((name, value))
}

fn data(text: &str) -> Result<Bytes, AuthorError> {
    match text.strip_prefix('@') {
        Some(file) => Ok(read(&PathBuf::from(file))?.into()),
        None => Ok(text.to_owned().into()),
    }
}

/// A head and a body, in words.
struct Seen {
    lines: Vec<String>,
    body: Bytes,
}

pub(super) async fn run(args: RunArgs) -> Result<String, AuthorError> {
    let request = request(&args)?;
    let before = head_lines(&request.head);
    let sent = args.data.as_deref().map(data).transpose()?.unwrap_or_default();
    let origin = Arc::new(Origin {
        status: args.respond,
        headers: args.respond_header.iter().cloned().collect(),
        body: data(&args.respond_data)?,
        seen: Mutex::new(None),
    });
    let config = args.load.config(Isolation::Pool)?;
    let loading = Instant::now();
    let wasm = read(&args.load.file)?;
    let plugin = host()?.load(&wasm, config).await;
    let plugin = plugin.map_err(|error| AuthorError::Load { path: args.load.file.clone(), error })?;
    let loading = loading.elapsed();
    let chain = Chain::new(vec![plugin], Arc::clone(&origin) as Arc<dyn Forward>);

    let started = Instant::now();
    let answer = chain.forward(request).await;
    let answer = match answer {
        Ok(Answer::Http(response)) => Ok(collect(response).await),
        Ok(Answer::WebSocket(_)) => Err("the connection was upgraded".to_owned()),
        Err(error) => Err(failure(&error)),
    };
    let took = started.elapsed();

    let mut out = String::new();
    let seen = origin.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match &seen {
        None => out.push_str("The request was not forwarded.\n"),
        Some(seen) => {
            out.push_str("The request was forwarded");
            show_changes(&mut out, &before, &sent, seen);
        }
    }
    match answer {
        Err(why) => {
            let _ = writeln!(out, "\nThere is no answer: {why}.");
        }
        Ok(answer) if seen.is_some() => {
            let before = response_lines(origin.status, &origin.answer_headers());
            out.push_str("\nThe origin's answer was returned");
            show_changes(&mut out, &before, &origin.body, &answer);
        }
        Ok(answer) => {
            let _ = writeln!(out, "\nThe plugin answered:");
            for line in &answer.lines {
                let _ = writeln!(out, "  {line}");
            }
            show_body(&mut out, "  ", &answer.body);
        }
    }
    let _ = writeln!(out, "\nLoaded in {loading:.1?}, exchange in {took:.1?} (origin included).");
    Ok(out)
}

fn failure(error: &ForwardError) -> String {
    match error.cause() {
        Some(cause) => format!("{error} ({cause})"),
        None => error.to_string(),
    }
}

fn request(args: &RunArgs) -> Result<Request, AuthorError> {
    let usage = |text: &str| AuthorError::Usage(text.to_owned());
    if !args.path.starts_with('/') {
        return Err(AuthorError::Usage(format!("{:?} is no path: write /, then what follows", args.path)));
    }
    let body = args.data.as_deref().map(data).transpose()?;
    let mut headers = HeaderMap::new();
    for (name, value) in &args.headers {
        headers.append(name.clone(), value.clone());
    }
    let authority =
        headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("example.localhost");
    let authority = authority.to_owned();
    headers.remove(header::HOST);
    if let Some(body) = &body {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let method = args.request.clone().unwrap_or(if body.is_some() { Method::POST } else { Method::GET });
    let target = args
        .path
        .parse::<PathAndQuery>()
        .map_err(|_| usage("the path has a character that none may have"))?;
    let tunnel = tunnel();
    Ok(Request {
        head: RequestHead {
            kind: RequestKind::Http,
            method,
            scheme: Scheme::Https,
            authority,
            target,
            headers,
        },
        body: body.map_or_else(Body::empty, Body::full),
        context: Context {
            exchange: ExchangeId(1),
            tunnel,
            visitor: Some(SocketAddr::from((args.visitor, 0)).into()),
            tls: None,
            notes: Default::default(),
            interim: None,
            witness: None,
        },
    })
}

/// Answers as it was told, and remembers what it got.
struct Origin {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    seen: Mutex<Option<Seen>>,
}

impl Origin {
    fn answer_headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        headers
    }
}

impl Forward for Origin {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        Box::pin(async move {
            let mut lines = head_lines(&request.head);
            lines.extend(request.context.notes.iter().map(|(name, value)| format!("(note) {name}: {value}")));
            let body = request.body.collect().await?.to_bytes();
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { lines, body });
            let body = Body::full(self.body.clone());
            Ok(Answer::Http(Response { status: self.status, headers: self.answer_headers(), body }))
        })
    }
}

async fn collect(response: Response) -> Seen {
    let mut lines = response_lines(response.status, &response.headers);
    let body = match response.body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            lines.push(format!("(the body broke off: {})", failure(&error)));
            Bytes::new()
        }
    };
    Seen { lines, body }
}

fn head_lines(head: &RequestHead) -> Vec<String> {
    let mut lines = vec![format!("{} {}", head.method, head.target), format!("host: {}", head.authority)];
    lines.extend(header_lines(&head.headers));
    lines
}

fn response_lines(status: StatusCode, headers: &HeaderMap) -> Vec<String> {
    let mut lines = vec![format!("{status}")];
    lines.extend(header_lines(headers));
    lines
}

fn header_lines(headers: &HeaderMap) -> impl Iterator<Item = String> {
    headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
}

/// What went and what came, as a diff has it.
fn show_changes(out: &mut String, before: &[String], body: &Bytes, after: &Seen) {
    let gone = before.iter().filter(|line| !after.lines.contains(line));
    let new = after.lines.iter().filter(|line| !before.contains(line));
    let changes: Vec<String> =
        gone.map(|line| format!("- {line}")).chain(new.map(|line| format!("+ {line}"))).collect();
    let same_body = *body == after.body;
    if changes.is_empty() && same_body {
        out.push_str(" unchanged.\n");
        return;
    }
    out.push_str(", changed:\n");
    for change in changes {
        let _ = writeln!(out, "  {change}");
    }
    if !same_body {
        let _ = writeln!(out, "  the body, now {} bytes:", after.body.len());
        show_body(out, "  ", &after.body);
    }
}

fn show_body(out: &mut String, indent: &str, body: &Bytes) {
    /// Enough to see what it is.
    const MOST: usize = 4000;
    if body.is_empty() {
        return;
    }
    match std::str::from_utf8(body) {
        Ok(text) => {
            for line in text[..text.floor_char_boundary(MOST)].lines() {
                let _ = writeln!(out, "{indent}| {line}");
            }
        }
        Err(_) => {
            let _ = writeln!(out, "{indent}| ({} bytes that are no text)", body.len());
        }
    }
}

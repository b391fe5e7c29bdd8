//! The last stage: the service behind the client.
//!
//! Owns what goes out to the origin and what of its answer comes back, byte for byte where HTTP allows. Must not
//! know the tunnel: it is given a request and answers it.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header,
    uri::{Authority, Scheme},
};
use http_body::Body as _;
use hyper::{body::Incoming, ext::on_informational};

use super::{
    HostHeader, OriginConfig, OriginProtocol,
    connect::{ConnectError, Connector, OriginError},
    kept::{Begun, Line, MOST_FIELDS, Sent},
    lines::Lines,
    origin_body::{RequestBody, ResponseBody, Upload},
    origin_h2::Way,
    pool::Pool,
};
use crate::{
    exchange::{
        Answer, Body, Context, ErrorKind, Forward, ForwardError, ForwardFuture, Interim, Request,
        RequestHead, RequestKind, Response, hygiene,
    },
    wire,
};

/// Forwards exchanges to one origin, and never to another.
pub struct Origin {
    /// Connections that speak HTTP/1.1.
    pool: Pool,
    /// Connections that speak HTTP/2.
    pub(super) lines: Lines,
    pub(super) protocol: OriginProtocol,
    /// When ALPN last agreed on HTTP/1.1, where either would do.
    pub(super) spoke_http1: ArcSwapOption<Instant>,
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    host_header: HostHeader,
    pub(super) url: Arc<str>,
    pub(super) max_websocket_message: usize,
}

impl Origin {
    /// The configured origin; nothing is connected yet. `max_websocket_message` is in bytes.
    ///
    /// # Errors
    /// The scheme is neither `http` nor `https`, or TLS can't be set up.
    pub fn new(config: &OriginConfig, max_websocket_message: usize) -> Result<Self, OriginError> {
        Ok(Self::with_connector(config, Connector::new(config)?, max_websocket_message))
    }

    fn with_connector(config: &OriginConfig, connector: Connector, max_websocket_message: usize) -> Self {
        let url = Arc::clone(connector.url());
        Self {
            pool: Pool::new(connector.clone()),
            lines: Lines::new(connector),
            protocol: config.protocol,
            spoke_http1: ArcSwapOption::empty(),
            scheme: config.scheme.clone(),
            authority: config.authority.clone(),
            host_header: config.host_header.clone(),
            url,
            max_websocket_message,
        }
    }

    /// Whether the origin is reached over TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    async fn exchange(&self, request: Request) -> Result<Answer, ForwardError> {
        match self.way().await? {
            Way::Http1 => self.exchange_h1(request).await,
            Way::Http2(place) => self.exchange_h2(request, place).await,
        }
    }

    /// By HTTP/1.1. What one kind of exchange doesn't need takes up no room in it.
    fn exchange_h1(&self, request: Request) -> ForwardFuture<'_> {
        if request.body.is_end_stream() {
            Box::pin(self.exchange_without_body(request))
        } else {
            Box::pin(self.exchange_with_body(request))
        }
    }

    // No `async fn`, here and below: it keeps its arguments twice.
    fn exchange_without_body(&self, request: Request) -> impl Future<Output = Result<Answer, ForwardError>> {
        let Request { head, context: Context { interim, .. }, .. } = request;
        async move {
            let outgoing = || self.without_body(&head, interim.as_ref());
            // One that changes nothing at the origin may be sent twice (RFC 9110 section 9.2.2).
            let again = || outgoing().ok().filter(|request| request.method().is_safe());
            let (line, response) = self.send(outgoing()?, None, again).await?;
            self.answer(response, None, Some(line)).map(Answer::Http)
        }
    }

    async fn exchange_with_body(&self, request: Request) -> Result<Answer, ForwardError> {
        let Request { head, body, context } = request;
        let upload = Upload::new(hygiene::expects_continue(&head.headers), context.interim);
        let outgoing = self.with_body(&head, body, &upload)?;
        let (line, response) = self.send(outgoing, Some(&upload), || None).await?;
        upload.open();
        self.answer(response, Some(upload), Some(line)).map(Answer::Http)
    }

    /// Sends one request and waits for the head of its response.
    ///
    /// Where it was never begun it is sent on another connection, whatever its method. One that was, and whose connection
    /// ended under it, is sent once more if `again` has it: a server that closes what it kept can't know that a request
    /// is on its way (RFC 9112 section 9.3.1).
    pub(super) fn send(
        &self,
        request: http::Request<RequestBody>,
        upload: Option<&Arc<Upload>>,
        again: impl FnOnce() -> Option<http::Request<RequestBody>>,
    ) -> impl Future<Output = Result<(Box<Line>, http::Response<Incoming>), ForwardError>> {
        // The visitor going away shows as a broken request; the reason is the visitor's.
        let failed = move |error| {
            upload.and_then(|upload| upload.take_failure()).unwrap_or_else(|| self.failed(error))
        };
        let mut again = Some(again);
        let begun = self.begin(request);
        async move {
            let (mut line, mut begun) = begun.await?;
            let response = loop {
                let error = match line.outcome(begun).await {
                    Sent::Answered(response) => break response,
                    Sent::Unsent(unsent) => {
                        (line, begun) = self.begin(*unsent).await?;
                        continue;
                    }
                    Sent::Crossed(error) => error,
                    Sent::Failed(error) => return Err(failed(error)),
                };
                // Once: the connection is a new one then.
                let Some(repeated) = again.take().and_then(|again| again()) else {
                    return Err(failed(error));
                };
                tracing::debug!(url = %self.url, "the origin closed a connection that was kept; sending once more");
                (line, begun) = self.begin_anew(repeated).await?;
            };
            if !response.body().is_end_stream() && framed_twice(response.headers()) {
                // What follows it there is the answer to nobody, so the connection isn't used again.
                let detail = format!("the answer of {} doesn't say clearly where it ends", self.url);
                return Err(ForwardError::new(ErrorKind::OriginFailed, detail));
            }
            Ok((line, response))
        }
    }

    /// Begins a request on a connection that is kept, or else on a new one.
    fn begin(
        &self,
        request: http::Request<RequestBody>,
    ) -> impl Future<Output = Result<(Box<Line>, Begun), ForwardError>> {
        let begun = match self.pool.unused() {
            Some(line) => Ok(line.begin(request)),
            None => Err(self.begin_anew(request)),
        };
        async move {
            match begun {
                Ok(begun) => Ok(begun),
                Err(beginning) => beginning.await,
            }
        }
    }

    /// Begins a request on a new connection. Seldom, and large.
    fn begin_anew(
        &self,
        request: http::Request<RequestBody>,
    ) -> BoxFuture<'_, Result<(Box<Line>, Begun), ForwardError>> {
        Box::pin(async move {
            let line = self.pool.connect().await.map_err(unreachable)?;
            Ok(line.begin(request))
        })
    }

    /// Makes an answer of a final response, whose body comes over `line` unless something else drives its connection.
    pub(super) fn answer(
        &self,
        response: http::Response<Incoming>,
        upload: Option<Arc<Upload>>,
        line: Option<Box<Line>>,
    ) -> Result<Response, ForwardError> {
        let (mut parts, body) = response.into_parts();
        if parts.status.is_informational() {
            let detail = format!("{} switched protocols without being asked", self.url);
            return Err(ForwardError::new(ErrorKind::OriginFailed, detail));
        }
        hygiene::response(&mut parts.headers);
        let body = self.answers_body(body, upload, line);
        Ok(Response { status: parts.status, headers: parts.headers, body })
    }

    /// Decides who drives the connection from here on.
    fn answers_body(&self, body: Incoming, upload: Option<Arc<Upload>>, line: Option<Box<Line>>) -> Body {
        let goes_on = || upload.as_ref().is_some_and(|upload| upload.goes_on());
        let (mut whole, mut driven) = (false, None);
        match line {
            Some(line) if line.is_ready() => {
                whole = true;
                self.pool.keep(line);
            }
            // A visitor who reads nothing before all was sent holds the answer up, and must not hold up with it what is
            // being sent.
            Some(line) if goes_on() || body.is_end_stream() => self.pool.finish(line),
            line => driven = line.map(|line| (line, self.pool.clone())),
        }
        let body = ResponseBody { body, line: driven, upload, url: Arc::clone(&self.url) };
        if whole { body.arrived() } else { body.arriving() }
    }

    /// A request without a body as the origin gets it.
    fn without_body(
        &self,
        head: &RequestHead,
        interim: Option<&Interim>,
    ) -> Result<http::Request<RequestBody>, ForwardError> {
        let mut outgoing = self.request(head, &Body::empty())?;
        if let Some(interim) = interim.cloned() {
            on_informational(&mut outgoing, move |response| {
                // There is nothing to be asked for.
                if response.status() != StatusCode::CONTINUE {
                    interim(response.status(), interim_headers(response.headers()));
                }
            });
        }
        Ok(outgoing.map(|()| RequestBody::none()))
    }

    /// A request with a body as the origin gets it.
    fn with_body(
        &self,
        head: &RequestHead,
        body: Body,
        upload: &Arc<Upload>,
    ) -> Result<http::Request<RequestBody>, ForwardError> {
        let mut outgoing = self.request(head, &body)?;
        let informed = Arc::clone(upload);
        on_informational(&mut outgoing, move |response| {
            informed.interim(response.status(), interim_headers(response.headers()));
        });
        Ok(outgoing.map(|()| RequestBody::new(body, Arc::clone(upload))))
    }

    fn request(&self, head: &RequestHead, body: &Body) -> Result<http::Request<()>, ForwardError> {
        if head.method == Method::CONNECT {
            // To the HTTP library it would mean a tunnel of its own.
            return Err(bad_request("CONNECT can't be forwarded"));
        }
        let mut headers = self.headers(head)?;
        frame_body(&mut headers, body)?;
        if hygiene::wants_trailers(&head.headers) {
            // RFC 9110 section 10.1.4: `TE` is for one hop, and `Connection` has to say so.
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        Ok(origin_form(head, headers))
    }

    /// `Host`, and then the visitor's end-to-end headers in their order.
    pub(super) fn headers(&self, head: &RequestHead) -> Result<HeaderMap, ForwardError> {
        let host = match &self.host_header {
            HostHeader::Value(value) => value.clone(),
            HostHeader::Keep if !head.authority.is_empty() => HeaderValue::from_str(&head.authority)
                .map_err(|_| bad_request("the request's host is not valid"))?,
            HostHeader::Keep | HostHeader::Origin => {
                HeaderValue::from_str(self.authority.as_str()).expect("an authority is visible ASCII")
            }
        };
        let mut headers = HeaderMap::with_capacity(head.headers.len() + 4);
        headers.insert(header::HOST, host);
        for (name, value) in &head.headers {
            // They were taken off at the proxy. Should a stage in between add one, the origin must not take it for
            // the framing of this connection.
            if name != header::HOST && !hygiene::is_hop_by_hop(name) {
                headers
                    .try_append(name, value.clone())
                    .map_err(|_| bad_request("the request has too many headers"))?;
            }
        }
        Ok(headers)
    }

    fn failed(&self, error: hyper::Error) -> ForwardError {
        let url = &self.url;
        let detail = match &error {
            error if error.is_parse_too_large() => format!(
                "the head of the answer of {url} is too large: over {} kB, or over {} header fields",
                wire::MAX_PART / 1024,
                MOST_FIELDS
            ),
            error if error.is_parse() => format!("{url} answered with something that is not HTTP"),
            error if error.is_incomplete_message() => {
                format!("{url} closed the connection without an answer")
            }
            _ => format!("{url} broke off before it answered"),
        };
        ForwardError::new(ErrorKind::OriginFailed, detail).because(error)
    }
}

impl Forward for Origin {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        match request.head.kind {
            RequestKind::Http if self.is_http1() => self.exchange_h1(request),
            RequestKind::Http => Box::pin(self.exchange(request)),
            RequestKind::WebSocket => Box::pin(self.upgrade(request)),
        }
    }
}

/// Says how the body is framed: by the length that the visitor announced, by a length that is known here, or in
/// chunks. The HTTP library would leave the body of a `GET` out if nothing said that there is one.
pub(super) fn frame_body(headers: &mut HeaderMap, body: &Body) -> Result<(), ForwardError> {
    let mut announced = headers.get_all(header::CONTENT_LENGTH).iter();
    match (announced.next(), announced.next(), body.is_end_stream()) {
        (None, _, true) => return Ok(()),
        (Some(length), None, true) if length == "0" => return Ok(()),
        // Sent on, this would make the origin take the next request for the missing body.
        (Some(_), _, true) => {
            return Err(bad_request("the request's body is shorter than its Content-Length"));
        }
        (Some(_), Some(_), false) => return Err(bad_request("the request has more than one Content-Length")),
        (Some(_), None, false) => return Ok(()),
        (None, _, false) => {}
    }
    match body.size_hint().exact() {
        Some(length) if !headers.contains_key(header::TRAILER) => {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        _ => {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    Ok(())
}

/// Whether an answer has a length beside chunks, or a transfer coding that isn't `chunked` alone (RFC 9112 section 6.1 and 6.3).
/// What is wrong with lengths and chunks for themselves the HTTP library finds.
fn framed_twice(headers: &HeaderMap) -> bool {
    let mut codings = hygiene::tokens(headers, &header::TRANSFER_ENCODING);
    codings.next().is_some_and(|first| {
        !first.eq_ignore_ascii_case(b"chunked")
            || codings.next().is_some()
            || headers.contains_key(header::CONTENT_LENGTH)
    })
}

/// A request with these headers, by its path and query alone (RFC 9112 section 3.2.1).
pub(super) fn origin_form(head: &RequestHead, headers: HeaderMap) -> http::Request<()> {
    let mut request = http::Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from(head.target.clone());
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    request
}

fn interim_headers(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    hygiene::response(&mut headers);
    headers
}

fn unreachable(error: ConnectError) -> ForwardError {
    ForwardError::new(ErrorKind::OriginUnreachable, error.to_string()).because(error)
}

pub(super) fn bad_request(detail: &'static str) -> ForwardError {
    ForwardError::new(ErrorKind::BadRequest, detail)
}

/// The status of an accepted upgrade.
pub(super) const SWITCHING: StatusCode = StatusCode::SWITCHING_PROTOCOLS;

#[cfg(test)]
#[path = "tests/origin.rs"]
mod tests;

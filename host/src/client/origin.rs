//! The last stage: the service behind the client.
//!
//! Owns what goes out to the origin and what of its answer comes back, byte for byte where HTTP allows. Must not
//! know the tunnel: it is given a request and answers it.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwapOption;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header,
    uri::{Authority, Scheme},
};
use http_body::Body as _;
use hyper::{body::Incoming, ext::on_informational};

use super::{
    HostHeader, OriginConfig, OriginProtocol,
    connect::{ConnectError, Connector, OriginError},
    kept::{Line, MOST_FIELDS, Sent},
    lines::Lines,
    origin_body::{RequestBody, ResponseBody, Upload},
    origin_h2::Way,
    pool::Pool,
};
use crate::{
    exchange::{
        Answer, Body, ErrorKind, Forward, ForwardError, ForwardFuture, Interim, Request, RequestHead,
        RequestKind, Response, hygiene,
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
        // What most exchanges don't need takes up room in each of them, unless it has its own.
        if !self.is_http1()
            && let Way::Http2(place) = Box::pin(self.way()).await?
        {
            return Box::pin(self.exchange_h2(request, place)).await;
        }
        if !request.body.is_end_stream() {
            return Box::pin(self.exchange_with_body(request)).await;
        }
        let Request { head, context, .. } = request;
        let outgoing = || self.without_body(&head, context.interim.as_ref());
        // One that changes nothing at the origin may be sent twice (RFC 9110 section 9.2.2).
        let again = || outgoing().ok().filter(|request| request.method().is_safe());
        let (line, response) = self.send(outgoing()?, None, again).await?;
        self.answer(response, None, Some(line)).map(Answer::Http)
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
    pub(super) async fn send(
        &self,
        mut request: http::Request<RequestBody>,
        upload: Option<&Arc<Upload>>,
        again: impl FnOnce() -> Option<http::Request<RequestBody>>,
    ) -> Result<(Box<Line>, http::Response<Incoming>), ForwardError> {
        // The visitor going away shows as a broken request; the reason is the visitor's.
        let failed =
            |error| upload.and_then(|upload| upload.take_failure()).unwrap_or_else(|| self.failed(error));
        let mut line = self.pool.line().await.map_err(unreachable)?;
        let mut again = Some(again);
        let response = loop {
            let error = match line.send(request).await {
                Sent::Answered(response) => break response,
                Sent::Unsent(unsent) => {
                    request = *unsent;
                    line = self.pool.line().await.map_err(unreachable)?;
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
            request = repeated;
            line = Box::pin(self.pool.connect()).await.map_err(unreachable)?;
        };
        if !response.body().is_end_stream() && framed_twice(response.headers()) {
            // What follows it there is the answer to nobody, so the connection isn't used again.
            let detail = format!("the answer of {} doesn't say clearly where it ends", self.url);
            return Err(ForwardError::new(ErrorKind::OriginFailed, detail));
        }
        Ok((line, response))
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
        let mut whole = false;
        let line = match line {
            Some(line) if line.is_ready() => {
                whole = true;
                self.pool.take_back(line);
                None
            }
            // A visitor who reads nothing before all was sent holds the answer up, and must not hold up with it what is
            // being sent.
            Some(line) if upload.as_ref().is_some_and(|upload| upload.goes_on()) => {
                self.pool.finish(line);
                None
            }
            Some(line) if body.is_end_stream() => {
                self.pool.take_back(line);
                None
            }
            line => line.map(|line| (line, self.pool.clone())),
        };
        let body = ResponseBody { body, line, upload, url: Arc::clone(&self.url) };
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
            RequestKind::Http => Box::pin(self.exchange(request)),
            RequestKind::WebSocket => Box::pin(self.upgrade(request)),
        }
    }
}

/// Says how the body is framed: by the length that the visitor announced, by a length that is known here, or in
/// chunks. The HTTP library would leave the body of a `GET` out if nothing said that there is one.
pub(super) fn frame_body(headers: &mut HeaderMap, body: &Body) -> Result<(), ForwardError> {
    let announced = headers.get(header::CONTENT_LENGTH).cloned();
    let more_than_one = headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some();
    if body.is_end_stream() {
        return match announced {
            // Sent on, this would make the origin take the next request for the missing body.
            Some(length) if more_than_one || length != "0" => {
                Err(bad_request("the request's body is shorter than its Content-Length"))
            }
            _ => Ok(()),
        };
    }
    if more_than_one {
        return Err(bad_request("the request has more than one Content-Length"));
    }
    if announced.is_some() {
        return Ok(());
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

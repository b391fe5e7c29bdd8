//! The last stage: the service behind the client.
//!
//! Owns what goes out to the origin and what of its answer comes back, byte for byte where HTTP allows. Must not
//! know the tunnel: it is given a request and answers it.

use std::{
    error::Error as _,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header,
    uri::{Authority, Scheme},
};
use http_body::Body as _;
use hyper::{body::Incoming, ext::on_informational};
use hyper_util::{
    client::legacy::{self, Client, connect::capture_connection},
    rt::{TokioExecutor, TokioTimer},
};

use super::{
    HostHeader, OriginConfig, OriginProtocol,
    connect::{ConnectError, Connector, OriginError},
    kept,
    lines::Lines,
    origin_body::{RequestBody, ResponseBody, Upload},
    origin_h2::Way,
};
use crate::{
    exchange::{
        Answer, Body, ErrorKind, Forward, ForwardError, ForwardFuture, Request, RequestHead, RequestKind,
        Response, hygiene,
    },
    wire,
};

/// How long an unused connection is kept. Common servers (Node.js, Apache) close theirs after 5 s; one that closes
/// while a request is on its way to it costs that request.
const IDLE: Duration = Duration::from_secs(4);

/// Unused connections kept at once: as many as a burst of visitors opened, each for a few seconds only. Fewer would
/// close and open connections all the time under load, which costs more than the requests.
const MAX_IDLE: usize = 1024;

/// Forwards exchanges to one origin, and never to another.
pub struct Origin {
    client: Client<Connector, RequestBody>,
    /// The same without a pool: each request opens a connection.
    fresh: Client<Connector, RequestBody>,
    /// Connections that speak HTTP/2.
    pub(super) lines: Lines,
    pub(super) protocol: OriginProtocol,
    /// When ALPN last agreed on HTTP/1.1, where either would do.
    pub(super) spoke_http1: ArcSwapOption<Instant>,
    scheme: Scheme,
    authority: Authority,
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
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            // What is read at once travels as one part; a larger buffer would only hold more for slow visitors.
            .http1_max_buf_size(wire::MAX_PART)
            .http1_max_headers(wire::MAX_HEADERS)
            .http1_allow_obsolete_multiline_headers_in_responses(true);
        Self {
            client: builder.pool_max_idle_per_host(MAX_IDLE).build(connector.clone()),
            fresh: builder.pool_max_idle_per_host(0).build(connector.clone()),
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
        if let Way::Http2(place) = self.way().await? {
            return self.exchange_h2(request, place).await;
        }
        let Request { head, body, context } = request;
        let expects = hygiene::expects_continue(&head.headers) && !body.is_end_stream();
        let upload = Upload::new(expects, context.interim);
        let mut outgoing = self.request(head, &body)?;
        let informed = Arc::clone(&upload);
        on_informational(&mut outgoing, move |response| {
            let mut headers = response.headers().clone();
            hygiene::response(&mut headers);
            informed.interim(response.status(), headers);
        });
        let response =
            self.send(outgoing.map(|()| RequestBody::new(body, Arc::clone(&upload))), &upload).await?;
        upload.open();
        self.answer(response, upload).map(Answer::Http)
    }

    /// Sends one request and waits for the head of its response.
    ///
    /// A safe one without a body is sent once more if its connection ended under it (RFC 9110 section 9.2.2, RFC 9112
    /// section 9.3.1): a server that closes what it kept can't know that a request is on its way. Where the request
    /// was never begun, the library sees to that itself, whatever the method.
    pub(super) async fn send(
        &self,
        mut request: http::Request<RequestBody>,
        upload: &Arc<Upload>,
    ) -> Result<http::Response<Incoming>, ForwardError> {
        let connection = capture_connection(&mut request);
        let again = repeatable(&request);
        let mut sent = self.client.request(request).await;
        if let (Err(error), Some(again)) = (&sent, again)
            && kept::closed_in_between(error)
        {
            tracing::debug!(url = %self.url, "the origin closed a connection that was kept; sending once more");
            let body = RequestBody::new(Body::empty(), Arc::clone(upload));
            sent = self.fresh.request(again.map(|()| body)).await;
        }
        let response = sent.map_err(|error| {
            // The visitor going away shows as a broken request; the reason is the visitor's.
            upload.take_failure().unwrap_or_else(|| self.failed(error))
        })?;
        if !response.body().is_end_stream() && framed_twice(response.headers()) {
            // What follows it there is the answer to nobody.
            connection.connection_metadata().as_ref().inspect(|connection| connection.poison());
            let detail = format!("the answer of {} doesn't say clearly where it ends", self.url);
            return Err(ForwardError::new(ErrorKind::OriginFailed, detail));
        }
        Ok(response)
    }

    /// Makes an answer of a final response.
    pub(super) fn answer(
        &self,
        response: http::Response<Incoming>,
        upload: Arc<Upload>,
    ) -> Result<Response, ForwardError> {
        let (mut parts, body) = response.into_parts();
        if parts.status.is_informational() {
            let detail = format!("{} switched protocols without being asked", self.url);
            return Err(ForwardError::new(ErrorKind::OriginFailed, detail));
        }
        hygiene::response(&mut parts.headers);
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            Body::stream(ResponseBody { body, upload, url: Arc::clone(&self.url) })
        };
        Ok(Response { status: parts.status, headers: parts.headers, body })
    }

    /// The request as the origin gets it.
    fn request(&self, head: RequestHead, body: &Body) -> Result<http::Request<()>, ForwardError> {
        if head.method == Method::CONNECT {
            // To the HTTP library it would mean a tunnel of its own.
            return Err(bad_request("CONNECT can't be forwarded"));
        }
        let mut headers = self.headers(&head)?;
        frame_body(&mut headers, body)?;
        if hygiene::wants_trailers(&head.headers) {
            // RFC 9110 section 10.1.4: `TE` is for one hop, and `Connection` has to say so.
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        self.with_target(head, headers)
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

    pub(super) fn with_target(
        &self,
        head: RequestHead,
        headers: HeaderMap,
    ) -> Result<http::Request<()>, ForwardError> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(head.target)
            .build()
            .map_err(|error| bad_request("the request's target is not valid").because(error))?;
        let mut request = http::Request::new(());
        *request.method_mut() = head.method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn failed(&self, error: legacy::Error) -> ForwardError {
        if error.is_connect() {
            let sentence = match error.source().and_then(|cause| cause.downcast_ref::<ConnectError>()) {
                Some(cause) => cause.to_string(),
                None => format!("{} can't be reached", self.url),
            };
            return ForwardError::new(ErrorKind::OriginUnreachable, sentence).because(error);
        }
        let url = &self.url;
        let detail = match error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>()) {
            Some(cause) if cause.is_parse_too_large() => format!(
                "the head of the answer of {url} is too large: over {} kB, or over {} header fields",
                wire::MAX_PART / 1024,
                wire::MAX_HEADERS
            ),
            Some(cause) if cause.is_parse() => format!("{url} answered with something that is not HTTP"),
            Some(cause) if cause.is_incomplete_message() => {
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

/// A copy of a request that may be sent twice: it changes nothing at the origin (RFC 9110 section 9.2.1), and is whole
/// without a body.
fn repeatable(request: &http::Request<RequestBody>) -> Option<http::Request<()>> {
    (request.method().is_safe() && request.body().is_end_stream()).then(|| copy(request))
}

/// The same request without its body.
pub(super) fn copy(request: &http::Request<RequestBody>) -> http::Request<()> {
    let mut copy = http::Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

pub(super) fn bad_request(detail: &'static str) -> ForwardError {
    ForwardError::new(ErrorKind::BadRequest, detail)
}

/// The status of an accepted upgrade.
pub(super) const SWITCHING: StatusCode = StatusCode::SWITCHING_PROTOCOLS;

#[cfg(test)]
#[path = "tests/origin.rs"]
mod tests;

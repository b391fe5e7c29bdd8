//! Exchanges with an origin by HTTP/2 (RFC 9113).
//!
//! Owns what is different from HTTP/1.1: pseudo-header fields, what may be sent again after the origin refused it, and
//! the reasons for which a stream ends. Must not know how many connections there are; `lines` does.

use std::{
    error::Error as _,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, Uri, Version, header};
use http_body::Body as _;
use hyper::{body::Incoming, ext::Protocol};
use hyper_util::rt::TokioIo;

use super::{
    OriginProtocol,
    connect::ConnectError,
    lines::Place,
    origin::{Origin, bad_request, frame_body},
    origin_body::{RequestBody, Upload},
    origin_websocket::chosen,
};
use crate::exchange::{
    Accepted, Answer, Body, ErrorKind, ForwardError, Request, RequestHead, hygiene,
    websocket::{Role, over},
};

/// How often one request is sent at most; an origin that refuses one three times has a reason.
const ATTEMPTS: usize = 3;

/// How long it is remembered that ALPN agreed on HTTP/1.1: an origin's administrator seldom changes that, and to ask
/// costs a connection.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Where an exchange goes.
pub(super) enum Way {
    /// By HTTP/2, on this place.
    Http2(Place),
    /// By HTTP/1.1.
    Http1,
}

/// What the origin said of a request that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It wasn't acted on (RFC 9113 sections 6.8 and 8.7).
    NotProcessed,
    /// The connection ended; nobody knows.
    Unknown,
    /// Something that a second attempt wouldn't mend.
    Final,
}

impl Origin {
    /// Whether nothing but HTTP/1.1 is spoken, which is known without asking.
    pub(super) fn is_http1(&self) -> bool {
        match self.protocol {
            OriginProtocol::Http1 => true,
            OriginProtocol::H2 => false,
            OriginProtocol::Auto => !self.is_tls(),
        }
    }

    /// Chooses how the origin is spoken to.
    ///
    /// # Errors
    /// It can't be connected to.
    pub(super) async fn way(&self) -> Result<Way, ForwardError> {
        let auto = self.protocol == OriginProtocol::Auto;
        let recently = |said: &Instant| said.elapsed() < REMEMBERED;
        if self.is_http1() || auto && self.spoke_http1.load().as_deref().is_some_and(recently) {
            return Ok(Way::Http1);
        }
        match self.lines.place().await {
            Ok(place) => Ok(Way::Http2(place)),
            Err(error) if auto && matches!(*error, ConnectError::NotHttp2 { .. }) => {
                self.spoke_http1.store(Some(Arc::new(Instant::now())));
                Ok(Way::Http1)
            }
            Err(error) => Err(unreachable(error)),
        }
    }

    pub(super) async fn exchange_h2(&self, request: Request, place: Place) -> Result<Answer, ForwardError> {
        let Request { head, body, context } = request;
        let expects = hygiene::expects_continue(&head.headers) && !body.is_end_stream();
        let upload = Upload::new(expects, context.interim);
        // The library doesn't tell of interim responses, so the origin isn't asked for one: the stream's window says how much
        // of the body it wants.
        upload.wanted();
        let outgoing = self.request_h2(head, &body)?;
        let outgoing = outgoing.map(|()| RequestBody::new(body, Arc::clone(&upload)));
        let (response, place) = self.send_h2(outgoing, &upload, place).await?;
        let mut answer = self.answer(response, Some(upload), None)?;
        if !answer.body.is_end_stream() {
            answer.body = answer.body.keeping(place);
        }
        Ok(Answer::Http(answer))
    }

    /// Asks for a WebSocket on a stream of its own (RFC 8441 section 5).
    pub(super) async fn upgrade_h2(&self, request: Request, place: Place) -> Result<Answer, ForwardError> {
        let mut head = request.head;
        head.method = Method::CONNECT;
        let offered = hygiene::tokens(&head.headers, &header::SEC_WEBSOCKET_PROTOCOL)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>();
        let mut outgoing = self.target_h2(head)?;
        hygiene::retain(outgoing.headers_mut(), |name| {
            *name != header::SEC_WEBSOCKET_EXTENSIONS && *name != header::CONTENT_LENGTH
        });
        outgoing.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        outgoing.extensions_mut().insert(Protocol::from_static("websocket"));
        let upload = Upload::new(false, None);
        let outgoing = outgoing.map(|()| RequestBody::new(Body::empty(), Arc::clone(&upload)));
        let (mut response, place) = self.send_h2(outgoing, &upload, place).await?;
        if !response.status().is_success() {
            let mut answer = self.answer(response, Some(upload), None)?;
            answer.body = answer.body.keeping(place);
            return Ok(Answer::Http(answer));
        }
        chosen(response.headers(), &offered).map_err(|detail| self.broken(detail))?;
        let upgraded = hyper::upgrade::on(&mut response)
            .await
            .map_err(|error| self.broken("broke off after it accepted a WebSocket").because(error))?;
        let mut headers = std::mem::take(response.headers_mut());
        hygiene::upgrade_response(&mut headers);
        let duplex = over(TokioIo::new(upgraded), Role::Client, self.max_websocket_message);
        Ok(Answer::WebSocket(Accepted { headers, duplex: duplex.keeping(place) }))
    }

    /// The request as the origin gets it.
    fn request_h2(&self, head: RequestHead, body: &Body) -> Result<http::Request<()>, ForwardError> {
        if head.method == Method::CONNECT {
            return Err(bad_request("CONNECT can't be forwarded"));
        }
        let trailers = hygiene::wants_trailers(&head.headers);
        let mut request = self.target_h2(head)?;
        let headers = request.headers_mut();
        frame_body(headers, body)?;
        // Frames say how long a body is; `Connection` and this are malformed here (RFC 9113 section 8.2.2).
        hygiene::retain(headers, |name| *name != header::TRANSFER_ENCODING && *name != header::EXPECT);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        Ok(request)
    }

    /// Method, target and end-to-end headers; `Host` as `:authority` (RFC 9113 section 8.3.1).
    fn target_h2(&self, head: RequestHead) -> Result<http::Request<()>, ForwardError> {
        let mut headers = self.headers(&head)?;
        let host = headers.get(header::HOST).cloned();
        let host = host.ok_or_else(|| bad_request("the request's host is not valid"))?;
        hygiene::retain(&mut headers, |name| *name != header::HOST);
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(host.as_bytes())
            .path_and_query(head.target)
            .build()
            .map_err(|error| bad_request("the request's host or target is not valid").because(error))?;
        let mut request = http::Request::new(());
        *request.method_mut() = head.method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Sends one request and waits for the head of its response.
    ///
    /// One without a body is sent again if the origin says that it wasn't acted on, whatever its method; and once, if it is
    /// a safe one, if its connection, which had served others before, ended under it (RFC 9110 section 9.2.2).
    async fn send_h2(
        &self,
        mut request: http::Request<RequestBody>,
        upload: &Arc<Upload>,
        mut place: Place,
    ) -> Result<(http::Response<Incoming>, Place), ForwardError> {
        let mut attempt = 1;
        loop {
            let copy = request.body().is_end_stream().then(|| copy(&request));
            let mut failed = match place.sender.try_send_request(request).await {
                Ok(response) => {
                    place.prove();
                    return Ok((response, place));
                }
                Err(failed) => failed,
            };
            let unsent = failed.take_message();
            let error = failed.into_error();
            let again = match (unsent, copy, refusal(&error)) {
                (Some(unsent), ..) => Some(unsent),
                (None, Some(copy), refusal)
                    if refusal == Refusal::NotProcessed
                        || refusal == Refusal::Unknown && copy.method().is_safe() && place.is_proven() =>
                {
                    let body = RequestBody::new(Body::empty(), Arc::clone(upload));
                    Some(copy.map(|()| body))
                }
                _ => None,
            };
            let Some(again) = again.filter(|_| attempt < ATTEMPTS) else {
                // The visitor going away shows as a broken request; the reason is the visitor's.
                return Err(upload.take_failure().unwrap_or_else(|| self.failed_h2(error)));
            };
            tracing::debug!(url = %self.url, %error, "the origin didn't take a request; sending it once more");
            if ends_connection(&error) {
                place.leave();
            }
            (request, attempt) = (again, attempt + 1);
            place = self.lines.place().await.map_err(unreachable)?;
        }
    }

    fn failed_h2(&self, error: hyper::Error) -> ForwardError {
        let url = &self.url;
        let reason = h2_error(&error).and_then(h2::Error::reason);
        let detail = match reason {
            Some(h2::Reason::REFUSED_STREAM) => format!("{url} refused the request without a look at it"),
            Some(reason) => format!("{url} broke off before it answered: {}", reason.description()),
            None => format!("{url} broke off before it answered"),
        };
        ForwardError::new(ErrorKind::OriginFailed, detail).because(error)
    }
}

/// The same request without its body.
fn copy(request: &http::Request<RequestBody>) -> http::Request<()> {
    let mut copy = http::Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

fn unreachable(error: Arc<ConnectError>) -> ForwardError {
    ForwardError::new(ErrorKind::OriginUnreachable, error.to_string()).because(error)
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(|cause| cause.downcast_ref())
}

fn refusal(error: &hyper::Error) -> Refusal {
    let Some(error) = h2_error(error) else {
        return if error.is_user() { Refusal::Final } else { Refusal::Unknown };
    };
    // A stream that a GOAWAY fails is one that it says wasn't acted on; others go on to their end.
    let left = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    if left || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
        Refusal::NotProcessed
    } else if error.is_io() || error.is_go_away() {
        Refusal::Unknown
    } else {
        Refusal::Final
    }
}

/// Whether the connection is of no more use.
fn ends_connection(error: &hyper::Error) -> bool {
    h2_error(error).is_none_or(|error| !error.is_reset())
}

#[cfg(test)]
#[path = "tests/origin_h2.rs"]
mod tests;

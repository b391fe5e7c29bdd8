//! A client's way in: what happens on `GET /proxy/subscribe`.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming;

use super::{Shared, outgoing::Outgoing};
use crate::exchange::Body;

/// Answers a client that wants to attach.
pub(super) async fn subscribe(
    _shared: &Arc<Shared>,
    _request: http::Request<Incoming>,
    _peer: SocketAddr,
) -> http::Response<Outgoing> {
    let mut response = http::Response::new(Outgoing::from(Body::full("not implemented\n")));
    *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

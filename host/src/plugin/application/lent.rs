//! What an instance sees of this host, and the requests that it sends: to origins that it is granted.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::{
    super::{bindings::tunnel::plugin::http_client, capability::Loan, state::State},
    head::is_for_applications,
};

/// Bytes of one piece of a body: what travels as one part further on.
const PIECE: usize = 64 << 10;

/// The data of one instance's store.
pub(super) struct Served {
    pub(super) state: State,
    http: WasiHttpCtx,
    hooks: Hooks,
}

impl Served {
    pub(super) fn new(state: State, loan: Arc<Loan>) -> Self {
        Self { state, http: WasiHttpCtx::new(), hooks: Hooks(loan) }
    }
}

impl AsMut<State> for Served {
    fn as_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl WasiView for Served {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.state.ctx()
    }
}

impl WasiHttpView for Served {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.state.table, ctx: &mut self.http }
    }
}

struct Hooks(Arc<Loan>);

type Sent = Result<(http::Response<WasiBody>, Io), Error>;
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        !is_for_applications(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| !is_for_applications(name))
    }

    /// Made from the URL when it is sent.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        PIECE
    }

    /// By the way that plugins' requests take, with its bounds: both bodies are held whole.
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let loan = Arc::clone(&self.0);
        Box::new(async move {
            let response = send(&loan, request, options).await?;
            let done: Io = Box::new(std::future::ready(Ok(())));
            Ok((response, done))
        })
    }
}

async fn send(
    loan: &Loan,
    request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<http::Response<WasiBody>, Error> {
    let (head, body) = request.into_parts();
    let url = head.uri.to_string();
    let body = Limited::new(body, loan.body_limit()).collect().await.map_err(|error| {
        match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) if error.is::<LengthLimitError>() => Error::HttpRequestBodySize(None),
            Err(_) => Error::HttpProtocolError,
        }
    })?;
    let first_byte = options.and_then(|options| options.first_byte_timeout);
    let request = http_client::Request {
        method: head.method.to_string(),
        headers: head
            .headers
            .iter()
            // Both are made anew from what is sent.
            .filter(|(name, _)| !matches!(**name, header::CONTENT_LENGTH | header::TRAILER))
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
        body: body.to_bytes().to_vec(),
        timeout_ms: first_byte.map_or(0, milliseconds),
        url,
    };
    let answer = loan.send(request).await.map_err(failed)?;
    let mut response =
        http::Response::builder().status(StatusCode::from_u16(answer.status).unwrap_or_default());
    for (name, value) in &answer.headers {
        response = response.header(name, &value[..]);
    }
    let body = Full::new(Bytes::from(answer.body)).map_err(|never| match never {}).boxed_unsync();
    response.body(body).map_err(|_| Error::HttpProtocolError)
}

/// At least one: none at all would take the longest time.
fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}

fn failed(error: http_client::Error) -> Error {
    match error {
        http_client::Error::Denied(why) => {
            tracing::debug!(target: "plugin", "a request of an application was denied: {why}");
            Error::HttpRequestDenied
        }
        http_client::Error::TooLarge => Error::HttpResponseBodySize(None),
        http_client::Error::Timeout => Error::HttpResponseTimeout,
        http_client::Error::Connect(_) => Error::ConnectionRefused,
        http_client::Error::Protocol(_) => Error::HttpProtocolError,
    }
}

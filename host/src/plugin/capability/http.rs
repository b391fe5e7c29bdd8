//! Requests that guests send: to origins that they are granted, within bounds.
//!
//! One client and its kept connections serve all plugins; what one plugin may send is [`Allowed`]. Redirects come back as
//! answers, so that nobody is led elsewhere, and no proxy of the environment is asked.

mod address;
mod request;
#[cfg(test)]
mod tests;

use address::Resolve;

use std::{
    error::Error as StdError,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto::ring};

use self::{
    address::{Guarded, NoAddress, System},
    request::Origin,
};
use super::super::{
    bindings::tunnel::plugin::{
        http_client::{self, Error},
        types::Answer,
    },
    error::LoadError,
    state::State,
};
use crate::{exchange::hygiene, wire::MAX_HEADERS};

/// The longest time from the call to the last byte, and what a request has that names none. As `wit/host.wit` says.
const LONGEST: Duration = Duration::from_secs(10);

/// Requests of one plugin at once; more wait, within their time. A key set or a question to an authorisation server is
/// one request for many exchanges: a plugin that has more under way meets a server that doesn't answer, and piling up
/// more helps neither.
const AT_ONCE: usize = 16;

/// Connections that wait for the next request, of each origin, and for how long: a busy plugin spares handshakes, an idle
/// one holds nothing.
const IDLE: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(30);

/// Bytes of an answer's head.
const MAX_HEAD: usize = 64 << 10;

type Connections = Client<HttpsConnector<HttpConnector<Guarded>>, Full<Bytes>>;

/// Sends what all plugins send.
pub(super) struct Sender {
    resolver: Guarded,
    roots: Option<RootCertStore>,
    /// Made when a plugin is first granted an origin: most have none, and reading certificates takes a while.
    client: OnceLock<Trusting>,
}

#[derive(Clone)]
struct Trusting {
    client: Connections,
    /// Whether there is any certificate to check others against.
    roots: bool,
}

impl Sender {
    /// Resolves and trusts as the system does.
    pub(super) fn new() -> Self {
        Self::with(System, None)
    }

    fn with(resolver: impl Resolve, roots: Option<RootCertStore>) -> Self {
        Self { resolver: Guarded::new(resolver), roots, client: OnceLock::new() }
    }

    fn client(&self) -> Result<Trusting, LoadError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let roots = self.roots.clone().unwrap_or_else(system_roots);
        let trusts = !roots.is_empty();
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| LoadError::Import(format!("TLS can't be set up for its requests: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new_with_resolver(self.resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector =
            hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE)
            .http1_max_buf_size(MAX_HEAD)
            .http1_max_headers(MAX_HEADERS)
            .build(connector.wrap_connector(tcp));
        Ok(self.client.get_or_init(|| Trusting { client, roots: trusts }).clone())
    }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::debug!(%error, "some of the system's certificates can't be read");
    }
    let mut roots = RootCertStore::empty();
    // Systems carry old certificates that no library reads any more.
    roots.add_parsable_certificates(found.certs);
    roots
}

/// Where one plugin may send requests, and how.
pub(super) struct Allowed {
    origins: Vec<Origin>,
    /// `None` if it may send nothing.
    client: Option<Connections>,
    places: Semaphore,
}

impl Allowed {
    /// # Errors
    /// A grant isn't an origin, or is one by https and nothing is trusted here.
    pub(super) fn new(grants: &[Uri], sender: &Sender) -> Result<Self, LoadError> {
        let origins = grants.iter().map(|grant| {
            Origin::granted(grant).map_err(|wrong| {
                LoadError::Import(format!(
                    "the grant http = [\"{grant}\"] {wrong}; write https://HOST or https://HOST:PORT"
                ))
            })
        });
        let origins = origins.collect::<Result<Vec<_>, _>>()?;
        let client = if origins.is_empty() { None } else { Some(sender.client()?) };
        if client.as_ref().is_some_and(|client| !client.roots) && origins.iter().any(Origin::is_https) {
            return Err(LoadError::Import(
                "it is granted an origin by https, and this system has no trusted certificates, so that none can be \
                 checked; install them (ca-certificates)"
                    .to_owned(),
            ));
        }
        Ok(Self { origins, client: client.map(|client| client.client), places: Semaphore::new(AT_ONCE) })
    }

    /// Sends a request and waits for the whole answer. `limit` holds for the body of either.
    pub(super) async fn send(&self, request: http_client::Request, limit: usize) -> Result<Answer, Error> {
        let time = match request.timeout_ms {
            0 => LONGEST,
            asked => LONGEST.min(Duration::from_millis(asked.into())),
        };
        let request = request::checked(request, &self.origins, limit)?;
        timeout(time, self.exchange(request, limit)).await.unwrap_or(Err(Error::Timeout))
    }

    async fn exchange(&self, request: http::Request<Full<Bytes>>, limit: usize) -> Result<Answer, Error> {
        let Some(client) = &self.client else { return Err(Error::Denied("no origin is granted".to_owned())) };
        // Nobody closes it.
        let _place = self.places.acquire().await.map_err(|error| Error::Connect(error.to_string()))?;
        let response = client.request(request).await.map_err(failed)?;
        let (mut head, body) = response.into_parts();
        let status = head.status.as_u16();
        if !(200..=599).contains(&status) {
            return Err(Error::Protocol(format!(
                "an answer with status {status} to a request that asks for none such"
            )));
        }
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Error::TooLarge
            } else {
                Error::Protocol(innermost(&*error).to_string())
            }
        })?;
        hygiene::response(&mut head.headers);
        let headers =
            head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
        Ok(Answer { status, headers: headers.collect(), body: body.to_bytes().to_vec() })
    }
}

/// What became of a request that has no answer.
fn failed(error: hyper_util::client::legacy::Error) -> Error {
    if let Some(no_address) = causes(&error).find_map(|error| error.downcast_ref::<NoAddress>()) {
        return match no_address {
            NoAddress::Denied(_) => Error::Denied(no_address.to_string()),
            NoAddress::Unknown(_) => Error::Connect(no_address.to_string()),
        };
    }
    let cause = innermost(&error);
    match tls(cause) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            Error::Connect(format!("its certificate isn't trusted here: {why}"))
        }
        _ if error.is_connect() => Error::Connect(cause.to_string()),
        _ => Error::Protocol(cause.to_string()),
    }
}

type Cause<'a> = &'a (dyn StdError + 'static);

fn causes<'a>(error: Cause<'a>) -> impl Iterator<Item = Cause<'a>> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The others only say that there is one.
fn innermost<'a>(error: Cause<'a>) -> Cause<'a> {
    causes(error).last().unwrap_or(error)
}

/// What TLS has to say, which stands in errors of I/O that pass for it instead of naming it as their source.
fn tls(error: Cause<'_>) -> Option<&rustls::Error> {
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => tls(error.get_ref()?),
        None => error.downcast_ref(),
    }
}

impl http_client::Host for State {
    async fn send(&mut self, request: http_client::Request) -> wasmtime::Result<Result<Answer, Error>> {
        let loan = Arc::clone(&self.lent.loan);
        Ok(loan.http.send(request, loan.limits.body).await)
    }
}

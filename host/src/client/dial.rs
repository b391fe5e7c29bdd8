//! One attempt: connect to the proxy, register, and hand over the socket.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Response, StatusCode, Uri, header::RETRY_AFTER};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{self, CertificateError, pki_types::ServerName},
};
use tokio_util::either::Either;

use super::{
    Config, connect,
    subscribe::{SubscribeError, Subscribed, subscribe},
};
use crate::{
    exchange::websocket::Role,
    session::{self, Ended},
    wire::{
        Decoded, Limits, Message, NONCE_HEADER, SUBSCRIBE_PATH,
        message::{Refusal, Registered},
        registration::{MAX_LIFETIME, NONCE_LENGTH, Statement},
    },
};

/// Longest wait for each step of an attempt.
const STEP: Duration = Duration::from_secs(10);

/// A registration response has no headers.
const REGISTRATION_LIMITS: Limits = Limits { headers: 0 };

/// The socket of a session.
pub(super) type Socket = session::Socket<connect::Stream>;

/// How to reach and convince one proxy.
pub(super) struct Dialer {
    url: Uri,
    tls: Option<TlsConnector>,
    config: Config,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("the proxy can't be reached at {0}: nothing listens there")]
    NobodyListens(Uri),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0} is no tunnel proxy, or another version: {1}")]
    NotAProxy(Uri, String),
    #[error("the proxy refused the registration: {}", .0.text)]
    Refused(Refusal),
    #[error("{reason}")]
    Later { reason: String, wait: Duration },
}

impl DialError {
    /// Whether trying again can't help.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Refused(refusal) if !refusal.retry)
    }

    /// How long the proxy wants us to wait, if it said so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Later { wait, .. } => Some(*wait),
            _ => None,
        }
    }

    /// Whether there is no program at the proxy's address.
    pub(super) fn nobody_listens(&self) -> bool {
        matches!(self, Self::NobodyListens(_))
    }
}

impl Dialer {
    /// # Errors
    /// The proxy's URL can't be used; a sentence says why.
    pub(super) fn new(config: Config) -> Result<Self, String> {
        let (secure, scheme) = match config.proxy.scheme_str() {
            Some("http" | "ws") => (false, "ws"),
            Some("https" | "wss") => (true, "wss"),
            _ => {
                return Err(format!(
                    "the proxy's URL begins with http:// or https://, unlike {}",
                    config.proxy
                ));
            }
        };
        if !secure && config.invitation.is_some() && !is_this_machine(config.proxy.host().unwrap_or_default())
        {
            return Err(format!(
                "an invitation is a secret, and {} isn't encrypted: whoever is on the way could take it; dial the proxy by https",
                config.proxy
            ));
        }
        let authority = config.proxy.authority().ok_or_else(|| format!("{} names no host", config.proxy))?;
        let url = format!("{scheme}://{authority}{SUBSCRIBE_PATH}");
        let url = url.parse().map_err(|_| format!("{} is no URL of a proxy", config.proxy))?;
        let tls = if secure {
            let roots = config.proxy_ca.as_ref().map(|ca| &*ca.0);
            Some(connect::to_proxy(roots).map_err(|error| error.to_string())?)
        } else {
            None
        };
        Ok(Self { url, tls, config })
    }

    /// Opens a session's socket and registers it.
    pub(super) async fn dial(&self) -> Result<(Socket, Registered), DialError> {
        let (mut socket, nonce) = within(self.connect()).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let issued_at = i64::try_from(now).unwrap_or(i64::MAX);
        let statement = Statement {
            nonce,
            audience: self.url.to_string(),
            issued_at,
            expires_at: issued_at.saturating_add(MAX_LIFETIME),
            session: self.config.session.clone(),
            hostname: self.config.hostname.clone(),
            invitation: self.config.invitation.clone(),
        };
        let request =
            Message::RegistrationRequest { id: 1, statement: statement.sign(&self.config.key).into() };
        let broken = |ended| {
            DialError::Unreachable(match ended {
                Ended::ClosedByPeer => "the proxy closed the connection".into(),
                Ended::ClosedBecause(reason) => format!("the proxy closed the connection: {reason}"),
                ended => ended.to_string(),
            })
        };
        let answer = async {
            socket.send(&request).await.map_err(broken)?;
            socket.receive().await.map_err(broken)
        };
        match Message::decode(within(answer).await?, &REGISTRATION_LIMITS) {
            Ok(Decoded::Message(Message::RegistrationResponse { outcome, .. })) => {
                Ok((socket, outcome.map_err(DialError::Refused)?))
            }
            _ => Err(self.not_a_proxy("it didn't answer the registration".into())),
        }
    }

    async fn connect(&self) -> Result<(Socket, [u8; NONCE_LENGTH]), DialError> {
        let host = self.url.host().unwrap_or_default();
        let port = self.url.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        // Brackets belong to the URL, not to the address.
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((address, port)).await;
        let stream = stream.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => DialError::NobodyListens(self.config.proxy.clone()),
            _ => DialError::Unreachable(format!(
                "the proxy can't be reached at {}: {error}",
                self.config.proxy
            )),
        })?;
        tune(&stream);
        let stream = match &self.tls {
            None => Either::Left(stream),
            Some(tls) => {
                let name = ServerName::try_from(address.to_owned())
                    .map_err(|_| DialError::Unreachable(format!("{address} is no name for a certificate")))?;
                let stream = tls.connect(name, stream).await;
                Either::Right(stream.map_err(|error| self.no_tls(&error))?)
            }
        };
        match subscribe(stream, &self.url).await {
            Ok(Subscribed::Upgraded { response, io, read }) => {
                let nonce = response.headers().get(NONCE_HEADER);
                let nonce = nonce.and_then(|nonce| URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok());
                let nonce = nonce.ok_or_else(|| self.not_a_proxy("its answer has no nonce".into()))?;
                Ok((Socket::over(io, Role::Client, &read), nonce))
            }
            Ok(Subscribed::Answered(response)) => Err(self.refused_upgrade(&response)),
            Err(SubscribeError::Http(error)) if error.is_incomplete_message() => {
                Err(DialError::Unreachable(format!("the proxy closed the connection: {error}")))
            }
            Err(error) => Err(self.not_a_proxy(error.to_string())),
        }
    }

    fn refused_upgrade(&self, response: &Response<Bytes>) -> DialError {
        let status = response.status();
        let code = response.headers().get("tunnel-error");
        if status == StatusCode::NOT_FOUND && code.is_some_and(|code| code == "no-such-tunnel") {
            let url = &self.config.proxy;
            return DialError::Unreachable(format!(
                "the proxy at {url} goes by another name; dial it by its public URL, or start it with \
                 --also-known-as {url}"
            ));
        }
        let text = String::from_utf8_lossy(response.body());
        // A proxy answers in plain words; a page is somebody else's.
        let text = text.lines().next().filter(|line| !line.starts_with('<')).unwrap_or_default();
        let answer: String = format!("{status}. {text}").trim_end_matches(". ").chars().take(200).collect();
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(seconds)) =
            (status, seconds)
        {
            let reason = format!("the proxy at {} answered {status}. {text}", self.config.proxy);
            return DialError::Later { reason, wait: Duration::from_secs(seconds) };
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return DialError::Unreachable(format!(
                "the proxy at {} answered {status}. {text}",
                self.config.proxy
            ));
        }
        self.not_a_proxy(format!("it answered {answer}"))
    }

    /// What answers in plain HTTP is as a rule a proxy without a web server in front, dialled with one letter too many.
    fn no_tls(&self, error: &io::Error) -> DialError {
        let url = &self.config.proxy;
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        DialError::Unreachable(match (cause, url.authority()) {
            (Some(rustls::Error::InvalidMessage(_)), Some(authority)) => {
                format!(
                    "what answers at {url} speaks no TLS; if it is a plain proxy, dial http://{authority}"
                )
            }
            // The second where an authority of ours has the name of another.
            (
                Some(rustls::Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                )),
                _,
            ) => {
                format!(
                    "no TLS with {url}: its certificate is of no authority that is trusted here; if the proxy has one of its \
                     own, name that with --proxy-ca"
                )
            }
            _ => format!("no TLS with {url}: {error}"),
        })
    }

    fn not_a_proxy(&self, why: String) -> DialError {
        DialError::NotAProxy(self.config.proxy.clone(), why)
    }
}

/// A host to which nothing leaves this machine (RFC 6761 section 6.3).
fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare.ends_with(".localhost")
        || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Small messages must not wait for large ones: nothing is held back to fill a packet, and what the network can't
/// take yet stays here, where heads go before bodies.
fn tune(stream: &TcpStream) {
    // A socket that can't be tuned still works.
    let _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(session::UNSENT_IN_KERNEL);
}

async fn within<T>(step: impl Future<Output = Result<T, DialError>>) -> Result<T, DialError> {
    let late =
        || DialError::Unreachable(format!("the proxy didn't answer within {} seconds", STEP.as_secs()));
    tokio::time::timeout(STEP, step).await.map_err(|_| late())?
}

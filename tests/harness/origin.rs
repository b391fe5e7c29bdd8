//! The service behind the client, played by the test: by hand, connection by connection, or by a function.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

use super::{Request, Wire, within};

/// A listening service.
pub(crate) struct Origin {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Origin {
    /// A service on a free port of 127.0.0.1.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self { listener, tls: None }
    }

    /// A service that speaks TLS with a certificate for `localhost` that nobody has signed.
    pub(crate) async fn start_tls() -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate with its key");
        Self { tls: Some(TlsAcceptor::from(Arc::new(config))), ..Self::start().await }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a listening socket has an address")
    }

    /// The URL of the service, as a client's target.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// The next connection.
    #[track_caller]
    pub(crate) fn accept(&self) -> impl Future<Output = Wire> {
        within("the origin to be connected to", self.try_accept())
    }

    /// The next connection, whenever it comes.
    pub(crate) async fn try_accept(&self) -> Wire {
        loop {
            let (stream, _) = self.listener.accept().await.expect("a listening socket accepts");
            stream.set_nodelay(true).expect("a socket takes TCP_NODELAY");
            match &self.tls {
                None => return Wire::over(stream),
                // A client that doesn't trust the certificate ends the handshake; the next connection counts.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        return Wire::over(stream);
                    }
                }
            }
        }
    }

    /// The next connection and the first request on it, with its body.
    pub(crate) async fn request(&self) -> (Wire, Request) {
        let mut wire = self.accept().await;
        let request = wire.request().await;
        (wire, request)
    }

    /// The next request, on this connection if it is used again, else on a new one that takes its place.
    pub(crate) async fn request_again(&self, wire: &mut Wire) -> Request {
        let fresh = within("another request", async {
            tokio::select! {
                head = wire.try_head() => match head {
                    Ok(head) => Ok(head),
                    Err(_) => Err(self.try_accept().await),
                },
                fresh = self.try_accept() => Err(fresh),
            }
        });
        match fresh.await {
            Ok(head) => {
                let (body, trailers) = wire.rest_of_request(&head).await;
                Request { head, body, trailers }
            }
            Err(fresh) => {
                *wire = fresh;
                wire.request().await
            }
        }
    }

    /// Answers every request with the bytes that `answer` gives, on as many connections as come.
    pub(crate) fn answering(self, answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Answering {
        let address = self.address();
        let (seen, connections) = (watch::Sender::new(Vec::new()), watch::Sender::new(0));
        let answer = Arc::new(answer);
        let task = serve(self, {
            let (seen, connections) = (seen.clone(), connections.clone());
            move |wire| {
                connections.send_modify(|count| *count += 1);
                answer_all(wire, Arc::clone(&answer), seen.clone())
            }
        });
        Answering { address, seen, connections, _task: task }
    }

    /// Gives every connection to `handle`, each in a task of its own, until the returned guard is dropped.
    pub(crate) fn handling<H, F>(self, handle: H) -> Handling
    where
        H: Fn(Wire) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Handling { address: self.address(), _task: serve(self, handle) }
    }
}

fn serve<H, F>(origin: Origin, handle: H) -> JoinSet<()>
where
    H: Fn(Wire) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let wire = origin.try_accept().await;
            connections.spawn(handle(wire));
            while connections.try_join_next().is_some() {}
        }
    });
    task
}

async fn answer_all(
    mut wire: Wire,
    answer: Arc<impl Fn(&Request) -> Vec<u8>>,
    seen: watch::Sender<Vec<Request>>,
) {
    while let Ok(head) = wire.try_head().await {
        let (body, trailers) = wire.rest_of_request(&head).await;
        let request = Request { head, body, trailers };
        let bytes = answer(&request);
        seen.send_modify(|all| all.push(request));
        if wire.try_send(&bytes).await.is_err() {
            return;
        }
    }
}

/// A service that answers by a function; stops when dropped.
pub(crate) struct Answering {
    address: SocketAddr,
    seen: watch::Sender<Vec<Request>>,
    connections: watch::Sender<usize>,
    _task: JoinSet<()>,
}

impl Answering {
    /// The URL of the service, as a client's target.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in the order they came.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.borrow().clone()
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }
}

/// A service whose connections go to a function; stops when dropped.
pub(crate) struct Handling {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Handling {
    /// The URL of the service, as a client's target.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A response with a body of known length.
pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An address at which nothing listens: below the ports that the system hands out for port 0, so that no other
/// test gets it by chance.
pub(crate) async fn vacant() -> SocketAddr {
    static GIVEN: Mutex<u16> = Mutex::new(0);
    loop {
        let offset = {
            let mut given = GIVEN.lock().expect("nobody panics with the lock");
            *given += 1;
            *given
        };
        // Test runs at the same time have ids close to each other; their ports must not be.
        let start = u16::try_from(std::process::id().wrapping_mul(61) % 12_000).expect("below 12,000");
        let address = SocketAddr::from(([127, 0, 0, 1], 20_000 + start + offset));
        if TcpStream::connect(address).await.is_err() && TcpListener::bind(address).await.is_ok() {
            return address;
        }
    }
}

//! A service of gRPC, and its clients: a library's, with messages that are bytes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt, stream};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{BoxFuture, Service},
    server::{Grpc, NamedService, StreamingService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Server, server::TcpIncoming},
};

use super::{Door, secured::Secured};

/// Messages are bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// The service `test.Talk` on a port of its own; stops when dropped.
pub(crate) struct Talk {
    address: SocketAddr,
    /// Told when a call of `Wait` begins, and when it was given up.
    pub(crate) waits: mpsc::Receiver<&'static str>,
    _task: JoinSet<()>,
}

impl Talk {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a listening socket has an address");
        let (told, waits) = mpsc::channel(16);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let serving = Server::builder().add_service(Methods { told });
            serving.serve_with_incoming(TcpIncoming::from(listener)).await.expect("the service serves");
        });
        Self { address, waits, _task: task }
    }

    /// The URL of the service, as a client's target.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A client of the service at this door.
pub(crate) async fn client(door: &Door) -> tonic::client::Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", door.address)).expect("a URL");
    let origin = format!("http://{}", door.host).parse().expect("a URL");
    let channel = endpoint.origin(origin).connect().await.expect("the proxy takes connections");
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("the connection is up");
    client
}

/// A client that came by TLS, and trusts what is in this file.
pub(crate) async fn secure_client(secured: &Secured, host: &str) -> tonic::client::Grpc<Channel> {
    let name = host.split(':').next().expect("split gives at least one part");
    let trusted = Certificate::from_pem(secured.authority.pem());
    let tls = ClientTlsConfig::new().ca_certificate(trusted).domain_name(name);
    let endpoint = Endpoint::from_shared(format!("https://{}", secured.address())).expect("a URL");
    let endpoint = endpoint.tls_config(tls).expect("settings of TLS");
    let origin = format!("https://{host}").parse().expect("a URL");
    let channel = endpoint.origin(origin).connect().await.expect("the proxy takes connections");
    tonic::client::Grpc::new(channel)
}

/// The path of a method.
pub(crate) fn method(name: &str) -> http::uri::PathAndQuery {
    format!("/test.Talk/{name}").parse().expect("a path")
}

#[derive(Clone)]
struct Methods {
    told: mpsc::Sender<&'static str>,
}

impl NamedService for Methods {
    const NAME: &'static str = "test.Talk";
}

impl Service<http::Request<Body>> for Methods {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let method = Method { name, told: self.told.clone() };
        Box::pin(async move { Ok(Grpc::new(Raw).streaming(method, request).await) })
    }
}

struct Method {
    name: String,
    told: mpsc::Sender<&'static str>,
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl StreamingService<Bytes> for Method {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = BoxFuture<Response<Messages>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (name, told) = (std::mem::take(&mut self.name), self.told.clone());
        Box::pin(async move { Ok(Response::new(answer(&name, request.into_inner(), told).await?)) })
    }
}

async fn answer(
    name: &str,
    mut messages: Streaming<Bytes>,
    told: mpsc::Sender<&'static str>,
) -> Result<Messages, Status> {
    Ok(match name {
        // Each message as soon as it comes.
        "Echo" => messages.boxed(),
        // How long all messages were together.
        "Measure" => stream::once(async move {
            let mut length = 0;
            while let Some(message) = messages.message().await? {
                length += message.len();
            }
            Ok(Bytes::from(length.to_string()))
        })
        .boxed(),
        // As many messages as the first one says.
        "Count" => {
            let first = messages.message().await?.unwrap_or_default();
            let count: u32 = String::from_utf8_lossy(&first).parse().expect("a number");
            stream::iter((0..count).map(|n| Ok(Bytes::from(n.to_string())))).boxed()
        }
        // No message at all.
        "Refuse" => return Err(Status::permission_denied("not \u{fc}ber here, 100 %")),
        // A message, and then a failure.
        "Break" => {
            let failed = Status::data_loss("it was there a moment ago");
            stream::iter([Ok(Bytes::from_static(b"one")), Err(failed)]).boxed()
        }
        // Nothing, for ever.
        "Wait" => {
            told.send("began").await.expect("the test goes on");
            let _given_up = GivenUp(told);
            std::future::pending::<()>().await;
            unreachable!("nothing ends what is pending")
        }
        _ => return Err(Status::unimplemented("no such method")),
    })
}

struct GivenUp(mpsc::Sender<&'static str>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        // Fails when the test has ended.
        let _ = self.0.try_send("given up");
    }
}

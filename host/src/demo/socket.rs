//! The sample's WebSockets: a clock that only speaks, and a chat that only repeats.

use std::{future::Future, io};

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::server::create_response_with_body,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    Tasks,
    answer::{Reply, upgrade_required},
    transfer::{BEAT, now},
};

/// Bytes of one message: what the tunnel carries by default.
const LARGEST: usize = 16 * 1024 * 1024;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Accepts an upgrade (RFC 6455 section 4.2.2) and leaves the connection to `talk`.
pub(super) fn accept<T>(
    mut request: Request<Incoming>,
    tasks: &Tasks,
    talk: impl FnOnce(Socket, CancellationToken) -> T + Send + 'static,
) -> Reply
where
    T: Future<Output = tungstenite::Result<()>> + Send,
{
    let upgrade = hyper::upgrade::on(&mut request);
    let Ok(reply) = create_response_with_body(&request, || Empty::new().boxed_unsync()) else {
        return upgrade_required();
    };
    let stop = tasks.stop.clone();
    tasks.spawn(async move {
        let result = async {
            let upgraded = upgrade.await.map_err(io::Error::other)?;
            let config =
                WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
            let socket =
                WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
            talk(socket, stop).await
        };
        if let Err(error) = result.await {
            debug!(%error, "a WebSocket of the sample broke");
        }
    });
    reply
}

/// Says the time each beat.
pub(super) async fn clock(mut socket: Socket, stop: CancellationToken) -> tungstenite::Result<()> {
    let mut beat = time::interval(BEAT);
    loop {
        tokio::select! {
            () = stop.cancelled() => return leave(socket).await,
            _ = beat.tick() => socket.send(Message::text(now())).await?,
            // Reading is what answers pings and the closing handshake.
            message = socket.next() => match message {
                Some(Ok(Message::Close(_))) => return finish(socket).await,
                Some(message) => { message?; }
                None => return Ok(()),
            },
        }
    }
}

/// Says back whatever it hears.
pub(super) async fn chat(mut socket: Socket, stop: CancellationToken) -> tungstenite::Result<()> {
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return leave(socket).await,
            message = socket.next() => message,
        };
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => socket.send(message).await?,
            Some(Ok(Message::Close(_))) => return finish(socket).await,
            // Pings are answered below this.
            Some(message) => drop(message?),
            None => return Ok(()),
        }
    }
}

/// This side ends it: the service goes away (RFC 6455 section 7.4.1).
async fn leave(mut socket: Socket) -> tungstenite::Result<()> {
    socket.close(Some(CloseFrame { code: CloseCode::Away, reason: "the sample stops".into() })).await?;
    finish(socket).await
}

/// Reads on until the closing handshake is through.
async fn finish(mut socket: Socket) -> tungstenite::Result<()> {
    while socket.next().await.transpose()?.is_some() {}
    Ok(())
}

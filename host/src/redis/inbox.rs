//! What others publish: one connection that listens on some channels, until it breaks.

use ::redis::{Client, Msg, aio::PubSubStream};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{Address, RedisError, commands::within_patience};

/// A subscription; it ends with its connection, and a new one has to be opened then. What was published meanwhile is
/// lost.
pub struct Inbox {
    messages: PubSubStream,
}

/// What was published.
#[derive(Debug)]
pub struct Published {
    /// Where.
    pub channel: String,
    /// What.
    pub payload: Bytes,
}

impl Inbox {
    /// Connects and listens on these channels: what is published from now on arrives.
    ///
    /// # Errors
    /// There is no connection, or Redis refused.
    pub async fn open(address: &Address, channels: &[String]) -> Result<Self, RedisError> {
        let opening = async {
            let client = Client::open(address.info())?;
            let (mut sink, messages) = client.get_async_pubsub().await?.split();
            sink.subscribe(channels).await?;
            Ok(Self { messages })
        };
        within_patience(address, opening).await
    }

    /// The next message; `None` when the connection broke.
    pub async fn next(&mut self) -> Option<Published> {
        self.messages.next().await.map(Published::of)
    }
}

impl Published {
    fn of(message: Msg) -> Self {
        Self {
            channel: message.get_channel_name().to_owned(),
            payload: Bytes::copy_from_slice(message.get_payload_bytes()),
        }
    }
}

//! A connection for commands: made when it is first needed, shared by all, and replaced as soon as it fails.
//!
//! The library's own manager keeps a connection on which an answer didn't come in time; behind a network that swallows
//! packets that is one which TCP goes on with for minutes. Here such a connection is given up at once.

use std::{
    convert::Infallible,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, ProtocolVersion, PushInfo, PushKind,
    ScriptInvocation, aio::MultiplexedConnection,
};
use arc_swap::ArcSwapOption;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{Address, PATIENCE, RedisError};

/// After a failure to connect, commands fail at once for this long, so that visitors don't queue up behind attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Commands that may wait for the connection's task; more wait outside of it.
const QUEUE: usize = 1024;

/// Runs commands. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    address: Address,
    client: Client,
    current: ArcSwapOption<Live>,
    /// Held by whoever connects; the last failure, and when it was.
    connecting: Mutex<Option<(Instant, RedisError)>>,
}

/// A connection that was made.
struct Live {
    connection: MultiplexedConnection,
    /// It has ended. Noticed when it does, and not by the next command, which couldn't tell whether it was executed.
    broken: Arc<AtomicBool>,
}

impl Redis {
    /// A handle that connects when it is first used.
    pub fn new(address: Address) -> Self {
        let info = address.info();
        // RESP3, in which the library tells of a connection's end.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client =
            Client::open(info.set_redis_settings(settings)).expect("an address that was parsed opens");
        let (current, connecting) = (ArcSwapOption::empty(), Mutex::new(None));
        Self(Arc::new(Inner { address, client, current, connecting }))
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// A second connection to the same place, so that what is large doesn't stand before what is urgent.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::new(self.0.address.clone())
    }

    /// Runs one command.
    ///
    /// # Errors
    /// There is no answer within [`PATIENCE`], or it is an error.
    pub async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.call_within(PATIENCE, command).await
    }

    /// Runs one command that may take this long.
    ///
    /// # Errors
    /// There is no answer in time, or it is an error.
    pub async fn call_within<T: FromRedisValue>(
        &self,
        patience: Duration,
        command: &Cmd,
    ) -> Result<T, RedisError> {
        self.attempt(patience, async |connection| command.query_async(connection).await).await
    }

    /// Runs several commands in one round trip.
    ///
    /// # Errors
    /// There is no answer within [`PATIENCE`], or one of them is an error.
    pub async fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisError> {
        self.attempt(PATIENCE, async |connection| commands.query_async(connection).await).await
    }

    /// Runs a script; in one round trip, but for the first time that a server sees it.
    ///
    /// # Errors
    /// There is no answer within [`PATIENCE`], or the script failed.
    pub async fn script<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        self.attempt(PATIENCE, async |connection| script.invoke_async(connection).await).await
    }

    /// Connects if there is no connection, and asks for a sign of life.
    ///
    /// # Errors
    /// There is none.
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.call(&::redis::cmd("PING")).await
    }

    async fn attempt<T>(
        &self,
        patience: Duration,
        act: impl AsyncFnOnce(&mut MultiplexedConnection) -> ::redis::RedisResult<T>,
    ) -> Result<T, RedisError> {
        let live = self.connection().await?;
        let mut connection = live.connection.clone();
        let error = match timeout(patience, act(&mut connection)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => RedisError::of(&error),
            // The connection is as good as before.
            Ok(Err(error)) => return Err(RedisError::of(&error)),
            Err(_) => RedisError::Lost(format!("nothing came within {patience:?}")),
        };
        // Only this one: another may be in its place by now.
        self.0.current.compare_and_swap(&live, None);
        Err(error)
    }

    async fn connection(&self) -> Result<Arc<Live>, RedisError> {
        if let Some(live) = self.live() {
            return Ok(live);
        }
        let mut failed = self.0.connecting.lock().await;
        if let Some(live) = self.live() {
            return Ok(live);
        }
        if let Some((at, error)) = &*failed
            && at.elapsed() < PAUSE
        {
            return Err(error.clone());
        }
        match within_patience(&self.0.address, self.connect()).await {
            Ok(live) => {
                *failed = None;
                let live = Arc::new(live);
                self.0.current.store(Some(Arc::clone(&live)));
                Ok(live)
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn live(&self) -> Option<Arc<Live>> {
        self.0.current.load_full().filter(|live| !live.broken.load(Ordering::Acquire))
    }

    async fn connect(&self) -> ::redis::RedisResult<Live> {
        let broken = Arc::new(AtomicBool::new(false));
        let notice = {
            let broken = Arc::clone(&broken);
            move |pushed: PushInfo| {
                if pushed.kind == PushKind::Disconnection {
                    broken.store(true, Ordering::Release);
                }
                Ok::<(), Infallible>(())
            }
        };
        // Deadlines are set here, by command.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_push_sender(notice);
        let connection = self.0.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Live { connection, broken })
    }
}

/// Waits for a connection, and says what it means when there is none.
pub(super) async fn within_patience<T>(
    address: &Address,
    connecting: impl Future<Output = ::redis::RedisResult<T>>,
) -> Result<T, RedisError> {
    let away = |cause: String| RedisError::Away { address: address.to_string(), cause };
    match timeout(PATIENCE, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) if error.is_io_error() => Err(away(error.to_string())),
        // Credentials and the database are part of connecting.
        Ok(Err(error)) => Err(RedisError::Refused(error.to_string())),
        Err(_) => Err(away(format!("nothing answers within {PATIENCE:?}"))),
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Redis").field(&self.0.address).finish()
    }
}

#[cfg(test)]
mod tests {
    use ::redis::cmd;

    use crate::redis::tests::redis;

    /// Servers close idle connections, and restart. The next command must not fail for it: nobody could say whether it was
    /// executed.
    #[tokio::test]
    async fn a_connection_that_ended_is_replaced_before_the_next_command() {
        let redis = redis();
        let id = cmd("CLIENT").arg("ID").to_owned();
        for _ in 0..20 {
            let first: u64 = redis.call(&id).await.unwrap();
            let killer = redis.another();
            killer.call::<u64>(cmd("CLIENT").arg("KILL").arg("ID").arg(first)).await.unwrap();
            while redis.live().is_some() {
                tokio::task::yield_now().await;
            }
            assert_ne!(redis.call::<u64>(&id).await.unwrap(), first);
        }
    }
}

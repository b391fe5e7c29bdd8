//! `on-close`: called once for each connection, after it is gone.

use std::{future::Future, sync::Arc};

use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::task::TaskTracker;

/// Calls at once. When a session breaks, thousands of connections end together; their farewells must take neither all
/// of the plugin's instances nor all places of the queue for them.
const AT_ONCE: usize = 4;

/// The farewells of one plugin. As many wait as there were connections, whose number others bound.
pub(in crate::plugin) struct Farewells {
    turns: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Farewells {
    pub(in crate::plugin) fn new() -> Self {
        let tasks = TaskTracker::new();
        // So that waiting ends whenever there are none; more may follow all the same.
        tasks.close();
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), tasks }
    }

    /// Runs a call when it is its turn. Outside of a runtime, where nothing runs any more, it is left out.
    pub(super) fn say(&self, call: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        let turns = Arc::clone(&self.turns);
        let task = async move {
            let _turn = turns.acquire_owned().await;
            call.await;
        };
        self.tasks.spawn_on(task, &runtime);
    }

    /// Waits until all that were begun are through.
    pub(in crate::plugin) async fn said(&self) {
        self.tasks.wait().await;
    }
}

//! `tunnel [TARGET]` at work: each target's pipeline, and the plugins in it.
//!
//! `Summarised -> Swap(Chain(plugins) -> Origin)`: the role puts the first stage, the rest is made here, where plugins can
//! be replaced.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{
    client::{ClientSettings, Published},
    document::Mistakes,
    plugins::{Loader, Pack, cache},
    report::Reporter,
    run::{Failure, stop_on_signals},
};
use crate::{
    client::{self, Origin},
    exchange::{Forward, Swap},
    plugin::Chain,
};

/// Publishes every target until a signal comes, or one of them is refused for good.
pub(super) async fn publish(
    settings: ClientSettings,
    mut mistakes: Mistakes,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let cache = if settings.wanted.is_empty() { None } else { cache::folder(settings.plugin_cache.clone()) };
    let mut loader = Loader::new(cache, reporter.clone());
    let pack = loader.load(&settings.wanted, &mut mistakes).await;
    mistakes.settle()?;
    let mut services = Vec::new();
    for published in &settings.published {
        services.push(Service::new(published, &pack, settings.max_websocket_message())?);
    }
    loader.keep(pack);

    let (key, new) = client::key::load_or_create(&settings.key)?;
    if new {
        reporter.key_created(&settings.key);
    }
    let stop = stop_on_signals(reporter.clone())?;
    let mut clients = JoinSet::new();
    for (published, service) in settings.published.iter().zip(&services) {
        let report = reporter.client(published.name.as_deref());
        let config = settings.config(published, service.pipeline.clone(), key.clone(), report);
        clients.spawn(client::run(config, stop.clone()));
    }
    let mut result = Ok(());
    while let Some(ended) = clients.join_next().await {
        if let Err(refused) = ended.expect("clients don't panic and aren't aborted") {
            stop.cancel();
            result = result.and(Err(refused.into()));
        }
    }
    result
}

/// One target's pipeline.
struct Service {
    origin: Arc<dyn Forward>,
    pipeline: Arc<Swap>,
}

impl Service {
    fn new(published: &Published, pack: &Pack, max_websocket_message: usize) -> Result<Self, Failure> {
        let origin: Arc<dyn Forward> = Arc::new(Origin::new(&published.origin, max_websocket_message)?);
        let pipeline = Arc::new(Swap::new(chain(&published.plugins, pack, &origin)));
        Ok(Self { origin, pipeline })
    }
}

/// The plugins of these names before the origin.
fn chain(names: &[String], pack: &Pack, origin: &Arc<dyn Forward>) -> Arc<dyn Forward> {
    if names.is_empty() {
        return Arc::clone(origin);
    }
    let plugins = names.iter().filter_map(|name| pack.get(name)).cloned().collect();
    Arc::new(Chain::new(plugins, Arc::clone(origin)))
}

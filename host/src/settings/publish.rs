//! `tunnel [TARGET]` at work: each target's pipeline, and the plugins in it.
//!
//! `Summarised -> Swap(Chain(plugins) -> Origin)`: the role puts the first stage, the rest is made here, where plugins can
//! be replaced.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    SettingsError,
    client::{ClientSettings, Published},
    document::Mistakes,
    plugins::{Loader, Pack, Sources, Wanted, cache},
    reload::{InForce, Reloadable, keep_up},
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
    again: impl Fn(&mut Mistakes) -> Result<ClientSettings, SettingsError>,
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
    let result = tokio::select! {
        result = ended(clients, &stop) => result,
        never = keep_up(settings, again, &mut loader, &mut services, reporter) => match never {},
    };
    loader.settled().await;
    result
}

/// Waits until all clients have ended.
async fn ended(
    mut clients: JoinSet<Result<(), client::Refused>>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut result = Ok(());
    while let Some(ended) = clients.join_next().await {
        if let Err(refused) = ended.expect("clients don't panic and aren't aborted") {
            stop.cancel();
            result = result.and(Err(refused.into()));
        }
    }
    result
}

impl Reloadable for ClientSettings {
    fn sources(&self) -> &Sources {
        &self.sources
    }

    fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }
}

impl InForce<ClientSettings> for Vec<Service> {
    fn replace(&mut self, running: &ClientSettings, changed: &ClientSettings, pack: &Pack) {
        if !changed.publishes_as(running) {
            tracing::warn!("a change of other settings than plugins takes effect at the next start");
        }
        for (service, published) in self.iter().zip(&running.published) {
            let Some(now) = changed.published.iter().find(|now| now.name == published.name) else { continue };
            service.pipeline.replace(way(now, pack, &service.origin));
        }
    }
}

/// One target's pipeline.
struct Service {
    origin: Arc<dyn Forward>,
    pipeline: Arc<Swap>,
}

impl Service {
    fn new(published: &Published, pack: &Pack, max_websocket_message: usize) -> Result<Self, Failure> {
        let origin: Arc<dyn Forward> = Arc::new(Origin::new(&published.origin, max_websocket_message)?);
        let pipeline = Arc::new(Swap::new(way(published, pack, &origin)));
        Ok(Self { origin, pipeline })
    }
}

/// A target's plugins, and what answers behind them: its application, or the origin.
fn way(published: &Published, pack: &Pack, origin: &Arc<dyn Forward>) -> Arc<dyn Forward> {
    let served = published.serve.as_ref().and_then(|name| pack.application(name));
    let last: Arc<dyn Forward> = match served {
        Some(application) => Arc::clone(application) as _,
        None => Arc::clone(origin),
    };
    if published.plugins.is_empty() {
        return last;
    }
    let plugins = published.plugins.iter().filter_map(|name| pack.plugin(name)).cloned().collect();
    Arc::new(Chain::new(plugins, last))
}

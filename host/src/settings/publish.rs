//! `tunnel [TARGET]` at work: each target's pipeline, and the plugins in it.
//!
//! `Summarised -> Swap(Chain(plugins) -> Origin)`: the role puts the first stage, the rest is made here, where plugins can
//! be replaced.

use std::{convert::Infallible, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    SettingsError,
    client::{ClientSettings, Published},
    document::Mistakes,
    plugins::{Loader, Pack, cache},
    reload::Changes,
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
    let mut reloading = Reloading { loader, services, reporter };
    let result = tokio::select! {
        result = ended(clients, &stop) => result,
        never = reloading.run(settings, again) => match never {},
    };
    reloading.loader.settled().await;
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

/// Takes plugins over when their files or settings change.
struct Reloading<'a> {
    loader: Loader,
    services: Vec<Service>,
    reporter: &'a Reporter,
}

impl Reloading<'_> {
    async fn run(
        &mut self,
        mut settings: ClientSettings,
        again: impl Fn(&mut Mistakes) -> Result<ClientSettings, SettingsError>,
    ) -> Infallible {
        let mut changes = Changes::of(settings.sources.clone());
        loop {
            changes.next().await;
            let mut mistakes = Mistakes::default();
            let read = again(&mut mistakes);
            // Also when it is of no use: what is put right in one of these files is looked at again.
            match &read {
                Ok(read) => changes.follow(read.sources.clone()),
                Err(_) => changes.refresh(),
            }
            match self.take_over(&settings, read, mistakes).await {
                Ok(read) => settings = read,
                Err(reason) => self.reporter.reload_failed(&reason.to_string()),
            }
        }
    }

    /// Loads aside, and replaces what is in force only if all of it is good.
    async fn take_over(
        &mut self,
        old: &ClientSettings,
        read: Result<ClientSettings, SettingsError>,
        mut mistakes: Mistakes,
    ) -> Result<ClientSettings, SettingsError> {
        let read = read?;
        let pack = self.loader.load(&read.wanted, &mut mistakes).await;
        mistakes.settle()?;
        if !read.publishes_as(old) {
            tracing::warn!("a change of other settings than plugins takes effect at the next start");
        }
        for (service, published) in self.services.iter().zip(&old.published) {
            let Some(now) = read.published.iter().find(|now| now.name == published.name) else { continue };
            service.pipeline.replace(way(now, &pack, &service.origin));
        }
        let plugins = pack.len();
        let fresh = self.loader.keep(pack);
        self.reporter.reloaded(plugins, fresh);
        Ok(read)
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

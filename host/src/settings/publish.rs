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
    observe,
    plugins::{Loader, Pack, Sources, Wanted, cache},
    reload::{InForce, Reloadable, keep_up},
    report::Reporter,
    run::{Failure, stop_on_signals},
};
use crate::{
    client::{self, Origin},
    exchange::{Forward, Swap},
    plugin::Chain,
    trace::{Hop, Inward, Onward, Tracer, Tracing},
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
    let tracing = settings.observe.begin()?;
    let tracer = tracing.as_ref().map(Tracing::tracer);
    let mut services = Vec::new();
    for published in &settings.published {
        services.push(Service::new(published, &pack, settings.max_websocket_message(), tracer.clone())?);
    }
    loader.keep(pack);
    let metrics = client::Metrics::new();
    metrics.register_foreign(observe::process);
    let _listener = match settings.observe.metrics {
        Some(address) => {
            let listening = metrics.listen(address, loader.engine()).await;
            let listener = listening.map_err(|source| Failure::Metrics { address, source })?;
            if !address.ip().is_loopback() {
                tracing::warn!("whoever reaches {address} reads this client's numbers");
            }
            reporter.metrics(listener.address);
            Some(listener)
        }
        None => None,
    };

    let (key, new) = client::key::load_or_create(&settings.key)?;
    if new {
        reporter.key_created(&settings.key);
    }
    let stop = stop_on_signals(reporter.clone())?;
    let mut clients = JoinSet::new();
    for (published, service) in settings.published.iter().zip(&services) {
        let report = reporter.client(published.name.as_deref());
        let report = metrics.watch(published.name.as_deref(), report);
        let config = settings.config(published, service.pipeline.clone(), key.clone(), report);
        clients.spawn(client::run(config, stop.clone()));
    }
    let result = tokio::select! {
        result = ended(clients, &stop) => result,
        never = keep_up(settings, again, &mut loader, &mut services, reporter) => match never {},
    };
    loader.settled().await;
    if let Some(tracing) = tracing {
        tracing.finish().await;
    }
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
            service.pipeline.replace(way(now, pack, &service.origin, service.tracer.as_ref()));
        }
    }
}

/// One target's pipeline.
struct Service {
    origin: Arc<dyn Forward>,
    pipeline: Arc<Swap>,
    tracer: Option<Tracer>,
}

impl Service {
    fn new(
        published: &Published,
        pack: &Pack,
        max_websocket_message: usize,
        tracer: Option<Tracer>,
    ) -> Result<Self, Failure> {
        let mut origin: Arc<dyn Forward> = Arc::new(Origin::new(&published.origin, max_websocket_message)?);
        if let Some(tracer) = &tracer {
            let authority = &published.origin.authority;
            let server = Some((authority.host().to_owned(), authority.port_u16()));
            origin = Arc::new(Onward::new(tracer.clone(), Hop { name: "origin", server }, origin));
        }
        let pipeline = Arc::new(Swap::new(way(published, pack, &origin, tracer.as_ref())));
        Ok(Self { origin, pipeline, tracer })
    }
}

/// A target's plugins, and what answers behind them: its application, or the origin.
fn way(
    published: &Published,
    pack: &Pack,
    origin: &Arc<dyn Forward>,
    tracer: Option<&Tracer>,
) -> Arc<dyn Forward> {
    let way = behind(published, pack, origin);
    match tracer {
        Some(tracer) => Arc::new(Inward::new(tracer.clone(), way)),
        None => way,
    }
}

fn behind(published: &Published, pack: &Pack, origin: &Arc<dyn Forward>) -> Arc<dyn Forward> {
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

//! `tunnel proxy` at work: its policies, and the plugins and applications in them.

use std::convert::Infallible;

use super::{
    SettingsError,
    document::Mistakes,
    plugins::{Loader, Pack, cache},
    policy,
    proxy::ProxySettings,
    reload::Changes,
    report::Reporter,
    run::{Failure, stop_on_signals},
};
use crate::proxy::{
    self,
    policy::{Policy, PolicySwitch},
};

/// What a proxy needs beside its Config, until it ends.
pub(super) struct Prepared {
    pub(super) settings: ProxySettings,
    loader: Loader,
    pub(super) plugins: usize,
}

/// Loads everything that the settings name, and gives up if anything in them is wrong. What may have been overlooked is
/// left in `mistakes`.
///
/// # Errors
/// All that is wrong, at once.
pub(super) async fn prepare(
    mut settings: ProxySettings,
    mistakes: &mut Mistakes,
    reporter: &Reporter,
) -> Result<Prepared, SettingsError> {
    let cache = if settings.wanted.is_empty() { None } else { cache::folder(settings.plugin_cache.clone()) };
    let mut loader = Loader::new(cache, reporter.clone());
    let pack = loader.load(&settings.wanted, mistakes).await;
    mistakes.refuse()?;
    settings.config.policies = policies(&settings, &pack);
    let plugins = pack.len();
    loader.keep(pack);
    Ok(Prepared { settings, loader, plugins })
}

fn policies(settings: &ProxySettings, pack: &Pack) -> Vec<Policy> {
    settings.plans.iter().map(|plan: &policy::Plan| plan.policy(pack)).collect()
}

/// Serves until a signal comes, and then drains.
pub(super) async fn serve(
    settings: ProxySettings,
    mut mistakes: Mistakes,
    again: impl Fn(&mut Mistakes) -> Result<ProxySettings, SettingsError>,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let Prepared { mut settings, loader, .. } = prepare(settings, &mut mistakes, reporter).await?;
    mistakes.settle()?;
    settings.config.report = reporter.proxy();
    let stop = stop_on_signals(reporter.clone())?;
    let proxy = proxy::bind(settings.config.clone()).await.map_err(Failure::Bind)?;
    let mut reloading = Reloading { policies: proxy.policies(), loader, reporter };
    tokio::select! {
        () = proxy.run(stop) => {}
        never = reloading.run(settings, again) => match never {},
    }
    reloading.loader.settled().await;
    Ok(())
}

/// Takes policies, plugins and applications over when their files or settings change.
struct Reloading<'a> {
    policies: PolicySwitch,
    loader: Loader,
    reporter: &'a Reporter,
}

impl Reloading<'_> {
    async fn run(
        &mut self,
        mut settings: ProxySettings,
        again: impl Fn(&mut Mistakes) -> Result<ProxySettings, SettingsError>,
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
        old: &ProxySettings,
        read: Result<ProxySettings, SettingsError>,
        mut mistakes: Mistakes,
    ) -> Result<ProxySettings, SettingsError> {
        let read = read?;
        let pack = self.loader.load(&read.wanted, &mut mistakes).await;
        mistakes.settle()?;
        for key in read.differs_from(old) {
            tracing::warn!("{key} has changed; that takes effect at the next start");
        }
        self.policies.replace(&policies(&read, &pack));
        let plugins = pack.len();
        let fresh = self.loader.keep(pack);
        self.reporter.reloaded(plugins, fresh);
        Ok(read)
    }
}

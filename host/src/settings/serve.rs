//! `tunnel proxy` at work: its policies, and the plugins and applications in them.

use super::{
    SettingsError,
    document::Mistakes,
    plugins::{Loader, Pack, Sources, Wanted, cache},
    policy,
    proxy::ProxySettings,
    registration::Said,
    reload::{InForce, Reloadable, keep_up},
    report::Reporter,
    run::{Failure, stop_on_signals},
    threads::{self, Threads},
};
use crate::proxy::{
    self, Cores, RegistrationSwitch, TlsSwitch,
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
    let mut loader = Loader::new(cache, reporter.clone()).sharing(settings.config.redis.as_ref());
    let pack = loader.load(&settings.wanted, mistakes).await;
    if let Said::NobodyMay(nobody) = &settings.said {
        mistakes.push(nobody.clone());
    }
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
    let Prepared { mut settings, mut loader, .. } = prepare(settings, &mut mistakes, reporter).await?;
    mistakes.settle()?;
    if let Some(bus) = &settings.bus {
        bus.welcome().await?;
    }
    settings.config.report = reporter.proxy();
    let running = settings.observe.begin(&mut settings.config, loader.engine(), reporter)?;
    let stop = stop_on_signals(reporter.clone())?;
    if settings.threads() == Threads::One {
        settings.config.cores = Cores::start(threads::available()).map_err(Failure::Threads)?;
    }
    let proxy = proxy::bind(settings.config.clone()).await.map_err(Failure::Bind)?;
    let private = settings.private;
    let (policies, tls, registration) = (proxy.policies(), proxy.tls(), proxy.registration());
    let mut in_force = Switches { policies, tls, registration, private };
    tokio::select! {
        () = proxy.run(stop) => {}
        never = keep_up(settings, again, &mut loader, &mut in_force, reporter) => match never {},
    }
    loader.settled().await;
    running.finish().await;
    Ok(())
}

impl Reloadable for ProxySettings {
    fn sources(&self) -> &Sources {
        &self.sources
    }

    fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }
}

/// What of a running proxy can be replaced.
struct Switches {
    policies: PolicySwitch,
    tls: Option<TlsSwitch>,
    registration: RegistrationSwitch,
    /// Nobody but this machine gets to where it listens.
    private: bool,
}

impl InForce<ProxySettings> for Switches {
    fn replace(&mut self, running: &ProxySettings, changed: &ProxySettings, pack: &Pack) {
        for key in changed.differs_from(running) {
            tracing::warn!("{key} has changed; that takes effect at the next start");
        }
        match (&self.tls, &changed.config.door.tls) {
            (Some(tls), Some(settings)) => {
                if let Err(error) = tls.replace(settings.clone()) {
                    tracing::warn!(%error, "TLS stays as it is");
                }
            }
            (None, None) => {}
            _ => tracing::warn!("TLS was switched on or off; that takes effect at the next start"),
        }
        self.policies.replace(&policies(changed, pack));
        let mut rules = changed.config.registration.clone();
        match &changed.said {
            Said::ByOperator => {}
            // What the file says of its address may be other than where it listens: nobody has said that the door is to be open.
            Said::ByNobody => rules.open = self.private,
            Said::NobodyMay(nobody) => tracing::warn!("nobody may register any more: {nobody}"),
        }
        self.registration.replace(rules);
    }
}

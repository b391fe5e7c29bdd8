//! What the host measures of plugins, beside what they measure themselves: calls by what came of them, and how long they took.
//!
//! Owns the numbers and their names. They outlive a plugin that is loaded anew. Must not know how numbers are asked for.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{
    bindings::tunnel::plugin::types::{BodyVerdict, HeadVerdict, WsAccept, WsVerdict},
    error::HookError,
    load::Plugin,
};

/// From a hook that only looks (some microseconds) to the longest that one may run and wait by default (30 s).
const SECONDS: [f64; 12] = [5e-6, 2e-5, 1e-4, 5e-4, 2e-3, 1e-2, 5e-2, 0.1, 0.5, 2.5, 10.0, 30.0];

/// The words of verdicts, as metrics and traces have them.
pub(super) trait Word {
    fn word(&self) -> &'static str;
}

impl Word for HeadVerdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Forward(_) => "forward",
            Self::Respond(_) => "respond",
            Self::Abort(_) => "abort",
        }
    }
}

impl Word for BodyVerdict {
    fn word(&self) -> &'static str {
        "forward"
    }
}

impl Word for WsAccept {
    fn word(&self) -> &'static str {
        "forward"
    }
}

impl Word for WsVerdict {
    fn word(&self) -> &'static str {
        "forward"
    }
}

impl Word for () {
    fn word(&self) -> &'static str {
        "done"
    }
}

impl HookError {
    /// The kind of failure: few words, none of which a guest can choose.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Busy(_) => "busy",
            Self::Paused => "paused",
            Self::Time(_) | Self::Wait(_) => "timeout",
            Self::Memory(_) => "memory",
            Self::Verdict(_) | Self::Answer(_) => "invalid",
            Self::Fault(_) => "fault",
            Self::Trap(_) | Self::Init(_) | Self::Grant(_) => "trap",
        }
    }
}

/// A call that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    plugin: Arc<str>,
    hook: &'static str,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Hook {
    plugin: Arc<str>,
    hook: &'static str,
}

/// Numbers of all plugins of a host.
#[derive(Clone)]
pub(super) struct Measured {
    calls: Family<Call, Counter>,
    refused: Family<Hook, Counter>,
    seconds: Family<Hook, Histogram, fn() -> Histogram>,
    loads: Counter,
    /// Those that are loaded, by name: the newest of each.
    loaded: Loaded,
}

/// Plugins that are loaded, as long as they are.
#[derive(Clone, Default)]
pub(super) struct Loaded(Arc<Mutex<BTreeMap<Arc<str>, Weak<Plugin>>>>);

impl Measured {
    pub(super) fn new() -> Self {
        Self {
            calls: Family::default(),
            refused: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            loads: Counter::default(),
            loaded: Loaded::default(),
        }
    }

    /// Puts them where they are read from.
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("plugin");
        registry.register(
            "calls",
            "Calls of plugins' hooks by what came of them: a verdict, or a kind of failure",
            self.calls.clone(),
        );
        let help = "Verdicts of plugins that weren't applied, because they hold what isn't allowed";
        registry.register("verdicts_refused", help, self.refused.clone());
        let help = "How long calls of plugins' hooks took, waiting for an instance and for the host included";
        registry.register_with_unit("call_duration", help, Unit::Seconds, self.seconds.clone());
        registry.register("loads", "Plugins that were loaded, anew or again", self.loads.clone());
        registry.register_collector(Box::new(self.loaded.clone()));
    }

    /// A plugin was loaded.
    pub(super) fn loaded(&self, plugin: &Arc<Plugin>) {
        self.loads.inc();
        let mut loaded = self.loaded.lock();
        loaded.retain(|_, plugin| plugin.strong_count() > 0);
        loaded.insert(plugin.name_shared(), Arc::downgrade(plugin));
    }

    /// A call ended.
    pub(super) fn called(
        &self,
        plugin: &Arc<str>,
        hook: &'static str,
        verdict: &'static str,
        time: Duration,
    ) {
        let call = Call { plugin: Arc::clone(plugin), hook, verdict };
        self.calls.get_or_create(&call).inc();
        let hook = Hook { plugin: Arc::clone(plugin), hook };
        self.seconds.get_or_create(&hook).observe(time.as_secs_f64());
    }

    /// What a call gave back isn't allowed.
    pub(super) fn refused(&self, plugin: &Arc<str>, hook: &'static str) {
        self.refused.get_or_create(&Hook { plugin: Arc::clone(plugin), hook }).inc();
    }

    /// Those that are loaded now.
    pub(super) fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.loaded.lock().values().filter_map(Weak::upgrade).collect()
    }
}

impl Loaded {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, Weak<Plugin>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loaded")
    }
}

impl Collector for Loaded {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let plugins: Vec<Arc<Plugin>> = self.lock().values().filter_map(Weak::upgrade).collect();
        let mut gauge = |name, help, value: fn(&Plugin) -> i64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for plugin in &plugins {
                let labels = [("plugin", plugin.name())];
                ConstGauge::new(value(plugin)).encode(family.encode_family(&labels)?)?;
            }
            Ok::<_, fmt::Error>(())
        };
        gauge("instances_busy", "Instances that a call holds", |plugin| count(plugin.standing().busy))?;
        gauge("instances_idle", "Instances that wait for a call", |plugin| count(plugin.standing().idle))?;
        gauge("calls_waiting", "Calls that wait for an instance", |plugin| count(plugin.standing().waiting))?;
        gauge("paused", "1 while the plugin isn't asked, because it failed too often in a row", |plugin| {
            i64::from(plugin.standing().paused)
        })
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

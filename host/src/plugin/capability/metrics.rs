//! Series of numbers that guests keep: counters, gauges and histograms. They outlive the plugin that made them.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::super::{bindings::tunnel::plugin::metrics, state::State};

/// Longest name of a metric or a label, in bytes.
const MAX_NAME: usize = 100;

/// Longest value of a label, in bytes.
const MAX_LABEL: usize = 200;

/// Labels of one series.
const MAX_LABELS: usize = 10;

/// Names that begin so are the host's own.
const OURS: &str = "tunnel_";

/// Counts what wasn't taken, by `reason`: `limit` (limits.series), `name`, `label`, `kind` (the name has another kind already) or
/// `value` (not a number).
pub const REFUSED: &str = "tunnel_plugin_metrics_refused_total";

/// Counts log lines that were dropped (limits.log_lines).
pub const DROPPED: &str = "tunnel_plugin_log_lines_dropped_total";

/// Upper bounds of a histogram's buckets: 1, 2.5 and 5 of each power of ten from thousandths, so that seconds, bytes and
/// counts all find a bucket, for 200 bytes a series.
pub const BOUNDS: [f64; 24] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0,
    500.0, 1e3, 2.5e3, 5e3, 1e4, 1e5, 1e6,
];

/// One series, as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Whose it is.
    pub plugin: Arc<str>,
    /// Letters, digits, `_` and `:`.
    pub name: String,
    /// In the order of their names.
    pub labels: Vec<(String, String)>,
    /// What it has come to.
    pub value: Value,
}

/// What a series has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A sum that only grows.
    Counter(u64),
    /// What was set last.
    Gauge(f64),
    /// How what was observed is spread.
    Histogram(Histogram),
}

/// How what was observed is spread.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// For each of [`BOUNDS`] how many were above the bound before it and not above this one; what is above all of them is
    /// in `count` only.
    pub buckets: [u64; BOUNDS.len()],
    /// How many there were.
    pub count: u64,
    /// What they come to together.
    pub sum: f64,
}

/// The series of all plugins.
#[derive(Default)]
pub(super) struct Registry(Mutex<BTreeMap<Arc<str>, Arc<OfPlugin>>>);

impl Registry {
    /// The series of one plugin; made when it is first asked for, and kept.
    pub(super) fn of(&self, plugin: &str) -> Arc<OfPlugin> {
        let mut plugins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(plugins.entry(plugin.into()).or_default())
    }

    pub(super) fn snapshot(&self) -> Vec<Series> {
        let plugins = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        plugins.iter().flat_map(|(plugin, series)| series.snapshot(plugin)).collect()
    }
}

/// The series of one plugin.
#[derive(Default)]
pub(super) struct OfPlugin {
    /// Under each name series of one kind, by their labels: a name with two kinds is nothing that anybody could read.
    families: Mutex<Families>,
    refused: [AtomicU64; Refusal::ALL.len()],
    dropped: AtomicU64,
}

#[derive(Default)]
struct Families {
    by_name: BTreeMap<String, BTreeMap<Labels, Value>>,
    series: usize,
}

type Labels = Vec<(String, String)>;

/// Why a number wasn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Limit,
    Name,
    Label,
    Kind,
    Value,
}

impl Refusal {
    const ALL: [(Self, &str); 5] = [
        (Self::Limit, "limit"),
        (Self::Name, "name"),
        (Self::Label, "label"),
        (Self::Kind, "kind"),
        (Self::Value, "value"),
    ];
}

/// What a guest adds to a series.
#[derive(Debug, Clone, Copy)]
enum Change {
    Add(u64),
    Set(f64),
    Observe(f64),
}

impl OfPlugin {
    /// Another line that was dropped.
    pub(super) fn line_dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    /// Takes a number, or counts it as refused: a metric that can't be kept is no reason to fail an exchange.
    fn take(&self, name: String, labels: Labels, change: Change, limit: usize) {
        if let Err(refusal) = self.try_take(name, labels, change, limit) {
            self.refused[refusal as usize].fetch_add(1, Relaxed);
        }
    }

    fn try_take(
        &self,
        name: String,
        mut labels: Labels,
        change: Change,
        limit: usize,
    ) -> Result<(), Refusal> {
        if let Change::Set(value) | Change::Observe(value) = change
            && !value.is_finite()
        {
            return Err(Refusal::Value);
        }
        if !is_name(&name, true) || name.starts_with(OURS) {
            return Err(Refusal::Name);
        }
        labels.sort_unstable();
        let doubled = labels.windows(2).any(|pair| pair[0].0 == pair[1].0);
        if labels.len() > MAX_LABELS || doubled || !labels.iter().all(is_label) {
            return Err(Refusal::Label);
        }
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let families = &mut *families;
        let family = match families.by_name.entry(name) {
            Entry::Occupied(family) => family.into_mut(),
            Entry::Vacant(_) if families.series >= limit => return Err(Refusal::Limit),
            Entry::Vacant(place) => place.insert(BTreeMap::new()),
        };
        if family.values().next().is_some_and(|value| !change.is_for(value)) {
            return Err(Refusal::Kind);
        }
        match family.entry(labels) {
            Entry::Occupied(mut value) => change.apply(value.get_mut()),
            Entry::Vacant(_) if families.series >= limit => return Err(Refusal::Limit),
            Entry::Vacant(place) => {
                families.series += 1;
                change.apply(place.insert(change.zero()));
            }
        }
        Ok(())
    }

    fn snapshot(&self, plugin: &Arc<str>) -> Vec<Series> {
        let named = |name: &str, labels: &[(String, String)], value: Value| Series {
            plugin: Arc::clone(plugin),
            name: name.to_owned(),
            labels: labels.to_vec(),
            value,
        };
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let guests = families.by_name.iter().flat_map(|(name, family)| {
            family.iter().map(|(labels, value)| named(name, labels, value.clone()))
        });
        let refused = Refusal::ALL.iter().filter_map(|(refusal, reason)| {
            let count = self.refused[*refusal as usize].load(Relaxed);
            let labels = [("reason".to_owned(), (*reason).to_owned())];
            (count > 0).then(|| named(REFUSED, &labels, Value::Counter(count)))
        });
        let dropped = self.dropped.load(Relaxed);
        let dropped = (dropped > 0).then(|| named(DROPPED, &[], Value::Counter(dropped)));
        guests.chain(refused).chain(dropped).collect()
    }
}

/// What every system that collects metrics takes: the rules of Prometheus' text format.
fn is_name(name: &str, colon: bool) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || (colon && c == ':'))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || (colon && byte == b':'))
}

/// `plugin` is the host's to say, `le` is a histogram's, and names with two underscores are the collector's.
fn is_label((name, value): &(String, String)) -> bool {
    is_name(name, false)
        && !name.starts_with("__")
        && !matches!(name.as_str(), "plugin" | "le")
        && value.len() <= MAX_LABEL
}

impl Change {
    fn zero(self) -> Value {
        match self {
            Self::Add(_) => Value::Counter(0),
            Self::Set(_) => Value::Gauge(0.0),
            Self::Observe(_) => Value::Histogram(Histogram::default()),
        }
    }

    fn is_for(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (Self::Add(_), Value::Counter(_))
                | (Self::Set(_), Value::Gauge(_))
                | (Self::Observe(_), Value::Histogram(_))
        )
    }

    fn apply(self, value: &mut Value) {
        match (self, value) {
            (Self::Add(by), Value::Counter(sum)) => *sum = sum.saturating_add(by),
            (Self::Set(to), Value::Gauge(last)) => *last = to,
            (Self::Observe(observed), Value::Histogram(histogram)) => histogram.observe(observed),
            // Told apart before.
            _ => {}
        }
    }
}

impl Histogram {
    fn observe(&mut self, observed: f64) {
        self.count = self.count.saturating_add(1);
        self.sum += observed;
        let bucket = BOUNDS.partition_point(|bound| *bound < observed);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket = bucket.saturating_add(1);
        }
    }
}

impl State {
    fn measure(&self, name: String, labels: Labels, change: Change) {
        let loan = &self.lent.loan;
        loan.series.take(name, labels, change, loan.limits.series);
    }
}

impl metrics::Host for State {
    fn add(&mut self, name: String, labels: Labels, value: u64) -> wasmtime::Result<()> {
        self.measure(name, labels, Change::Add(value));
        Ok(())
    }

    fn gauge(&mut self, name: String, labels: Labels, value: f64) -> wasmtime::Result<()> {
        self.measure(name, labels, Change::Set(value));
        Ok(())
    }

    fn observe(&mut self, name: String, labels: Labels, value: f64) -> wasmtime::Result<()> {
        self.measure(name, labels, Change::Observe(value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[(&str, &str)]) -> Labels {
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn add(series: &OfPlugin, name: &str, with: &[(&str, &str)], value: u64) -> Result<(), Refusal> {
        series.try_take(name.to_owned(), labels(with), Change::Add(value), 3)
    }

    #[test]
    fn labels_tell_series_apart_whatever_their_order() {
        let registry = Registry::default();
        let series = registry.of("p");
        add(&series, "hits", &[("a", "1"), ("b", "2")], 1).unwrap();
        add(&series, "hits", &[("b", "2"), ("a", "1")], 2).unwrap();
        add(&series, "hits", &[("a", "2")], u64::MAX).unwrap();
        add(&series, "hits", &[("a", "2")], 1).unwrap();
        let found: Vec<_> =
            registry.snapshot().into_iter().map(|series| (series.labels, series.value)).collect();
        assert_eq!(
            found,
            [
                (labels(&[("a", "1"), ("b", "2")]), Value::Counter(3)),
                (labels(&[("a", "2")]), Value::Counter(u64::MAX)),
            ]
        );
    }

    #[test]
    fn what_is_over_the_bound_is_counted_in_a_series_of_its_own() {
        let registry = Registry::default();
        let series = registry.of("p");
        for label in 0..10 {
            series.take("a".to_owned(), labels(&[("l", &label.to_string())]), Change::Add(1), 3);
        }
        series.take("b".to_owned(), Vec::new(), Change::Add(1), 3);
        series.take("a".to_owned(), labels(&[("l", "0")]), Change::Add(1), 3);
        let found = registry.snapshot();
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[0].value, Value::Counter(2), "what is there still grows");
        assert_eq!((found[3].name.as_str(), &found[3].value), (REFUSED, &Value::Counter(8)));
        assert_eq!(found[3].labels, labels(&[("reason", "limit")]));
    }

    #[test]
    fn bad_names_labels_and_values_are_refused() {
        let series = OfPlugin::default();
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["", "1a", "a b", "a\n", "ä", "tunnel_exchanges", &long] {
            assert_eq!(add(&series, name, &[], 1), Err(Refusal::Name), "{name}");
        }
        let wide = "x".repeat(MAX_LABEL + 1);
        for label in
            [("", "v"), ("a:b", "v"), ("__name__", "v"), ("plugin", "other"), ("le", "1"), ("a", &wide)]
        {
            assert_eq!(add(&series, "a", &[label], 1), Err(Refusal::Label), "{label:?}");
        }
        assert_eq!(add(&series, "a", &[("b", "1"), ("b", "2")], 1), Err(Refusal::Label));
        let many: Vec<_> =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"].map(|name| (name, "")).into();
        assert_eq!(add(&series, "a", &many, 1), Err(Refusal::Label));
        for value in [f64::NAN, f64::INFINITY] {
            assert_eq!(series.try_take("a".to_owned(), vec![], Change::Set(value), 3), Err(Refusal::Value));
            assert_eq!(
                series.try_take("a".to_owned(), vec![], Change::Observe(value), 3),
                Err(Refusal::Value)
            );
        }
        assert_eq!(series.snapshot(&"p".into()), [], "none of them took a place");
        add(&series, "a", &[], 1).unwrap();
        assert_eq!(series.try_take("a".to_owned(), vec![], Change::Set(1.0), 3), Err(Refusal::Kind));
    }

    #[test]
    fn a_histogram_knows_buckets_count_and_sum() {
        let series = OfPlugin::default();
        for observed in [-1.0, 0.001, 0.0011, 1e6, 1e7] {
            series.try_take("h".to_owned(), vec![], Change::Observe(observed), 3).unwrap();
        }
        let found = series.snapshot(&"p".into());
        let [Series { value: Value::Histogram(histogram), .. }] = &found[..] else { panic!("{found:?}") };
        assert_eq!((histogram.buckets[0], histogram.buckets[1], histogram.buckets[23]), (2, 1, 1));
        assert_eq!(histogram.count, 5);
        assert!((histogram.sum - 11_000_000.0).abs() < 1.0, "{}", histogram.sum);
    }

    #[test]
    fn plugins_have_series_of_their_own() {
        let registry = Registry::default();
        add(&registry.of("a"), "x", &[], 1).unwrap();
        add(&registry.of("b"), "x", &[], 2).unwrap();
        add(&registry.of("a"), "x", &[], 10).unwrap();
        let found: Vec<_> =
            registry.snapshot().into_iter().map(|series| (series.plugin.to_string(), series.value)).collect();
        assert_eq!(found, [("a".to_owned(), Value::Counter(11)), ("b".to_owned(), Value::Counter(2))]);
    }
}

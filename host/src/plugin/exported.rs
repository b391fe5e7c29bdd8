//! What plugins have measured themselves, where a collector of metrics reads it: under the names that they chose, with the label
//! `plugin`.
//!
//! Plugins don't know each other's names. Where two that can't stand in one exposition meet (one name for a counter and a
//! gauge, or a name that is another's with `_sum` behind it), the first plugin's stays and the other's is left out, since a
//! collector would refuse everything for it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{
    capability::metrics::{BOUNDS, Histogram, Series, Value},
    engine::Host,
};

/// Counts series that are left out.
const LEFT_OUT: &str = "tunnel_plugin_series_left_out";

/// Collects the series of a host's plugins; to be registered where names get no prefix.
pub struct Exported(Host);

impl Exported {
    /// Those of this host.
    pub fn of(host: &Host) -> Self {
        Self(host.clone())
    }
}

impl fmt::Debug for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exported")
    }
}

impl Collector for Exported {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        write(&self.0.metrics(), encoder)
    }
}

/// Series of one name and kind.
struct Family<'a> {
    kind: MetricType,
    series: Vec<&'a Series>,
}

fn write(series: &[Series], mut encoder: DescriptorEncoder) -> fmt::Result {
    let (families, left_out) = families(series);
    for (name, family) in &families {
        let help = if name.starts_with("tunnel_") {
            "Counted by the host for its plugins"
        } else {
            "A plugin's own"
        };
        let mut metric = encoder.encode_descriptor(name, help, None, family.kind)?;
        for series in &family.series {
            let mut labels = vec![("plugin", &*series.plugin)];
            labels.extend(series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let mut metric = metric.encode_family(&labels)?;
            match &series.value {
                Value::Counter(sum) => metric.encode_counter::<NoLabelSet, _, u64>(sum, None)?,
                Value::Gauge(last) => metric.encode_gauge(last)?,
                Value::Histogram(histogram) => {
                    let (sum, count) = (histogram.sum, histogram.count);
                    metric.encode_histogram::<NoLabelSet>(sum, count, &buckets(histogram), None)?;
                }
            }
        }
    }
    let help = "Series of plugins whose names can't stand beside those of others";
    encoder.encode_descriptor(LEFT_OUT, help, None, MetricType::Gauge)?.encode_gauge(&left_out)
}

/// Families by their names, and how many series fit into none.
fn families(series: &[Series]) -> (BTreeMap<&str, Family<'_>>, u64) {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let mut left_out = 0;
    for one in series {
        let kind = kind(&one.value);
        let name = family_name(&one.name, kind);
        match families.entry(name) {
            Entry::Occupied(mut family) if same(family.get().kind, kind) => family.get_mut().series.push(one),
            Entry::Vacant(place) if samples(name, kind).iter().all(|sample| !taken.contains(sample)) => {
                taken.extend(samples(name, kind));
                place.insert(Family { kind, series: vec![one] });
            }
            _ => left_out += 1,
        }
    }
    (families, left_out)
}

fn kind(value: &Value) -> MetricType {
    match value {
        Value::Counter(_) => MetricType::Counter,
        Value::Gauge(_) => MetricType::Gauge,
        Value::Histogram(_) => MetricType::Histogram,
    }
}

fn same(one: MetricType, other: MetricType) -> bool {
    one.as_str() == other.as_str()
}

/// OpenMetrics puts `_total` behind a counter's name by itself.
fn family_name(name: &str, kind: MetricType) -> &str {
    match (kind, name.strip_suffix("_total")) {
        (MetricType::Counter, Some(base)) if !base.is_empty() => base,
        _ => name,
    }
}

/// Every name that a family uses up.
fn samples(name: &str, kind: MetricType) -> Vec<String> {
    let suffixes: &[&str] = match kind {
        MetricType::Counter => &["", "_total"],
        MetricType::Histogram => &["", "_bucket", "_sum", "_count"],
        _ => &[""],
    };
    suffixes.iter().map(|suffix| format!("{name}{suffix}")).collect()
}

fn buckets(histogram: &Histogram) -> Vec<(f64, u64)> {
    let above = histogram.count.saturating_sub(histogram.buckets.iter().sum());
    BOUNDS.iter().copied().zip(histogram.buckets).chain([(f64::INFINITY, above)]).collect()
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[derive(Debug)]
    struct Fixed(Vec<Series>);

    impl Collector for Fixed {
        fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
            write(&self.0, encoder)
        }
    }

    fn one(plugin: &str, name: &str, labels: &[(&str, &str)], value: Value) -> Series {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Series { plugin: plugin.into(), name: name.to_owned(), labels, value }
    }

    fn exposition(series: Vec<Series>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Fixed(series)));
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        out
    }

    #[test]
    fn each_kind_stands_as_collectors_read_it() {
        let mut histogram = Histogram { count: 3, sum: 2e6 + 0.002, ..Histogram::default() };
        histogram.buckets[1] = 2;
        let text = exposition(vec![
            one("a", "logins_total", &[("how", "quo\"te\n")], Value::Counter(2)),
            one("b", "logins_total", &[], Value::Counter(3)),
            one("b", "size", &[], Value::Gauge(1.5)),
            one("b", "took", &[], Value::Histogram(histogram)),
        ]);
        for line in [
            "# TYPE logins counter\n",
            "logins_total{plugin=\"a\",how=\"quo\\\"te\\n\"} 2\n",
            "logins_total{plugin=\"b\"} 3\n",
            "size{plugin=\"b\"} 1.5\n",
            "took_bucket{le=\"0.001\",plugin=\"b\"} 0\n",
            "took_bucket{le=\"0.0025\",plugin=\"b\"} 2\n",
            "took_bucket{le=\"+Inf\",plugin=\"b\"} 3\n",
            "took_count{plugin=\"b\"} 3\n",
            "tunnel_plugin_series_left_out 0\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert_eq!(text.matches("# TYPE logins ").count(), 1, "{text}");
    }

    #[test]
    fn what_would_spoil_the_rest_is_left_out() {
        let text = exposition(vec![
            one("a", "x", &[], Value::Counter(1)),
            one("b", "x", &[], Value::Gauge(1.0)),
            one("b", "x_total", &[], Value::Gauge(1.0)),
            one("c", "y", &[], Value::Histogram(Histogram::default())),
            one("d", "y_sum", &[], Value::Counter(1)),
            one("d", "z", &[], Value::Counter(1)),
        ]);
        assert!(text.contains("tunnel_plugin_series_left_out 3\n"), "{text}");
        assert!(text.contains("z_total{plugin=\"d\"} 1\n") && !text.contains("plugin=\"b\""), "{text}");
    }
}

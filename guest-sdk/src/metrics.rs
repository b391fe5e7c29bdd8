//! Numbers beside those of the host. 100 series a plugin by default: labels take few values, never a visitor's input.
//!
//! ```no_run
//! use guest_sdk::metrics;
//!
//! metrics::count("logins", &[("result", "refused")]);
//! ```

use crate::host::metrics;

/// Adds one to a counter.
pub fn count(name: &str, labels: &[(&str, &str)]) {
    metrics::add(name, &owned(labels), 1);
}

/// Adds to a counter.
pub fn add(name: &str, labels: &[(&str, &str)], value: u64) {
    metrics::add(name, &owned(labels), value);
}

/// Sets a gauge.
pub fn gauge(name: &str, labels: &[(&str, &str)], value: f64) {
    metrics::gauge(name, &owned(labels), value);
}

/// Adds to a histogram.
pub fn observe(name: &str, labels: &[(&str, &str)], value: f64) {
    metrics::observe(name, &owned(labels), value);
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

//! Metrics as a collector reads them, by the rules of OpenMetrics, strictly: what is wrong fails the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{Wire, within};

/// All that a listener tells.
pub(crate) struct Exposition {
    /// Kinds of families, by name.
    pub(crate) kinds: BTreeMap<String, String>,
    samples: Vec<Sample>,
    text: String,
}

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Exposition {
    /// Asks the listener at this address.
    pub(crate) async fn of(address: SocketAddr) -> Self {
        let mut wire = Wire::connect(address).await;
        wire.send(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
        let reply = wire.reply("GET").await;
        assert_eq!(reply.status(), 200, "{}", reply.text());
        Self::parse(&reply.text())
    }

    /// Asks again and again until this holds: what is told of an exchange follows its last byte by a moment.
    pub(crate) async fn until(address: SocketAddr, what: &str, holds: impl Fn(&Self) -> bool) -> Self {
        let asking = async {
            loop {
                let metrics = Self::of(address).await;
                if holds(&metrics) {
                    return metrics;
                }
            }
        };
        within(what, asking).await
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut this = Self { kinds: BTreeMap::new(), samples: Vec::new(), text: text.to_owned() };
        let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no # EOF at the end of {text}"));
        let (mut family, mut seen) = (String::new(), BTreeSet::new());
        for line in body.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "HELP" | "UNIT", ..] => {}
                ["#", "TYPE", name, kind] => {
                    assert!(
                        this.kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                        "{name} twice: {text}"
                    );
                    family = name.to_owned();
                }
                _ => {
                    let sample = Sample::parse(line);
                    let kind = &this.kinds[&family];
                    let suffixes: &[&str] = match kind.as_str() {
                        "counter" => &["_total"],
                        "histogram" => &["_bucket", "_sum", "_count"],
                        "info" => &["_info"],
                        _ => &[""],
                    };
                    let fits = suffixes.iter().any(|suffix| sample.name == format!("{family}{suffix}"));
                    assert!(fits, "{line} stands under the {kind} {family}");
                    assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "{line} twice");
                    this.samples.push(sample);
                }
            }
        }
        this
    }

    /// The value of the one series that has these labels, and maybe others; 0 if there is none.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|has| has == value))
        };
        self.samples.iter().filter(has).map(|sample| sample.value).sum()
    }

    /// All values of a label, of all series.
    pub(crate) fn labels(&self) -> BTreeSet<&str> {
        self.samples.iter().flat_map(|sample| sample.labels.values().map(String::as_str)).collect()
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let wrong = format!("no sample: {line}");
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect(&wrong));
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        assert!(!name.is_empty() && name.chars().all(named), "{line}");
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest).expect(&wrong),
            None => (BTreeMap::new(), rest),
        };
        let value = value.strip_prefix(' ').expect(&wrong);
        Self { name: name.to_owned(), labels, value: value.parse().expect(&wrong) }
    }
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    _ => return None,
                }),
                (_, c) => value.push(c),
            }
        };
        if labels.insert(name.to_owned(), value).is_some() {
            return None;
        }
        text = &rest[end + 1..];
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None => return Some((labels, text.strip_prefix('}')?)),
        }
    }
}

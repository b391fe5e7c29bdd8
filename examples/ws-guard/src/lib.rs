//! Watches over the messages that visitors send through WebSockets: they are JSON objects with the right fields, not too many, and
//! without forbidden words. What the service sends back loses the fields that visitors shouldn't see.

mod json;

use std::collections::BTreeMap;

use guest_sdk::prelude::*;
use json::Kind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The close code of "this message breaks a rule" (RFC 6455, section 7.4.1).
const POLICY: u16 = 1008;

/// What the operator writes under `config`. All of it may be left out.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Fields that a visitor's message must have, and their kinds.
    required: BTreeMap<String, Kind>,
    /// How many messages a visitor may send; any number unless given.
    rate: Option<Rate>,
    /// What becomes of a visitor's binary messages.
    binary: Binary,
    /// Words that visitors may not use.
    forbidden: Vec<String>,
    /// What becomes of a message with such a word.
    on_forbidden: OnForbidden,
    /// Fields, at any depth, that are blanked in what the service sends.
    redact: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    messages: u32,
    seconds: u32,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Binary {
    #[default]
    Refuse,
    Pass,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum OnForbidden {
    #[default]
    Replace,
    Close,
}

struct WsGuard(Config);

/// A bucket that refills steadily; one message takes one token out.
#[derive(Serialize, Deserialize, Default)]
struct Bucket {
    tokens: f64,
    /// In milliseconds.
    filled_at: u64,
}

#[guest_sdk::plugin]
impl Plugin for WsGuard {
    type Config = Config;
    type Connection = Bucket;

    fn new(config: Config) -> Result<Self> {
        if config.rate.as_ref().is_some_and(|rate| rate.messages == 0 || rate.seconds == 0) {
            return Err(Fault::new("rate: `messages` and `seconds` are at least 1"));
        }
        if config.forbidden.iter().any(String::is_empty) {
            return Err(Fault::new("forbidden: an empty word stands in every message"));
        }
        Ok(Self(config))
    }

    fn on_open(&self, _: &Request, (): ()) -> Result<Accept<Bucket>> {
        let accept = Accept::nothing().text_from(Side::Visitor).binary_from(Side::Visitor);
        // What isn't redacted needn't be looked at.
        let accept = if self.0.redact.is_empty() { accept } else { accept.text_from(Side::Origin) };
        let tokens = self.0.rate.as_ref().map_or(0.0, |rate| f64::from(rate.messages));
        Ok(accept.connection(Bucket { tokens, filled_at: clock::unix_millis() }))
    }

    fn on_message(&self, from: Side, message: Message, bucket: &mut Bucket) -> Result<Relay> {
        let relay = match (from, message) {
            (Side::Origin, message) => self.redacted(&message),
            (Side::Visitor, _) if self.0.rate.as_ref().is_some_and(|rate| !bucket.take(rate)) => {
                refused("too many messages")
            }
            (Side::Visitor, Message::Text(text)) => self.checked(&text),
            (Side::Visitor, Message::Binary(_)) => match self.0.binary {
                Binary::Refuse => refused("only text messages are allowed here"),
                // It was only to be counted.
                Binary::Pass => Relay::keep(),
            },
        };
        Ok(relay)
    }
}

impl WsGuard {
    fn checked(&self, text: &str) -> Relay {
        let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
            return refused("a message has to be a JSON object");
        };
        for (name, kind) in &self.0.required {
            if !fields.get(name).is_some_and(|value| kind.fits(value)) {
                return refused(&format!("the field {name:?} has to be {kind}"));
            }
        }
        let mut message = Value::Object(fields);
        match (json::replace_words(&mut message, &self.0.forbidden), &self.0.on_forbidden) {
            (false, _) => Relay::keep(),
            (true, OnForbidden::Replace) => Relay::replace(message.to_string()),
            (true, OnForbidden::Close) => refused("a word in this message is not allowed here"),
        }
    }

    fn redacted(&self, message: &Message) -> Relay {
        let Some(Ok(mut value)) = message.as_text().map(serde_json::from_str) else { return Relay::keep() };
        if json::blank(&mut value, &self.0.redact) {
            Relay::replace(value.to_string())
        } else {
            Relay::keep()
        }
    }
}

impl Bucket {
    fn take(&mut self, rate: &Rate) -> bool {
        let now = clock::unix_millis();
        let passed = now.saturating_sub(self.filled_at) as f64 / 1000.0;
        let most = f64::from(rate.messages);
        self.tokens = (self.tokens + passed * most / f64::from(rate.seconds)).min(most);
        self.filled_at = now;
        let enough = self.tokens >= 1.0;
        self.tokens -= if enough { 1.0 } else { 0.0 };
        enough
    }
}

fn refused(reason: &str) -> Relay {
    info!("closed a connection: {reason}");
    metrics::count("ws_closed", &[]);
    let mut reason = reason.to_owned();
    // The close frame has no room for more.
    reason.truncate(reason.floor_char_boundary(123));
    Relay::close(POLICY, reason)
}

#[cfg(test)]
mod tests;

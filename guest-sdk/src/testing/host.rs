//! The capabilities with the names and types that wit-bindgen gives them, so that the rest of the crate can't tell.

pub(crate) use super::exchange;

pub(crate) mod log {
    use super::super::world::{Line, current};
    use crate::bindings::plugin::log::Level;

    pub(crate) fn write(level: Level, message: &str, fields: &[(String, String)]) {
        let fields = fields.iter().cloned().collect();
        // Shown by `cargo test` when the test fails.
        println!("plugin: {level:?} {message} {fields:?}");
        current().lines.borrow_mut().push(Line { level, message: message.to_owned(), fields });
    }

    pub(crate) fn enabled(_: Level) -> bool {
        true
    }
}

pub(crate) mod clock {
    use super::super::world::current;

    pub(crate) fn now() -> u64 {
        current().now.get()
    }

    pub(crate) fn monotonic() -> u64 {
        current().now.get() * 1_000_000
    }
}

pub(crate) mod random {
    use super::super::world::current;

    /// The same in every run of a test (SplitMix64).
    pub(crate) fn bytes(n: u32) -> Vec<u8> {
        let world = current();
        let next = || {
            world.random.set(world.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
            let mut z = world.random.get();
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as u8
        };
        (0..n.min(64 * 1024)).map(|_| next()).collect()
    }
}

pub(crate) mod secrets {
    use super::super::world::current;

    pub(crate) fn get(name: &str) -> Option<Vec<u8>> {
        current().secrets.borrow().get(name).cloned()
    }
}

pub(crate) mod metrics {
    use super::super::world::{Metric, current};

    pub(crate) fn add(name: &str, labels: &[(String, String)], value: u64) {
        put(name, labels, |sum| sum + value as f64);
    }

    pub(crate) fn gauge(name: &str, labels: &[(String, String)], value: f64) {
        put(name, labels, |_| value);
    }

    pub(crate) fn observe(name: &str, labels: &[(String, String)], value: f64) {
        put(name, labels, |sum| sum + value);
    }

    fn put(name: &str, labels: &[(String, String)], change: impl Fn(f64) -> f64) {
        let labels = labels.iter().cloned().collect();
        let world = current();
        let mut metrics = world.metrics.borrow_mut();
        match metrics.iter_mut().find(|metric| metric.name == name && metric.labels == labels) {
            Some(metric) => metric.value = change(metric.value),
            None => metrics.push(Metric { name: name.to_owned(), labels, value: change(0.0) }),
        }
    }
}

pub(crate) mod http_client {
    use super::super::world::{Call, current};
    use crate::bindings::plugin::{
        http_client::{Error, Request},
        types::Answer,
    };

    pub(crate) fn send(request: &Request) -> Result<Answer, Error> {
        let world = current();
        let Request { method, url, headers, body, .. } = request.clone();
        world.calls.borrow_mut().push(Call { method: method.clone(), url: url.clone(), headers, body });
        let mut answers = world.answers.borrow_mut();
        let Some(answers) = answers.get_mut(&url) else {
            let known: Vec<&String> = answers.keys().collect();
            panic!(
                "the plugin sent {method} {url}, which no answer was given for; there are answers for {known:?}"
            );
        };
        if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }.expect("none is empty")
    }
}

pub(crate) mod kv {
    use std::rc::Rc;

    use super::super::world::{World, current};
    use crate::bindings::plugin::kv::Error;

    pub(crate) struct Bucket {
        name: String,
        world: Rc<World>,
    }

    impl Bucket {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            let world = current();
            let granted = world.kv_granted.get();
            granted.then(|| Self { name: name.to_owned(), world }).ok_or(Error::Denied)
        }

        pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
            check(key, &[])?;
            let now = self.world.now.get();
            let entries = self.world.entries.borrow();
            let entry = entries.get(&self.at(key)).filter(|(_, end)| end.is_none_or(|end| end > now));
            Ok(entry.map(|(value, _)| value.clone()))
        }

        pub(crate) fn set(&self, key: &str, value: &[u8], ttl_ms: u64) -> Result<(), Error> {
            check(key, value)?;
            let end = (ttl_ms > 0).then(|| self.world.now.get() + ttl_ms);
            self.world.entries.borrow_mut().insert(self.at(key), (value.to_owned(), end));
            Ok(())
        }

        pub(crate) fn remove(&self, key: &str) -> Result<(), Error> {
            check(key, &[])?;
            self.world.entries.borrow_mut().remove(&self.at(key));
            Ok(())
        }

        pub(crate) fn increment(&self, key: &str, by: i64, ttl_ms: u64) -> Result<i64, Error> {
            let Some(present) = self.get(key)? else {
                self.set(key, by.to_string().as_bytes(), ttl_ms)?;
                return Ok(by);
            };
            let number = str::from_utf8(&present).ok().and_then(|text| text.parse::<i64>().ok());
            let sum = number.and_then(|number| number.checked_add(by)).ok_or_else(|| {
                Error::Other(format!("the entry {key:?} is no number that can be added to"))
            })?;
            // Its time has begun already.
            if let Some((value, _)) = self.world.entries.borrow_mut().get_mut(&self.at(key)) {
                *value = sum.to_string().into_bytes();
            }
            Ok(sum)
        }

        pub(crate) fn swap(
            &self,
            key: &str,
            old: Option<&[u8]>,
            new: &[u8],
            ttl_ms: u64,
        ) -> Result<bool, Error> {
            let equal = self.get(key)?.as_deref() == old;
            if equal {
                self.set(key, new, ttl_ms)?;
            }
            Ok(equal)
        }

        fn at(&self, key: &str) -> (String, String) {
            (self.name.clone(), key.to_owned())
        }
    }

    fn check(key: &str, value: &[u8]) -> Result<(), Error> {
        if key.len() > 256 || value.len() > 64 * 1024 { Err(Error::TooLarge) } else { Ok(()) }
    }
}

//! The original server's environment variables, understood where a setting of ours is absent, so that its deployments start with
//! what they have. Each that counts is named in a line of the log, with the setting that should stand in its place.
//!
//! Their names are so common (`DOMAIN`, `BASE`) that one may be there for another program: what can't be used is told and left out.

use std::str::FromStr;

use super::{
    bus::{Bus, BusFlag},
    cli::ProxyArgs,
    file::ProxyFile,
    values::{Listen, Wrong},
};

/// What the environment says.
#[derive(Debug, Default, Clone)]
pub(super) struct Legacy {
    addr: Option<String>,
    base: Option<String>,
    domain: Option<String>,
    cache: Option<String>,
    pubsub: Option<String>,
    redis: Option<String>,
}

/// Where the original looked for Redis.
const REDIS: &str = "localhost:6379";

impl Legacy {
    /// Reads the environment.
    pub(super) fn of_environment() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        // One that is empty says nothing, as for the original.
        let read = |name| variable(name).filter(|value| !value.is_empty());
        Self {
            addr: read("ADDR"),
            base: read("BASE"),
            domain: read("DOMAIN"),
            cache: read("CACHE"),
            pubsub: read("PUBSUB"),
            redis: read("REDIS"),
        }
    }

    /// Fills in what neither command line nor file says, and adds a line for each variable to `advice`.
    pub(super) fn fill(&self, args: &mut ProxyArgs, file: &ProxyFile, advice: &mut Vec<String>) {
        if args.listen.is_none() && file.listen.is_none() {
            args.listen = take("ADDR", self.addr.as_deref(), "listen", listen, advice);
        }
        if args.public_url.is_none() && file.public_url.is_none() {
            args.public_url = take("BASE", self.base.as_deref(), "public_url", FromStr::from_str, advice);
        }
        if args.domain.is_none() && file.domain.is_none() {
            args.domain = take("DOMAIN", self.domain.as_deref(), "domain", FromStr::from_str, advice);
        }
        if args.bus.is_none() && file.bus.is_none() {
            let bus = take("PUBSUB", self.pubsub.as_deref(), "bus", |text| self.bus(text), advice);
            args.bus = bus.map(BusFlag::of_environment);
        }
        if matches!(self.cache.as_deref(), Some("inmem" | "redis")) {
            advice.push(
                "CACHE has no meaning here: what nodes know of each other goes over the bus (--bus); take it away"
                    .to_owned(),
            );
        }
    }

    fn bus(&self, pubsub: &str) -> Result<Bus, Wrong> {
        match pubsub {
            "inmem" => Ok(Bus::Memory),
            "redis" => format!("redis://{}", self.redis.as_deref().unwrap_or(REDIS)).parse(),
            _ => Err(Wrong("the original knew inmem and redis".to_owned())),
        }
    }
}

fn take<T>(
    name: &str,
    value: Option<&str>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, Wrong>,
    advice: &mut Vec<String>,
) -> Option<T> {
    let value = value?;
    let flag = key.replace('_', "-");
    let (taken, line) = match parse(value) {
        Ok(taken) => {
            let line = format!(
                "{name} in the environment is taken for --{flag}, as the original server did; write --{flag}, or {key} in the \
                 settings file, in its place"
            );
            (Some(taken), line)
        }
        // A URL of Redis has no place in a log.
        Err(wrong) => (
            None,
            format!("{name} in the environment is left out, as it can't be taken for --{flag}: {wrong}"),
        ),
    };
    advice.push(line);
    taken
}

/// `:6519` is every address of the machine.
fn listen(text: &str) -> Result<Listen, Wrong> {
    let address = match text.rsplit_once(':') {
        Some(("", port)) => format!("0.0.0.0:{port}"),
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    address.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(variables: &[(&str, &str)], file: &str) -> (ProxyArgs, Vec<String>) {
        let value =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        let (mut args, mut advice) = (ProxyArgs::default(), Vec::new());
        Legacy::of(value).fill(&mut args, &toml::from_str(file).unwrap(), &mut advice);
        (args, advice)
    }

    #[test]
    fn each_variable_fills_its_setting_and_says_which() {
        let (args, advice) = filled(
            &[
                ("ADDR", ":7000"),
                ("BASE", "https://old.example"),
                ("DOMAIN", "old.example"),
                ("PUBSUB", "redis"),
                ("REDIS", "redis.lan:7"),
                ("CACHE", "redis"),
            ],
            "",
        );
        assert_eq!(args.listen.unwrap().0.to_string(), "0.0.0.0:7000");
        assert_eq!(args.public_url.unwrap().0, "https://old.example/");
        assert_eq!(args.domain.unwrap().0, "old.example");
        assert_eq!(args.bus.unwrap().to_string(), "redis://redis.lan:7/0");
        let settings = ["--listen", "--public-url", "--domain", "--bus", "--bus"];
        assert_eq!(advice.len(), settings.len(), "{advice:?}");
        for ((line, variable), setting) in
            advice.iter().zip(["ADDR", "BASE", "DOMAIN", "PUBSUB", "CACHE"]).zip(settings)
        {
            assert!(line.starts_with(variable) && line.contains(setting), "{line}");
        }
    }

    #[test]
    fn what_is_set_goes_before_the_old_variables_and_is_not_spoken_of() {
        let variables =
            [("ADDR", ":7000"), ("BASE", "http://a"), ("DOMAIN", "old.example"), ("PUBSUB", "redis")];
        let file = "listen = '127.0.0.1:0'\npublic_url = 'http://b'\ndomain = 'new.example'\nbus = 'memory'";
        let (args, advice) = filled(&variables, file);
        assert!(
            args.listen.is_none() && args.domain.is_none() && args.public_url.is_none() && args.bus.is_none()
        );
        assert_eq!(advice, [""; 0]);
    }

    #[test]
    fn the_original_s_own_defaults_and_forms_are_known() {
        assert_eq!(filled(&[("PUBSUB", "redis")], "").0.bus.unwrap().to_string(), "redis://localhost:6379/0");
        assert_eq!(filled(&[("PUBSUB", "inmem")], "").0.bus.unwrap().to_string(), "memory");
        assert_eq!(filled(&[("ADDR", "localhost:7")], "").0.listen.unwrap().0.to_string(), "127.0.0.1:7");
        assert_eq!(filled(&[("DOMAIN", "")], "").1, [""; 0]);
    }

    #[test]
    fn what_belongs_to_another_program_is_left_out_in_words() {
        let (args, advice) = filled(&[("BASE", "/srv/app"), ("ADDR", "here"), ("PUBSUB", "nats")], "");
        assert!(args.listen.is_none() && args.public_url.is_none() && args.bus.is_none());
        assert_eq!(advice.len(), 3);
        assert!(advice.iter().all(|line| line.contains("is left out")), "{advice:?}");
    }
}

//! `[[policy]]` of `proxy.toml`: which plugins and limits hold for which tunnels and paths.
//!
//! Owns what is written, and what it means once plugins are loaded. Must not know how a policy is chosen.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value},
};

use super::{
    document::{Lines, Mistakes},
    plugins::{Pack, Sources, Wanted, load, wanted},
    units::{MaxBody, RateLimit, Wait},
    values::Written,
};
use crate::{
    exchange::Forward,
    plugin::Chain,
    proxy::{
        Rate,
        policy::{About, DomainPattern, PathPattern, Policy, PolicyLimits, Stages},
    },
    wire::TunnelName,
};

/// `[[policy]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct PolicyTable {
    pub domain: Option<Written<DomainPattern>>,
    pub path: Option<Written<PathPattern>>,
    #[serde(default)]
    pub plugins: Vec<String>,
    pub serve: Option<String>,
    pub max_body: Option<Written<MaxBody>>,
    pub rate: Option<PolicyRate>,
    pub timeout: Option<Written<Wait>>,
}

/// `{ requests = 500, per = "1s", burst = 1000 }`, or as on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyRate(pub Option<Rate>);

impl<'de> Deserialize<'de> for PolicyRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            requests: NonZeroU32,
            per: Option<Written<Wait>>,
            burst: Option<NonZeroU32>,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = PolicyRate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "{ requests = 500, per = \"1s\", burst = 1000 }, or \"500/s,burst=1000\", or \"off\"",
                )
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PolicyRate, E> {
                text.parse().map(|RateLimit(rate)| PolicyRate(rate)).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<PolicyRate, A::Error> {
                let table = Table::deserialize(value::MapAccessDeserializer::new(table))?;
                let twice = || table.requests.saturating_mul(NonZeroU32::new(2).expect("not zero"));
                Ok(PolicyRate(Some(Rate {
                    tokens: table.requests,
                    per: table.per.map_or(Duration::from_secs(1), |per| per.0.0),
                    burst: table.burst.unwrap_or_else(twice),
                })))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A policy whose values are checked, before plugins are loaded.
#[derive(Clone)]
pub struct Plan {
    /// Which tunnels.
    pub domain: DomainPattern,
    /// Which paths.
    pub path: Option<PathPattern>,
    /// Its own limits.
    pub limits: PolicyLimits,
    /// The names of its plugins, in order.
    pub plugins: Vec<String>,
    /// The name of the application that answers.
    pub serve: Option<String>,
    /// Where it is written: `proxy.toml:12`.
    pub position: String,
}

impl Plan {
    /// The policy, with plugins that were loaded.
    pub fn policy(&self, pack: &Pack) -> Policy {
        let plugins: Vec<_> = self.plugins.iter().filter_map(|name| pack.plugin(name)).cloned().collect();
        let serve = self.serve.as_ref().and_then(|name| pack.application(name)).cloned();
        let stages: Stages = Arc::new(move |bus| {
            let last: Arc<dyn Forward> = match &serve {
                Some(application) => Arc::clone(application) as _,
                None => bus,
            };
            if plugins.is_empty() { last } else { Arc::new(Chain::new(plugins.clone(), last)) }
        });
        Policy { stages, ..self.outline() }
    }

    /// The policy without what it does.
    fn outline(&self) -> Policy {
        Policy {
            domain: self.domain.clone(),
            path: self.path.clone(),
            limits: self.limits,
            stages: Arc::new(|bus| bus),
            about: About { plugins: self.plugins.clone(), serve: self.serve.clone() },
        }
    }
}

/// Checks the policies of a file. Applications that are named by file alone are added to what is wanted.
pub fn plans(
    tables: &[PolicyTable],
    domain: &str,
    hostnames: &[TunnelName],
    written: &wanted::Written<'_>,
    wanted: &mut Vec<Wanted>,
    sources: &mut Sources,
    mistakes: &mut Mistakes,
) -> Vec<Plan> {
    let lines = written.lines;
    let mut plans: Vec<Plan> = Vec::new();
    for (n, table) in tables.iter().enumerate() {
        let key = format!("policy[{n}]");
        let named = |name: &str| {
            written.plugins.iter().flat_map(|plugin| &plugin.name).any(|known| known.0.0 == name)
        };
        for (n, name) in table.plugins.iter().enumerate().filter(|(_, name)| !named(name)) {
            mistakes.push(lines.wrong(&format!("{key}.plugins[{n}]"), load::unknown(name, wanted)));
        }
        let serve = table.serve.as_ref();
        let serve =
            serve.and_then(|serve| written.served(&format!("{key}.serve"), serve, wanted, sources, mistakes));
        let Some(pattern) = &table.domain else {
            let at = format!("{key}.domain");
            if !lines.has(&at) {
                let problem = "a policy needs a domain; write domain = \"*\" for every tunnel";
                mistakes.push(lines.wrong(&at, problem));
            }
            continue;
        };
        let plan = Plan {
            domain: pattern.0.clone(),
            path: table.path.as_ref().map(|path| path.0.clone()),
            limits: PolicyLimits {
                max_body: table.max_body.as_ref().map(|max| max.0.0),
                rate: table.rate.map(|rate| rate.0),
                answer_timeout: table.timeout.as_ref().map(|time| time.0.0),
            },
            plugins: table.plugins.clone(),
            serve,
            position: lines.position(&key),
        };
        reachable(&key, &plan, &plans, (domain, hostnames), lines, mistakes);
        plans.push(plan);
    }
    plans
}

fn reachable(
    key: &str,
    plan: &Plan,
    before: &[Plan],
    (domain, hostnames): (&str, &[TunnelName]),
    lines: &Lines,
    mistakes: &mut Mistakes,
) {
    if !plan.domain.can_hold(domain, hostnames.iter()) {
        let problem = format!(
            "no tunnel of this proxy has a host like {}: they are under {domain} (domain, --domain), or listed with a key \
             (registration.key.domains)",
            plan.domain
        );
        mistakes.warn(lines.wrong(&format!("{key}.domain"), problem));
    }
    if let Some(earlier) = before.iter().find(|earlier| earlier.outline().shadows(&plan.outline())) {
        let problem = format!(
            "nothing gets here: the policy of {} takes all of it; write the narrower policy first",
            earlier.position
        );
        mistakes.push(lines.wrong(key, problem));
    }
}

/// Plugins and applications that no policy names are loaded for nothing.
pub fn unused(plans: &[Plan], wanted: &[Wanted], lines: &Lines, mistakes: &mut Mistakes) {
    for wanted in wanted {
        let name = &wanted.config.name;
        let used = plans.iter().any(|plan| match wanted.kind {
            wanted::Kind::Plugin => plan.plugins.contains(name),
            wanted::Kind::Application => plan.serve.as_ref() == Some(name),
        });
        if let (false, Some(key)) = (used, wanted.key()) {
            mistakes.warn(lines.wrong(key, format!("no policy names {name}: nothing ever meets it")));
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;

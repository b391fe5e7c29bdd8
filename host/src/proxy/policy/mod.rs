//! Policies: which limits and which further stages hold for which tunnels and paths.
//!
//! Owns the choice, a pure function of the tunnel's name and the path, and the stage that makes it for each exchange.
//! Must not know what the further stages are: whoever makes a policy gives a function that puts them before the bus.

mod explain;
mod path;
mod pattern;
#[cfg(test)]
mod tests;

pub use explain::{Destination, destination};
pub use pattern::{BadPattern, DomainPattern, PathPattern};

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::{
    Rate,
    limits::{AnswerTimeout, BodyLimit, Buckets, RateLimit, Reach},
};
use crate::{
    exchange::{ErrorKind, Forward, ForwardError, ForwardFuture, Request},
    redis::Redis,
    wire::TunnelName,
};

/// Puts what a policy wants before the stage that it is given, or something in its place.
pub type Stages = Arc<dyn Fn(Arc<dyn Forward>) -> Arc<dyn Forward> + Send + Sync>;

/// What holds for some tunnels and paths. The first of a list that fits counts.
#[derive(Clone)]
pub struct Policy {
    /// Which tunnels.
    pub domain: DomainPattern,
    /// Which paths; all of them if `None`.
    pub path: Option<PathPattern>,
    /// Limits that differ from the proxy's own.
    pub limits: PolicyLimits,
    /// What stands between the limits and the bus.
    pub stages: Stages,
    /// What that is, for whoever looks.
    pub about: About,
}

/// What the further stages of a policy are, in the words of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Plugins, by name and in order.
    pub plugins: Vec<String>,
    /// The application that answers in the tunnel's place.
    pub serve: Option<String>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("domain", &self.domain)
            .field("path", &self.path)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// Whether no exchange gets past this one to `later`.
    pub fn shadows(&self, later: &Self) -> bool {
        let path = match (&self.path, &later.path) {
            (None, _) => true,
            (Some(path), Some(later)) => path.covers(later),
            (Some(path), None) => path.covers(&"/*".parse().expect("a pattern")),
        };
        path && self.domain.covers(&later.domain)
    }
}

/// Limits of a policy. What is `None` is as the proxy has it; an inner `None` lifts the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyLimits {
    /// Bytes of each request's body and each response's body.
    pub max_body: Option<Option<u64>>,
    /// Requests, and messages of visitors, of each tunnel under this policy.
    pub rate: Option<Option<Rate>>,
    /// Longest wait for a response's head.
    pub answer_timeout: Option<Duration>,
}

/// Which policy holds, by its place in the list; `None` if none does.
///
/// # Errors
/// The path can be read in several ways, by which different policies hold.
pub fn choose<'a>(
    policies: impl Iterator<Item = (&'a DomainPattern, Option<&'a PathPattern>)> + Clone,
    tunnel: &TunnelName,
    domain: &str,
    path: &str,
) -> Result<Option<usize>, Ambiguous> {
    let readings = path::readings(path);
    let mut chosen = readings.iter().map(|reading| {
        policies.clone().position(|(pattern, path)| {
            pattern.holds(tunnel, domain) && path.is_none_or(|path| path.holds(reading))
        })
    });
    let first = chosen.next().flatten();
    if chosen.all(|other| other == first) { Ok(first) } else { Err(Ambiguous) }
}

/// A path can be read in several ways, and a policy holds by one and not by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path can be read in several ways (encoded slashes, dot segments, parameters); write it plain")]
pub struct Ambiguous;

/// What policies differ from.
pub(crate) struct Base {
    /// The proxy's domain.
    pub(crate) domain: String,
    pub(crate) max_body: Option<u64>,
    pub(crate) rate: Option<Rate>,
    /// Where all nodes count rates together; each by itself if `None`.
    pub(crate) redis: Option<Redis>,
    pub(crate) answer_timeout: Duration,
    /// Where all of them lead.
    pub(crate) next: Arc<dyn Forward>,
}

/// The stage that chooses; its policies may be replaced at any time. An exchange ends under those it began with.
pub(crate) struct PolicyStage {
    base: Base,
    reach: Option<Arc<Reach>>,
    /// One bucket for each tunnel, whichever of the policies without a rate of their own its exchanges meet.
    buckets: Option<Arc<Buckets>>,
    /// For exchanges that no policy holds for.
    plain: Arc<dyn Forward>,
    current: ArcSwap<Vec<Compiled>>,
}

/// A policy with its way.
struct Compiled {
    domain: DomainPattern,
    path: Option<PathPattern>,
    rate: Option<Option<Rate>>,
    buckets: Option<Arc<Buckets>>,
    way: Arc<dyn Forward>,
    limits: PolicyLimits,
    about: About,
}

impl PolicyStage {
    pub(crate) fn new(base: Base, policies: &[Policy]) -> Self {
        let reach = base.redis.clone().map(Reach::new);
        let buckets = base.rate.map(|rate| Arc::new(Buckets::new(rate, &base.domain, reach.as_ref())));
        let plain = way(&base, buckets.clone(), &PolicyLimits::default(), Arc::clone(&base.next));
        let stage = Self { base, reach, buckets, plain, current: ArcSwap::default() };
        stage.replace(policies);
        stage
    }

    /// Puts other policies in force. What was used of a rate that stays the same stays used.
    pub(crate) fn replace(&self, policies: &[Policy]) {
        let before = self.current.load();
        let compiled = policies.iter().map(|policy| {
            let same = |old: &&Compiled| {
                (&old.domain, &old.path, old.rate) == (&policy.domain, &policy.path, policy.limits.rate)
            };
            let buckets = match (policy.limits.rate, before.iter().find(same)) {
                (None, _) => self.buckets.clone(),
                (Some(_), Some(old)) => old.buckets.clone(),
                (Some(own), None) => own.map(|rate| self.buckets_of(policy, rate)),
            };
            let next = (policy.stages)(Arc::clone(&self.base.next));
            Compiled {
                domain: policy.domain.clone(),
                path: policy.path.clone(),
                rate: policy.limits.rate,
                way: way(&self.base, buckets.clone(), &policy.limits, next),
                buckets,
                limits: policy.limits,
                about: policy.about.clone(),
            }
        });
        self.current.store(Arc::new(compiled.collect()));
    }

    /// The policies in force, as JSON.
    pub(crate) fn describe(&self) -> Vec<serde_json::Value> {
        self.current.load().iter().map(explain::described).collect()
    }

    /// What other nodes, or this one after it was started anew, count under the same policy is counted together.
    fn buckets_of(&self, policy: &Policy, rate: Rate) -> Arc<Buckets> {
        let path = policy.path.as_ref().map(ToString::to_string).unwrap_or_default();
        let scope = format!("{} {}{path}", self.base.domain, policy.domain);
        Arc::new(Buckets::new(rate, &scope, self.reach.as_ref()))
    }

    fn choose(&self, policies: &[Compiled], request: &Request) -> Result<Option<usize>, Ambiguous> {
        let patterns = policies.iter().map(|policy| (&policy.domain, policy.path.as_ref()));
        choose(patterns, &request.context.tunnel, &self.base.domain, request.head.target.path())
    }
}

impl Forward for PolicyStage {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        let policies = self.current.load();
        if policies.is_empty() {
            return self.plain.forward(request);
        }
        match self.choose(&policies, &request) {
            Ok(None) => self.plain.forward(request),
            Ok(Some(chosen)) => {
                let way = Arc::clone(&policies[chosen].way);
                Box::pin(async move { way.forward(request).await })
            }
            Err(ambiguous) => {
                let error = ForwardError::new(ErrorKind::BadRequest, ambiguous.to_string());
                Box::pin(std::future::ready(Err(error)))
            }
        }
    }
}

/// The limits in force, and then what the policy wants.
fn way(
    base: &Base,
    buckets: Option<Arc<Buckets>>,
    limits: &PolicyLimits,
    next: Arc<dyn Forward>,
) -> Arc<dyn Forward> {
    let timed = AnswerTimeout::new(limits.answer_timeout.unwrap_or(base.answer_timeout), next);
    let timed = if limits.answer_timeout.is_some() { timed.set_by("timeout in its policy") } else { timed };
    let bounded = BodyLimit::new(limits.max_body.unwrap_or(base.max_body), Arc::new(timed));
    let bounded = if limits.max_body.is_some() { bounded.set_by("max_body in its policy") } else { bounded };
    Arc::new(RateLimit::new(buckets, Arc::new(bounded)))
}

/// Puts other policies in force in a proxy that runs; cheap to clone.
#[derive(Clone)]
pub struct PolicySwitch(pub(super) Arc<PolicyStage>);

impl PolicySwitch {
    /// From now on these hold. Exchanges under way end under those they began with.
    pub fn replace(&self, policies: &[Policy]) {
        self.0.replace(policies);
    }
}

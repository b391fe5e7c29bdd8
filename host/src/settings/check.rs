//! `--check` and `--explain`: what settings mean, without running anything that visitors reach.

use std::fmt::Write;

use bytesize::ByteSize;
use http::Uri;

use super::{
    SettingsError,
    client::ClientSettings,
    document::Mistakes,
    door,
    plugins::{Loader, cache},
    policy::Plan,
    proxy::ProxySettings,
    report::Reporter,
    serve,
};
use crate::{
    proxy::{
        Config, Rate, Registration,
        policy::{self, Destination},
    },
    wire::TunnelName,
};

/// Verifies a proxy's settings and all that they name; says what they amount to, and what a URL would meet.
///
/// # Errors
/// All that is wrong, at once.
pub(super) async fn proxy(
    settings: ProxySettings,
    mut mistakes: Mistakes,
    explain: Option<&Uri>,
    reporter: &Reporter,
) -> Result<String, SettingsError> {
    // Before anything gives up, so that it is told with the other mistakes.
    if let Some(bus) = &settings.bus {
        mistakes.take(bus.check().await);
    }
    let prepared = serve::prepare(settings, &mut mistakes, reporter).await?;
    let (settings, loaded) = (&prepared.settings, prepared.plugins);
    let mut out = warnings(&mut mistakes);
    let file =
        settings.file.as_ref().map_or("the command line".to_owned(), |file| file.display().to_string());
    let _ = writeln!(out, "{file} is good: {}, {}", many(loaded, "plugin"), policies(settings.plans.len()));
    out.push_str(&door::shown(&settings.config.door));
    if let Some(bus) = &settings.bus {
        let _ = writeln!(out, "  bus  {}, which answers", bus.redis.address());
    }
    for line in settings.observe.describe() {
        let _ = writeln!(out, "  {line}");
    }
    let _ = writeln!(out, "  registration  {}", door(&settings.config.registration));
    for (n, plan) in settings.plans.iter().enumerate() {
        let _ = writeln!(out, "  policy {}  {}  {}", n + 1, scope(plan), way(plan));
    }
    if let Some(url) = explain {
        out.push('\n');
        out.push_str(&explained(&settings.config, &settings.plans, url));
    }
    Ok(out)
}

/// Verifies a client's settings and all that they name; says what they amount to.
///
/// # Errors
/// All that is wrong, at once.
pub(super) async fn client(
    settings: ClientSettings,
    mut mistakes: Mistakes,
    reporter: &Reporter,
) -> Result<String, SettingsError> {
    let cache = if settings.wanted.is_empty() { None } else { cache::folder(settings.plugin_cache.clone()) };
    let pack = Loader::new(cache, reporter.clone()).load(&settings.wanted, &mut mistakes).await;
    mistakes.refuse()?;
    let mut out = warnings(&mut mistakes);
    let file =
        settings.file.as_ref().map_or("the command line".to_owned(), |file| file.display().to_string());
    let _ = writeln!(out, "{file} is good: {}", many(pack.len(), "plugin"));
    for line in settings.observe.describe() {
        let _ = writeln!(out, "  {line}");
    }
    for published in &settings.published {
        let plugins =
            if published.plugins.is_empty() { "no plugin".to_owned() } else { published.plugins.join(", ") };
        let name = published.name.as_deref().map(|name| format!("{name}  ")).unwrap_or_default();
        let _ = writeln!(out, "  {name}{plugins}, then {}", published.target());
    }
    Ok(out)
}

/// Who may come in.
fn door(rules: &Registration) -> String {
    let listed =
        format!("{}, {}", many(rules.keys.len(), "key"), many(rules.invitations.len(), "invitation"));
    let revoked =
        if rules.revoked.is_empty() { String::new() } else { format!(", {} revoked", rules.revoked.len()) };
    let others = if rules.open { "every other key" } else { "nobody else" };
    format!("{listed} and {others}{revoked}")
}

fn warnings(mistakes: &mut Mistakes) -> String {
    mistakes.warnings.drain(..).map(|warning| format!("warning: {warning}\n")).collect()
}

fn many(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn policies(n: usize) -> String {
    if n == 1 { "1 policy".to_owned() } else { format!("{n} policies") }
}

fn scope(plan: &Plan) -> String {
    let path = plan.path.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{}{path} ({})", plan.domain, plan.position)
}

/// What an exchange under a policy passes.
fn way(plan: &Plan) -> String {
    let last =
        plan.serve.as_ref().map_or("the tunnel".to_owned(), |serve| format!("the application {serve}"));
    let steps: Vec<&str> = plan.plugins.iter().map(String::as_str).chain([last.as_str()]).collect();
    steps.join(" -> ")
}

fn explained(config: &Config, plans: &[Plan], url: &Uri) -> String {
    let mut out = format!("{url}\n");
    let domain = &config.domain;
    let (tunnel, path) = match policy::destination(config, url) {
        Destination::Tunnel(name, path) => (name, path),
        Destination::NoName(path) => {
            let _ = writeln!(
                out,
                "  its first label is no tunnel's name; this is what any other tunnel would meet"
            );
            (stand_in(), path)
        }
        Destination::Own => return out + "  the proxy answers by itself: no policy holds for that\n",
        Destination::Elsewhere => {
            let _ = writeln!(out, "  404: this proxy doesn't serve the host; its tunnels are under {domain}");
            return out;
        }
    };
    let patterns = plans.iter().map(|plan| (&plan.domain, plan.path.as_ref()));
    let chosen = match policy::choose(patterns, &tunnel, domain, path.path()) {
        Ok(chosen) => chosen,
        Err(ambiguous) => {
            let _ = writeln!(out, "  400: {ambiguous}");
            return out;
        }
    };
    for (n, plan) in plans.iter().enumerate().take(chosen.unwrap_or(plans.len())) {
        let why = match (plan.domain.holds(&tunnel, domain), &plan.path) {
            (true, Some(pattern)) => format!("its path is {pattern}"),
            _ => format!("its domain is {}", plan.domain),
        };
        let _ = writeln!(out, "  not policy {} ({}): {why}", n + 1, plan.position);
    }
    let plan = chosen.map(|n| (n, &plans[n]));
    match plan {
        Some((n, plan)) => {
            let _ = writeln!(out, "  policy {} ({}): {}", n + 1, plan.position, way(plan));
        }
        None => out.push_str("  no policy: straight to the tunnel\n"),
    }
    let own = plan.map(|(_, plan)| plan.limits).unwrap_or_default();
    let from = |own: bool| if own { "this policy's" } else { "the proxy's" };
    let limits = &config.limits;
    let body = own
        .max_body
        .unwrap_or(limits.max_body)
        .map_or("unlimited".to_owned(), |n| ByteSize(n).display().si().to_string());
    let _ = writeln!(out, "    max_body  {body} ({})", from(own.max_body.is_some()));
    let _ = writeln!(
        out,
        "    rate      {} ({})",
        rate(own.rate.unwrap_or(limits.rate)),
        from(own.rate.is_some())
    );
    let timeout = own.answer_timeout.unwrap_or(config.answer_timeout);
    let _ = writeln!(out, "    timeout   {timeout:?} ({})", from(own.answer_timeout.is_some()));
    out
}

fn rate(rate: Option<Rate>) -> String {
    rate.map_or("off".to_owned(), |rate| format!("{} {}, burst {}", rate.tokens, rate.period(), rate.burst))
}

/// A name that nobody has: its key would have to have a digest of zeros.
fn stand_in() -> TunnelName {
    "a".repeat(52).parse().expect("52 letters of base32")
}

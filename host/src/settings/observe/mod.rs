//! What an operator sees: the access log, traces, metrics, and who may ask the admin listener.
//!
//! Owns the settings of all of these, from the tables of a file to what the roles take, and the files and processes that they
//! end in. [`ProxyPlan`] and [`ClientPlan`] are checked values; nothing is opened before [`ProxyPlan::begin`].

mod access;
mod admin;
mod process;
mod traces;
mod writer;

pub use access::AccessLogTable;
pub use admin::{AdminArgs, DoorList};
pub use traces::TracesTable;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use prometheus_client::registry::Registry;

use self::{access::AccessPlan, traces::TracesPlan, writer::Writer};
use super::{
    SettingsError,
    document::{Lines, Mistakes},
    plugins::Sources,
    report::Reporter,
    secret::SecretSource,
};
use crate::{
    operator::{Open, Token},
    plugin,
    proxy::{
        Config,
        observe::{Observe, Traces, Trust},
    },
    trace::Tracing,
};

/// Tunnels that may have series of their own; some kilobytes each, here and at whoever collects them.
const MOST_TUNNELS: usize = 10_000;

/// What the proxy's file says of this.
#[derive(Debug, Default)]
pub struct InFile<'a> {
    /// `[access_log]`.
    pub access_log: Option<&'a AccessLogTable>,
    /// `[traces]`.
    pub traces: Option<&'a TracesTable>,
    /// `metrics_per_tunnel`.
    pub metrics_per_tunnel: Option<usize>,
    /// `admin_token`.
    pub admin_token: Option<&'a SecretSource>,
    /// `admin_open`.
    pub admin_open: Option<DoorList>,
}

/// What a proxy shows, checked.
pub struct ProxyPlan {
    admin: Option<SocketAddr>,
    access: Option<AccessPlan>,
    traces: Option<TracesPlan>,
    metrics_per_tunnel: usize,
    pub(super) admin_token: Option<Token>,
    admin_open: Open,
}

impl ProxyPlan {
    /// Checks what is written; `admin` is where the admin listener will be.
    pub fn new(
        file: &InFile<'_>,
        args: &AdminArgs,
        admin: Option<SocketAddr>,
        lines: &Lines,
        sources: &mut Sources,
        mistakes: &mut Mistakes,
    ) -> Self {
        let access = file.access_log.and_then(|table| mistakes.take(access::plan(table, lines)));
        let written = traces::proxy(file.traces, lines);
        let traces = mistakes.take(written).flatten();
        let metrics_per_tunnel = file.metrics_per_tunnel.unwrap_or(0);
        if metrics_per_tunnel > MOST_TUNNELS {
            let problem = format!("it can be {MOST_TUNNELS} at most: each tunnel is several series for ever");
            mistakes.push(lines.wrong("metrics_per_tunnel", problem));
        }
        let (admin_token, admin_open) = admin::gate(file, args, admin, lines, sources, mistakes);
        Self { admin, access, traces, metrics_per_tunnel, admin_token, admin_open }
    }

    /// One line for each thing that is on, for `--check`.
    pub fn describe(&self) -> Vec<String> {
        let admin = self.admin.map(|admin| self.describe_admin(admin));
        let access = self.access.as_ref().map(AccessPlan::describe);
        let traces = self.traces.as_ref().map(TracesPlan::describe);
        admin.into_iter().chain(access).chain(traces).collect()
    }

    fn describe_admin(&self, admin: SocketAddr) -> String {
        let Open { health, metrics, api } = self.admin_open;
        let doors = [("health", health), ("metrics", metrics), ("the API", api)];
        let open: Vec<&str> = doors.into_iter().filter(|(_, open)| *open).map(|(door, _)| door).collect();
        let open = if open.is_empty() { "nothing".to_owned() } else { open.join(", ") };
        let rest = if self.admin_token.is_some() { "the rest with a token" } else { "nothing else" };
        let rest = if health && metrics && api { String::new() } else { format!(", {rest}") };
        format!("admin  {admin}, open to all who reach it: {open}{rest}")
    }

    /// Opens what has to be opened, and puts all of it into the Config. On the runtime.
    ///
    /// # Errors
    /// A file can't be written, or traces can't be exported.
    pub fn begin(
        &self,
        config: &mut Config,
        plugins: Arc<OnceLock<plugin::Host>>,
        reporter: &Reporter,
    ) -> Result<Running, SettingsError> {
        let tracing = self.traces.as_ref().map(TracesPlan::begin).transpose()?;
        let (access_log, writer) = match &self.access {
            None => (None, None),
            Some(plan) => plan.begin(reporter)?,
        };
        let counts = writer.as_ref().map(Writer::counts);
        let measured = move |registry: &mut Registry| {
            process::register(registry);
            if let Some(counts) = &counts {
                counts.register(registry);
            }
        };
        let trust = self.traces.as_ref().map(|plan| plan.trust).unwrap_or_default();
        config.observe = Observe {
            access_log,
            traces: tracing.as_ref().map(|tracing| Traces { tracer: tracing.tracer(), trust }),
            metrics_per_tunnel: self.metrics_per_tunnel,
            measured: Some(Arc::new(measured)),
            admin_token: self.admin_token.clone(),
            admin_open: self.admin_open,
            plugins,
        };
        Ok(Running { tracing, writer })
    }
}

/// What a client shows, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClientPlan {
    traces: Option<TracesPlan>,
    /// Where metrics are asked for.
    pub metrics: Option<SocketAddr>,
}

impl ClientPlan {
    /// Checks what is written.
    pub fn new(
        table: Option<&TracesTable>,
        metrics: Option<SocketAddr>,
        lines: &Lines,
        mistakes: &mut Mistakes,
    ) -> Self {
        let traces = mistakes.take(traces::client(table, lines)).flatten();
        Self { traces, metrics }
    }

    /// Begins to export traces, if that is wanted. On the runtime.
    ///
    /// # Errors
    /// They can't be exported.
    pub fn begin(&self) -> Result<Option<Tracing>, SettingsError> {
        self.traces.as_ref().map(TracesPlan::begin).transpose()
    }

    /// One line for each thing that is on, for `--check`.
    pub fn describe(&self) -> Vec<String> {
        self.traces.as_ref().map(TracesPlan::describe).into_iter().collect()
    }
}

/// What a client's process shows of itself.
pub(super) fn process(registry: &mut Registry) {
    process::register(registry);
}

/// What is open, until the role has ended.
pub struct Running {
    tracing: Option<Tracing>,
    writer: Option<Writer>,
}

impl Running {
    /// Writes and sends what is left.
    pub async fn finish(self) {
        if let Some(writer) = self.writer {
            writer.finish().await;
        }
        if let Some(tracing) = self.tracing {
            tracing.finish().await;
        }
    }
}

#[cfg(test)]
mod tests;

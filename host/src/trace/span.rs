//! Spans, and what they say: the semantic conventions for HTTP of OpenTelemetry, and a few words of our own below `tunnel.`.

use std::{borrow::Cow, time::SystemTime};

use http::{Method, StatusCode, Version};
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, Tracer as _,
        TracerProvider as _,
    },
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span as SdkSpan};

use super::parent;
use crate::exchange::{Asked, Request};

/// Makes spans; cheap to clone.
#[derive(Clone)]
pub struct Tracer {
    sdk: SdkTracer,
    /// Of traces that begin here, and of those that somebody began whose word isn't taken: the share that is recorded.
    ratio: f64,
}

/// What is taken from whoever sent a request. The id of his trace is, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// His word on whether the trace is recorded, too.
    Believed,
    /// Only the id: we decide anew, and not by the id, which he chose.
    Continued,
}

/// Where an exchange goes on to.
#[derive(Debug, Clone)]
pub struct Hop {
    /// The span's name, after the method: `GET tunnel`.
    pub name: &'static str,
    /// Host and port, where it isn't the request's own.
    pub server: Option<(String, Option<u16>)>,
}

/// One span, until it ends or is dropped.
pub struct Span {
    sdk: SdkSpan,
    tracer: SdkTracer,
    kind: SpanKind,
}

impl Tracer {
    pub(super) fn new(provider: &SdkTracerProvider, ratio: f64) -> Self {
        Self { sdk: provider.tracer("tunnel"), ratio }
    }

    /// The span of a request that came in, by this version of HTTP unless it came by a session; what follows has it for its
    /// parent.
    pub fn serve(&self, request: &mut Request, version: Option<Version>, taken: Taken) -> Span {
        let parent = parent::read(&request.head.headers).map(|parent| match taken {
            Taken::Believed => parent,
            Taken::Continued => self.decide_anew(&parent),
        });
        let span = self.start(SpanKind::Server, method_name(&request.head.method), parent, request, |span| {
            if let Some(visitor) = &request.context.visitor {
                span.set_attribute(KeyValue::new("client.address", visitor.get().ip().to_string()));
            }
            span.set_attribute(KeyValue::new("url.path", request.head.target.path().to_owned()));
            span.set_attribute(KeyValue::new("url.scheme", request.head.scheme.as_str()));
            if let Some(version) = version {
                span.set_attribute(KeyValue::new("network.protocol.version", number(version)));
            }
            let (host, port) = split(&request.head.authority);
            span.set_attribute(KeyValue::new("server.address", host.to_owned()));
            if let Some(port) = port {
                span.set_attribute(KeyValue::new("server.port", i64::from(port)));
            }
            if let Some(agent) = request.head.headers.get(http::header::USER_AGENT) {
                let agent = String::from_utf8_lossy(agent.as_bytes()).into_owned();
                span.set_attribute(KeyValue::new("user_agent.original", agent));
            }
        });
        parent::write(&mut request.head.headers, span.sdk.span_context());
        span
    }

    /// The span of a request that goes on; the next program has it for its parent.
    pub fn call(&self, request: &mut Request, hop: &Hop) -> Span {
        let parent = parent::read(&request.head.headers);
        let name = format!("{} {}", method_name(&request.head.method), hop.name);
        let span = self.start(SpanKind::Client, name.into(), parent, request, |span| {
            let (host, port) = match &hop.server {
                Some((host, port)) => (host.as_str(), *port),
                None => split(&request.head.authority),
            };
            span.set_attribute(KeyValue::new("server.address", host.to_owned()));
            if let Some(port) = port {
                span.set_attribute(KeyValue::new("server.port", i64::from(port)));
            }
            // Without its query: what visitors put there is theirs.
            let (scheme, path) = (request.head.scheme.as_str(), request.head.target.path());
            span.set_attribute(KeyValue::new(
                "url.full",
                format!("{scheme}://{}{path}", request.head.authority),
            ));
        });
        parent::write(&mut request.head.headers, span.sdk.span_context());
        span
    }

    fn start(
        &self,
        kind: SpanKind,
        name: Cow<'static, str>,
        parent: Option<SpanContext>,
        request: &Request,
        describe: impl FnOnce(&mut SdkSpan),
    ) -> Span {
        let parent = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let builder = self.sdk.span_builder(name).with_kind(kind.clone());
        let mut sdk = builder.start_with_context(&self.sdk, &parent);
        if sdk.is_recording() {
            let method = known(&request.head.method);
            sdk.set_attribute(KeyValue::new("http.request.method", method.unwrap_or("_OTHER")));
            if method.is_none() {
                let original = request.head.method.as_str().to_owned();
                sdk.set_attribute(KeyValue::new("http.request.method_original", original));
            }
            sdk.set_attribute(KeyValue::new("tunnel.name", request.context.tunnel.to_string()));
            sdk.set_attribute(KeyValue::new("tunnel.exchange", request.context.exchange.to_string()));
            describe(&mut sdk);
        }
        Span { sdk, tracer: self.sdk.clone(), kind }
    }

    /// By chance, not by the trace's id, as samplers do: whoever chooses the id would choose that everything is recorded.
    fn decide_anew(&self, parent: &SpanContext) -> SpanContext {
        let recorded = rand::random::<f64>() < self.ratio;
        let flags = if recorded { TraceFlags::SAMPLED } else { TraceFlags::default() };
        SpanContext::new(parent.trace_id(), parent.span_id(), flags, true, parent.trace_state().clone())
    }
}

impl Span {
    /// A plugin was asked, and has answered just now: a span of its own below this one.
    pub fn asked(&self, asked: &Asked<'_>) {
        if !self.sdk.is_recording() {
            return;
        }
        let now = SystemTime::now();
        let began = now.checked_sub(asked.time).unwrap_or(now);
        let parent = Context::new().with_remote_span_context(self.sdk.span_context().clone());
        let builder = self.tracer.span_builder(format!("plugin {} {}", asked.plugin, asked.hook));
        let mut span = builder
            .with_kind(SpanKind::Internal)
            .with_start_time(began)
            .start_with_context(&self.tracer, &parent);
        span.set_attribute(KeyValue::new("tunnel.plugin", asked.plugin.to_owned()));
        span.set_attribute(KeyValue::new("tunnel.plugin.hook", asked.hook));
        span.set_attribute(KeyValue::new("tunnel.plugin.verdict", asked.verdict));
        if !matches!(asked.verdict, "forward" | "respond" | "abort" | "done") {
            span.set_status(Status::error(asked.verdict));
        }
        span.end_with_timestamp(now);
    }

    /// The answer's head is there.
    pub fn answered(&mut self, status: StatusCode) {
        if self.sdk.is_recording() {
            let code = status.as_u16();
            self.sdk.set_attribute(KeyValue::new("http.response.status_code", i64::from(code)));
            // What a visitor did wrong is no error of whoever serves him.
            let least = if self.kind == SpanKind::Server { 500 } else { 400 };
            if code >= least {
                self.failed(code.to_string());
            }
        }
    }

    /// There is no answer, or it broke off.
    pub fn failed(&mut self, code: impl Into<Cow<'static, str>>) {
        if self.sdk.is_recording() {
            let code = code.into();
            self.sdk.set_status(Status::error(code.clone()));
            self.sdk.set_attribute(KeyValue::new("error.type", code));
        }
    }

    /// It is over, with all that is known of it.
    pub fn end(mut self, status: Option<StatusCode>, error: Option<&'static str>, session: Option<u64>) {
        if let Some(status) = status {
            self.answered(status);
        }
        if let Some(error) = error {
            self.failed(error);
        }
        if let Some(session) = session {
            self.sdk
                .set_attribute(KeyValue::new("tunnel.session", i64::try_from(session).unwrap_or(i64::MAX)));
        }
        self.sdk.end();
    }
}

/// The methods that are known to the conventions; anybody may send others, which would each be a name of their own.
fn known(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 10] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];
    KNOWN.into_iter().find(|known| *known == method.as_str())
}

fn method_name(method: &Method) -> Cow<'static, str> {
    known(method).unwrap_or("HTTP").into()
}

fn number(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

fn split(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, port.parse().ok())
        }
        _ => (authority, None),
    }
}

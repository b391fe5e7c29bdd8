//! Where spans go: a collector that speaks OTLP over gRPC.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    SpanExporter, WithExportConfig, WithTonicConfig, tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};

use super::Tracer;

/// How long the last spans may take at the end.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// How long one batch may take.
const BATCH: Duration = Duration::from_secs(10);

/// Settings of the export.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// The collector, `http://host:4317` or `https://…`.
    pub endpoint: String,
    /// The share of traces that is recorded, of those that begin here: 0 to 1.
    pub ratio: f64,
    /// What this program is called there.
    pub service: String,
    /// What tells this run from others, if something does.
    pub instance: Option<String>,
}

/// The export can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("traces can't be exported to {endpoint}: {reason}")]
pub struct ExportError {
    endpoint: String,
    reason: String,
}

/// The export at work: a thread of its own sends spans in batches. What a collector that is slow or away can't take is dropped,
/// and nobody waits for it.
pub struct Tracing {
    provider: SdkTracerProvider,
    ratio: f64,
}

impl Tracing {
    /// Begins to export. Has to be called on the runtime; nothing is connected yet.
    ///
    /// # Errors
    /// The endpoint is no URL, or TLS can't be set up.
    pub fn start(export: &Export) -> Result<Self, ExportError> {
        let failed = |reason: String| ExportError { endpoint: export.endpoint.clone(), reason };
        let mut exporter =
            SpanExporter::builder().with_tonic().with_endpoint(export.endpoint.clone()).with_timeout(BATCH);
        if export.endpoint.starts_with("https://") {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let exporter = exporter.build().map_err(|error| failed(error.to_string()))?;
        let mut resource = Resource::builder()
            .with_service_name(export.service.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if let Some(instance) = &export.instance {
            resource = resource.with_attribute(KeyValue::new("service.instance.id", instance.clone()));
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(export.ratio))))
            .with_resource(resource.build())
            .build();
        Ok(Self { provider, ratio: export.ratio })
    }

    /// Makes spans that go there.
    pub fn tracer(&self) -> Tracer {
        Tracer::new(&self.provider, self.ratio)
    }

    /// Sends what is left, if that doesn't take long.
    pub async fn finish(self) {
        let finishing = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(LAST_SPANS));
        if let Ok(Err(error)) = finishing.await {
            tracing::debug!(%error, "the last spans weren't sent");
        }
    }
}

//! A collector of traces that speaks OTLP over gRPC, and what it has got.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tonic::transport::{Server, server::TcpIncoming};

use super::within;

/// One span, as far as tests look at it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// What the program that made it is called.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty if it has none.
    pub(crate) parent: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) failed: bool,
}

/// A running collector.
pub(crate) struct Collector {
    address: SocketAddr,
    spans: Arc<watch::Sender<Vec<Span>>>,
    _task: JoinSet<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let spans = Arc::new(watch::Sender::new(Vec::new()));
        let service = TraceServiceServer::new(Sink(Arc::clone(&spans)));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let serving =
                Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
            serving.await.expect("it serves");
        });
        Self { address, spans, _task: task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans, once there are so many.
    pub(crate) async fn at_least(&self, count: usize) -> Vec<Span> {
        let mut spans = self.spans.subscribe();
        let waiting = spans.wait_for(|spans| spans.len() >= count);
        within("spans to be exported", waiting).await.expect("it serves").clone()
    }

    /// What has come so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.borrow().clone()
    }
}

struct Sink(Arc<watch::Sender<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let mut new = Vec::new();
        for resource in request.into_inner().resource_spans {
            let attributes = attributes(resource.resource.map(|it| it.attributes).unwrap_or_default());
            let service = attributes.get("service.name").cloned().unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                new.push(Span {
                    service: service.clone(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    attributes: self::attributes(span.attributes),
                    failed: span.status.is_some_and(|status| status.code == 2),
                });
            }
        }
        self.0.send_modify(|spans| spans.extend(new));
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attributes(pairs: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = pairs.into_iter().filter_map(|pair| Some((pair.key, text(pair.value?.value?))));
    pairs.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

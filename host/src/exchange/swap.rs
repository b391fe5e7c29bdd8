//! A stage that can be replaced while exchanges pass through it.
//!
//! Owns which stage is in force. Must not know what it does, or why another takes its place.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Forward, ForwardFuture, Request};

/// Leads each exchange to the stage in force when it arrives; an exchange ends on the stage it began with.
pub struct Swap(ArcSwap<Arc<dyn Forward>>);

impl Swap {
    /// Begins with this stage.
    pub fn new(stage: Arc<dyn Forward>) -> Self {
        Self(ArcSwap::from_pointee(stage))
    }

    /// Puts another stage in force. Exchanges under way keep the old one alive until their answers' heads are there;
    /// bodies and WebSockets keep what they need of it themselves.
    pub fn replace(&self, stage: Arc<dyn Forward>) {
        self.0.store(Arc::new(stage));
    }
}

impl Forward for Swap {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        let stage = self.0.load_full();
        Box::pin(async move { stage.forward(request).await })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use http::{HeaderMap, HeaderValue, Method, StatusCode, uri::PathAndQuery};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::exchange::{
        Answer, Body, Context, ExchangeId, ForwardError, RequestHead, RequestKind, Response, Scheme,
    };

    /// Answers with its number once it may, and counts how many of its kind are left when it goes.
    struct Stage {
        number: u16,
        may: Arc<Semaphore>,
        gone: Arc<AtomicUsize>,
    }

    impl Forward for Stage {
        fn forward(&self, _: Request) -> ForwardFuture<'_> {
            Box::pin(async {
                let _permit = self.may.acquire().await.expect("never closed");
                let headers = HeaderMap::from_iter([(http::header::AGE, HeaderValue::from(self.number))]);
                Ok(Answer::Http(Response { status: StatusCode::OK, headers, body: Body::empty() }))
            })
        }
    }

    impl Drop for Stage {
        fn drop(&mut self) {
            self.gone.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn request() -> Request {
        Request {
            head: RequestHead {
                kind: RequestKind::Http,
                method: Method::GET,
                scheme: Scheme::Http,
                authority: String::new(),
                target: PathAndQuery::from_static("/"),
                headers: HeaderMap::new(),
            },
            body: Body::empty(),
            context: Context {
                exchange: ExchangeId(0),
                tunnel: "a".repeat(52).parse().unwrap(),
                visitor: None,
                tls: None,
                notes: Default::default(),
                interim: None,
                witness: None,
            },
        }
    }

    fn number(answer: Result<Answer, ForwardError>) -> HeaderValue {
        match answer.unwrap() {
            Answer::Http(response) => response.headers[http::header::AGE].clone(),
            Answer::WebSocket(_) => unreachable!("nobody asked for one"),
        }
    }

    #[tokio::test]
    async fn an_exchange_ends_on_the_stage_it_began_with() {
        let (may, gone) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let stage = |number| Arc::new(Stage { number, may: may.clone(), gone: gone.clone() });
        let swap = Swap::new(stage(1));
        // Not even begun to be polled: what counts is when the exchange came.
        let unpolled = swap.forward(request());
        let mut waiting = swap.forward(request());
        assert!((&mut waiting).now_or_never().is_none());
        swap.replace(stage(2));
        assert_eq!(gone.load(Ordering::SeqCst), 0, "the first one is still needed");
        may.add_permits(3);
        assert_eq!(number(swap.forward(request()).await), "2");
        assert_eq!(number(waiting.await), "1");
        assert_eq!(number(unpolled.await), "1");
        assert_eq!(gone.load(Ordering::SeqCst), 1, "nobody needs the first one any more");
    }
}

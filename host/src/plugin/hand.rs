//! The exchange in hand: what a guest reads through its handles while one of its hooks runs.

use http::{HeaderMap, StatusCode};
use wasmtime::component::Resource;

use super::{
    bindings::tunnel::plugin::{exchange as wit, types},
    config::Role,
    state::State,
};
use crate::exchange::{Context, RequestHead, RequestKind};

/// A request's head and, on the way back, its response's; owned by the store while a hook runs.
pub(super) struct Hand {
    pub(super) head: RequestHead,
    pub(super) context: Context,
    pub(super) response: Option<ResponseHead>,
    /// Notes that the hook left; they hold once it has returned well.
    pub(super) noted: Vec<(String, String)>,
}

/// The head of a response on its way back.
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

impl Hand {
    pub(super) fn new(head: RequestHead, context: Context) -> Self {
        Self { head, context, response: None, noted: Vec::new() }
    }

    /// The hook returned well: what it noted holds.
    pub(super) fn keep_notes(&mut self) {
        for (name, value) in self.noted.drain(..) {
            // Checked when it was noted.
            let _ = self.context.notes.set(name, value);
        }
    }
}

/// What a guest holds for the request in hand. There is one at a time, so that the handle itself says nothing.
#[allow(unreachable_pub, reason = "the bindings, a private module, give it on under another name")]
pub struct RequestHandle;

/// What a guest holds for the response in hand.
#[allow(unreachable_pub, reason = "the bindings, a private module, give it on under another name")]
pub struct ResponseHandle;

type Request = Resource<RequestHandle>;
type Response = Resource<ResponseHandle>;
type Reply<T> = wasmtime::Result<T>;

fn values(headers: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
}

fn all(headers: &HeaderMap) -> Vec<types::Header> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

impl wit::Host for State {}

impl types::Host for State {}

impl wit::HostRequest for State {
    fn id(&mut self, _: Request) -> Reply<String> {
        Ok(self.hand()?.context.exchange.to_string())
    }

    fn tunnel(&mut self, _: Request) -> Reply<String> {
        Ok(self.hand()?.context.tunnel.to_string())
    }

    fn role(&mut self, _: Request) -> Reply<types::Role> {
        Ok(match self.role {
            Role::Proxy => types::Role::Proxy,
            Role::Client => types::Role::Client,
        })
    }

    fn visitor_address(&mut self, _: Request) -> Reply<Option<String>> {
        Ok(self.hand()?.context.visitor.as_ref().map(|visitor| visitor.get().ip().to_string()))
    }

    fn visitor_tls(&mut self, _: Request) -> Reply<Option<types::TlsInfo>> {
        let tls = self.hand()?.context.tls.as_deref();
        Ok(tls.map(|tls| types::TlsInfo {
            version: tls.version.clone(),
            cipher: tls.cipher.clone(),
            server_name: tls.server_name.clone(),
            alpn: tls.alpn.clone(),
            client: tls.client.as_ref().map(|client| types::ClientCertificate {
                subject: client.subject.clone(),
                sha256: client.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            }),
        }))
    }

    fn method(&mut self, _: Request) -> Reply<String> {
        Ok(self.hand()?.head.method.as_str().to_owned())
    }

    fn scheme(&mut self, _: Request) -> Reply<String> {
        Ok(self.hand()?.head.scheme.as_str().to_owned())
    }

    fn authority(&mut self, _: Request) -> Reply<String> {
        Ok(self.hand()?.head.authority.clone())
    }

    fn path(&mut self, _: Request) -> Reply<String> {
        Ok(self.hand()?.head.target.as_str().to_owned())
    }

    fn is_websocket(&mut self, _: Request) -> Reply<bool> {
        Ok(self.hand()?.head.kind == RequestKind::WebSocket)
    }

    fn header(&mut self, _: Request, name: String) -> Reply<Vec<Vec<u8>>> {
        Ok(values(&self.hand()?.head.headers, &name))
    }

    fn headers(&mut self, _: Request) -> Reply<Vec<types::Header>> {
        Ok(all(&self.hand()?.head.headers))
    }

    fn note(&mut self, _: Request, name: String) -> Reply<Option<String>> {
        let hand = self.hand()?;
        let noted =
            hand.noted.iter().rev().find(|(noted, _)| *noted == name).map(|(_, value)| value.as_str());
        Ok(noted.or_else(|| hand.context.notes.get(&name)).map(str::to_owned))
    }

    fn set_note(&mut self, _: Request, name: String, value: String) -> Reply<Result<(), String>> {
        let hand = self.hand_mut()?;
        // Tried on a copy with the others of this hook, so that together they keep the bounds.
        let mut notes = hand.context.notes.clone();
        for (name, value) in &hand.noted {
            let _ = notes.set(name.clone(), value.clone());
        }
        Ok(match notes.set(name.clone(), value.clone()) {
            Ok(()) => {
                hand.noted.retain(|(noted, _)| *noted != name);
                hand.noted.push((name, value));
                Ok(())
            }
            Err(full) => Err(full.to_string()),
        })
    }

    fn drop(&mut self, _: Request) -> Reply<()> {
        Ok(())
    }
}

impl wit::HostResponse for State {
    fn request(&mut self, _: Response) -> Reply<Request> {
        Ok(Resource::new_own(0))
    }

    fn status(&mut self, _: Response) -> Reply<u16> {
        Ok(self.response()?.status.as_u16())
    }

    fn header(&mut self, _: Response, name: String) -> Reply<Vec<Vec<u8>>> {
        Ok(values(&self.response()?.headers, &name))
    }

    fn headers(&mut self, _: Response) -> Reply<Vec<types::Header>> {
        Ok(all(&self.response()?.headers))
    }

    fn drop(&mut self, _: Response) -> Reply<()> {
        Ok(())
    }
}

//! What a hook can read: the request and the response in hand.
//!
//! Owns the reading side in the types of the crate `http`. Every method is a call to the host: what isn't read costs
//! nothing.

use std::net::IpAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::{Fault, Result, bindings::plugin::types, host::exchange};

pub use crate::bindings::plugin::types::{ClientCertificate, TlsInfo};

/// Which program the plugin runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The public program that visitors reach.
    Proxy,
    /// The program beside the origin.
    Client,
}

/// A request, as earlier plugins left it.
pub struct Request<'a>(Handle<'a, exchange::Request>);

/// A response, as earlier plugins on its way left it.
pub struct Response<'a>(Handle<'a, exchange::Response>);

/// The host lends a handle for one call, and gives away the request of a response.
enum Handle<'a, T> {
    Lent(&'a T),
    Owned(T),
}

impl<T> std::ops::Deref for Handle<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Lent(handle) => handle,
            Self::Owned(handle) => handle,
        }
    }
}

/// Headers are read in the same way from both.
macro_rules! headers {
    () => {
        /// The first value of a header.
        #[must_use]
        pub fn header(&self, name: impl AsRef<str>) -> Option<HeaderValue> {
            HeaderValue::try_from(self.0.header(name.as_ref()).into_iter().next()?).ok()
        }

        /// The first value of a header, if it is text.
        #[must_use]
        pub fn header_text(&self, name: impl AsRef<str>) -> Option<String> {
            String::from_utf8(self.0.header(name.as_ref()).into_iter().next()?).ok()
        }

        /// All values of a header, in order.
        #[must_use]
        pub fn header_values(&self, name: impl AsRef<str>) -> Vec<HeaderValue> {
            self.0.header(name.as_ref()).into_iter().filter_map(|value| value.try_into().ok()).collect()
        }

        /// All headers.
        #[must_use]
        pub fn headers(&self) -> HeaderMap {
            let pairs = self.0.headers().into_iter();
            pairs
                .filter_map(|(name, value)| {
                    Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
                })
                .collect()
        }

        /// The media type of the body in lower case, without parameters: `text/html`.
        #[must_use]
        pub fn media_type(&self) -> Option<String> {
            let value = self.header_text("content-type")?;
            Some(value.split(';').next()?.trim().to_ascii_lowercase())
        }
    };
}

impl<'a> Request<'a> {
    pub(crate) fn lent(handle: &'a exchange::Request) -> Self {
        Self(Handle::Lent(handle))
    }

    /// Names the exchange in every log and error answer: 16 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// The name of the tunnel that the visitor asked for.
    #[must_use]
    pub fn tunnel(&self) -> String {
        self.0.tunnel()
    }

    /// Where this plugin runs.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.0.role() {
            types::Role::Proxy => Role::Proxy,
            types::Role::Client => Role::Client,
        }
    }

    /// The visitor's address as the proxy established it.
    #[must_use]
    pub fn visitor_address(&self) -> Option<IpAddr> {
        self.0.visitor_address()?.parse().ok()
    }

    /// What the proxy established of the visitor's TLS, a certificate of the visitor's own among it; nothing without TLS, and where
    /// it ends before the proxy.
    #[must_use]
    pub fn visitor_tls(&self) -> Option<TlsInfo> {
        self.0.visitor_tls()
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        // The host has parsed it: this can't fail, and a plugin has nothing to do about it if it does.
        self.0.method().parse().unwrap_or_default()
    }

    /// `http` or `https`: how the visitor came.
    #[must_use]
    pub fn scheme(&self) -> String {
        self.0.scheme()
    }

    /// The host, and port if any, that the visitor named.
    #[must_use]
    pub fn authority(&self) -> String {
        self.0.authority()
    }

    /// The path without its query, byte for byte as sent.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = self.0.path();
        path.truncate(path.find('?').unwrap_or(path.len()));
        path
    }

    /// What follows the path's `?`.
    #[must_use]
    pub fn query(&self) -> Option<String> {
        self.0.path().split_once('?').map(|(_, query)| query.to_owned())
    }

    /// Path and query, byte for byte as sent.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        self.0.path()
    }

    /// Whether this is an upgrade to WebSocket.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.0.is_websocket()
    }

    headers!();

    /// The token of `Authorization: Bearer`.
    #[must_use]
    pub fn bearer_token(&self) -> Option<String> {
        self.credentials("bearer")
    }

    /// User and password of `Authorization: Basic`.
    #[must_use]
    pub fn basic_credentials(&self) -> Option<(String, String)> {
        let decoded = BASE64_STANDARD.decode(self.credentials("basic")?).ok()?;
        let (user, password) = str::from_utf8(&decoded).ok()?.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    fn credentials(&self, scheme: &str) -> Option<String> {
        let value = self.header_text("authorization")?;
        let (given, credentials) = value.split_once(' ')?;
        given.eq_ignore_ascii_case(scheme).then(|| credentials.trim().to_owned())
    }

    /// A note that this or an earlier plugin left.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<String> {
        self.0.note(name)
    }

    /// Leaves a note for later plugins, here and at the client, or replaces one. Visitor and origin never see notes.
    ///
    /// # Errors
    /// One of the bounds is passed: 64 bytes a name, 4 KiB a value, 32 notes, 16 KiB in all.
    pub fn set_note(&self, name: &str, value: &str) -> Result<()> {
        self.0.set_note(name, value).map_err(|reason| Fault::new(format!("note {name}: {reason}")))
    }
}

impl<'a> Response<'a> {
    pub(crate) fn lent(handle: &'a exchange::Response) -> Self {
        Self(Handle::Lent(handle))
    }

    /// The request that it answers, as it was forwarded.
    #[must_use]
    pub fn request(&self) -> Request<'static> {
        Request(Handle::Owned(self.0.request()))
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        // The host has checked it.
        self.0.status().try_into().unwrap_or_default()
    }

    headers!();
}

//! Where a URL would lead, for whoever asks before anybody visits. Pure.

use http::{Uri, uri::PathAndQuery};

use crate::{
    proxy::{
        Config,
        route::{Names, Route, Target},
    },
    wire::TunnelName,
};

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To a tunnel, with this path.
    Tunnel(TunnelName, PathAndQuery),
    /// To where a tunnel would be, if its first label were a name.
    NoName(PathAndQuery),
    /// To the proxy itself.
    Own,
    /// Not to this proxy.
    Elsewhere,
}

/// Where a URL would lead at a proxy of this configuration.
pub fn destination(config: &Config, url: &Uri) -> Destination {
    let path = url.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let authority = url.authority().map(ToString::to_string).unwrap_or_default();
    match Names::new(config, config.listen).route(&Target { authority, path: path.clone() }) {
        Route::Tunnel { name, target } => Destination::Tunnel(name, target),
        Route::NotAName => Destination::NoName(path),
        Route::Own(_) => Destination::Own,
        Route::UnknownHost => Destination::Elsewhere,
    }
}

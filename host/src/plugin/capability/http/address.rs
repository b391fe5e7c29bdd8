//! Which addresses a name may lead to.
//!
//! Who runs the DNS of a granted name isn't who granted it. A name that resolves to this machine, or to the address at
//! which a cloud hands out credentials, would make the host send a guest's request there on the guest's behalf (SSRF, and
//! DNS rebinding when the answer changes between a check and its use). So names are resolved here, the addresses are held
//! against this list, and the connection goes to what was checked. Private ranges are allowed: companies keep what
//! plugins ask for, such as identity providers, there, and the operator has named it.
//!
//! A grant that names an address itself (`http://127.0.0.1:8080`) means it, and so does `localhost`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;

/// Addresses outside of the link-local range at which clouds tell machines their secrets: AWS and Google by IPv6, Alibaba,
/// Azure, Oracle.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Finds the addresses of a name.
pub(super) trait Resolve: Send + Sync + 'static {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// As every other program on this machine does.
pub(super) struct System;

impl Resolve for System {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Why there is no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAddress {
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Unknown(String),
}

/// A resolver whose answers are held against the list.
#[derive(Clone)]
pub(super) struct Guarded(Arc<dyn Resolve>);

impl Guarded {
    pub(super) fn new(resolver: impl Resolve) -> Self {
        Self(Arc::new(resolver))
    }
}

impl tower_service::Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NoAddress;
    type Future = BoxFuture<'static, Result<Self::Response, NoAddress>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoAddress>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let finding = self.0.resolve(name.as_str());
        Box::pin(async move {
            let name = name.as_str();
            let found =
                finding.await.map_err(|error| NoAddress::Unknown(format!("{name} isn't known: {error}")))?;
            permitted(name, &found).map(|addresses| {
                // The connector knows the port.
                let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
                addresses.collect::<Vec<_>>().into_iter()
            })
        })
    }
}

/// Those of a name's addresses that it may have.
fn permitted(name: &str, found: &[IpAddr]) -> Result<Vec<IpAddr>, NoAddress> {
    let localhost = name.eq_ignore_ascii_case("localhost");
    let may = |address: &IpAddr| match forbidden(*address) {
        None => true,
        Some(_) => localhost && address.to_canonical().is_loopback(),
    };
    let permitted: Vec<IpAddr> = found.iter().copied().filter(may).collect();
    if !permitted.is_empty() {
        return Ok(permitted);
    }
    Err(match found.iter().find_map(|address| Some((address, forbidden(*address)?))) {
        Some((address, what)) => NoAddress::Denied(format!(
            "{name} resolves to {address}, {what}: a plugin reaches that only if its grant names the address itself"
        )),
        None => NoAddress::Unknown(format!("{name} has no address")),
    })
}

/// What is wrong with an address, if a name must not lead to it.
fn forbidden(address: IpAddr) -> Option<&'static str> {
    if METADATA.contains(&address) {
        return Some("where a cloud keeps a machine's secrets");
    }
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6).or_else(|| forbidden(IpAddr::V4(inside(v6)?))),
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("a loopback address"),
        [169, 254, ..] => Some("a link-local address"),
        // RFC 1122 section 3.2.1.3: this host; Linux takes 0.0.0.0 for loopback.
        [0, ..] => Some("an unspecified address"),
        [224..=239, ..] => Some("a multicast address"),
        [255, 255, 255, 255] => Some("the broadcast address"),
        _ => None,
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_unspecified() {
        Some("an unspecified address")
    } else if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

/// The IPv4 address that a packet to this one may end up at: mapped and compatible (RFC 4291 section 2.5.5), through NAT64
/// (RFC 6052 section 2.1), or through 6to4 (RFC 3056).
fn inside(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0x2002, ..] => v4(b, c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_leads_to_no_address_that_is_this_machines_or_a_clouds_own() {
        let denied = "127.0.0.1 127.255.0.9 169.254.169.254 0.0.0.0 0.1.2.3 224.0.0.1 239.255.255.255 \
             255.255.255.255 100.100.100.200 168.63.129.16 192.0.0.192 ::1 :: fe80::1 febf::1 ff02::1 \
             ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::a9fe:a9fe 2002:7f00:1::1 \
             fd00:ec2::254 fd20:ce::254";
        for address in addresses(denied) {
            let found = permitted("idp.example.com", &[address]);
            assert!(matches!(found, Err(NoAddress::Denied(_))), "{address}: {found:?}");
        }
    }

    #[test]
    fn public_and_private_addresses_are_fine() {
        let fine = addresses(
            "93.184.216.34 10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 2001:db8::1 fd12::1 64:ff9b::5db8:d822",
        );
        assert_eq!(permitted("idp.example.com", &fine).unwrap(), fine);
    }

    #[test]
    fn of_mixed_answers_only_the_good_ones_are_tried() {
        let mixed = addresses("127.0.0.1 10.0.0.1 ::1");
        assert_eq!(permitted("idp.example.com", &mixed).unwrap(), addresses("10.0.0.1"));
    }

    #[test]
    fn localhost_is_loopback_and_nothing_else_that_is_forbidden() {
        assert_eq!(permitted("LocalHost", &addresses("127.0.0.1 ::1")).unwrap(), addresses("127.0.0.1 ::1"));
        for (name, address) in
            [("localhost", "169.254.169.254"), ("localhost.", "127.0.0.1"), ("a.localhost", "::1")]
        {
            assert!(matches!(permitted(name, &addresses(address)), Err(NoAddress::Denied(_))), "{name}");
        }
    }

    #[test]
    fn no_address_at_all_is_not_a_denial() {
        assert!(matches!(permitted("a.example", &[]), Err(NoAddress::Unknown(_))));
    }
}

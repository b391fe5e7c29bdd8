//! Who counts as one where addresses are counted. Pure.

use std::net::{IpAddr, Ipv6Addr};

/// Who shares one count: an address of IPv4, and of IPv6 a network of 64 bits, all of which a single house has.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

//! Only visitors from some networks come through. All others get 403.

use guest_sdk::prelude::*;
use ipnet::IpNet;
use serde::Deserialize;

/// What the operator writes under `config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Networks such as `10.0.0.0/8` and `2001:db8::/32`, or single addresses.
    allow: Vec<String>,
}

struct IpAllow {
    allow: Vec<IpNet>,
}

#[guest_sdk::plugin]
impl Plugin for IpAllow {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let allow = config.allow.iter().map(|text| network(text)).collect::<Result<_>>()?;
        Ok(Self { allow })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        // An address that isn't known is in no network.
        let address = request.visitor_address().map(|address| address.to_canonical());
        if address.is_some_and(|address| self.allow.iter().any(|network| network.contains(&address))) {
            return Forward::new().into();
        }
        let shown = address.map_or("an unknown address".to_owned(), |address| address.to_string());
        info!("refused {shown}");
        metrics::count("ip_refused", &[]);
        Respond::new(403).text(format!("Visitors from {shown} are not allowed here.\n")).into()
    }
}

fn network(text: &str) -> Result<IpNet> {
    let single = text.parse().map(|address: std::net::IpAddr| IpNet::from(address));
    single.or_else(|_| text.parse()).map_err(|_| {
        Fault::new(format!("allow: {text:?} is neither an address nor a network such as 192.0.2.0/24"))
    })
}

#[cfg(test)]
mod tests {
    use guest_sdk::testing::{Host, get};

    use super::*;

    const OFFICE: &str = "allow = ['203.0.113.0/24', '2001:db8::/32', '198.51.100.1']";

    #[test]
    fn members_come_through() {
        let plugin = Host::new().load::<IpAllow>(OFFICE);
        for address in ["203.0.113.200", "::ffff:203.0.113.1", "2001:db8:1::5", "198.51.100.1"] {
            let _ = plugin.request(get("/").from(address)).forwarded();
        }
    }

    #[test]
    fn others_are_refused_and_counted() {
        let host = Host::new();
        let plugin = host.load::<IpAllow>(OFFICE);
        for address in ["203.0.114.1", "2001:db9::1", "198.51.100.2"] {
            assert_eq!(plugin.request(get("/").from(address)).answered().status, 403, "{address}");
        }
        assert_eq!(plugin.request(get("/").from_nowhere()).answered().status, 403);
        assert_eq!(host.metric("ip_refused", &[]), 4.0);
        assert_eq!(host.lines()[0].message, "refused 203.0.114.1");
    }

    #[test]
    fn what_is_no_network_is_named() {
        let fault =
            Host::new().try_load::<IpAllow>("allow = ['10.0.0.0/33']").err().expect("there is no /33");
        assert!(fault.message().starts_with("allow: \"10.0.0.0/33\" is neither"), "{fault}");
    }
}

//! A client of the original's dialect: a program in another language, with a service of its own (tests/clients/v1.py).

use std::net::SocketAddr;

use serde_json::Value;

use super::{Door, Process, tunnel::Home};

/// Where `cargo xtask test` has put an interpreter with the packages that the client needs.
const WHERE: &str = "TUNNEL_TEST_PYTHON";

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/clients/v1.py");

/// A running client.
pub(crate) struct OldClient {
    pub(crate) process: Process,
    address: SocketAddr,
    /// Where its key is.
    _home: Home,
}

impl OldClient {
    /// A client with a key of its own that connects to the proxy at this address.
    pub(crate) fn start(address: SocketAddr, arguments: &[&str]) -> Self {
        let home = Home::new();
        let python = std::env::var(WHERE).unwrap_or_else(|_| {
            panic!(
                "{WHERE} is not set: run `cargo xtask test`, or set it to a python3 that has what \
                 tests/clients/requirements.txt names"
            )
        });
        let url = format!("http://{address}");
        let all = [PROGRAM, &url].into_iter().chain(arguments.iter().copied());
        let process = Process::run("client of the original's dialect", home.path(), &python, all, &[]);
        Self { process, address, _home: home }
    }

    /// Waits for its next registration, and gives where its visitors come in. The name is what the client itself has
    /// worked out.
    pub(crate) async fn registered(&mut self) -> Door {
        let event = self.process.event("registered").await;
        assert_eq!(event["name"], event["expected"], "the name of its key");
        Door { address: self.address, host: text(&event, "hostname") }
    }
}

fn text(event: &Value, member: &str) -> String {
    event[member].as_str().unwrap_or_else(|| panic!("no {member} in {event}")).to_owned()
}

//! Where visitors of one tunnel come in: an address, and the host that they ask for there.

use std::net::SocketAddr;

use super::{Reply, Tunnel, Wire};

/// One way to a tunnel. A cluster has several for each: its balancer's, and each node's.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// What visitors connect to.
    pub(crate) address: SocketAddr,
    /// What visitors put in `Host`.
    pub(crate) host: String,
}

impl From<&Tunnel> for Door {
    fn from(tunnel: &Tunnel) -> Self {
        Self { address: tunnel.proxy.address, host: tunnel.host().to_owned() }
    }
}

impl From<&Door> for Door {
    fn from(door: &Door) -> Self {
        door.clone()
    }
}

impl Door {
    /// A visitor's connection.
    pub(crate) async fn visit(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// The bytes of a request's head; `fields` are whole lines without their ends.
    pub(crate) fn head(&self, line: &str, fields: &[&str]) -> Vec<u8> {
        let mut head = format!("{line} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for field in fields {
            head.push_str(field);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// A visitor that has sent this head on a connection of its own.
    pub(crate) async fn ask(&self, line: &str, fields: &[&str]) -> Wire {
        let mut visitor = self.visit().await;
        visitor.send(self.head(line, fields)).await;
        visitor
    }

    /// The whole answer to one request.
    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.ask(&format!("GET {target}"), &[]).await.reply("GET").await
    }

    /// The whole answer to one request with a body.
    pub(crate) async fn post(&self, target: &str, body: &[u8]) -> Reply {
        let length = format!("Content-Length: {}", body.len());
        let mut visitor = self.ask(&format!("POST {target}"), &[&length]).await;
        visitor.send(body).await;
        visitor.reply("POST").await
    }
}

//! The real nginx, as a balancer in front of nodes.

use std::{collections::BTreeSet, net::SocketAddr};

use rustix::process::geteuid;

use super::{Process, Signal, path_text, program, tunnel::Home};

/// A running nginx; ends when dropped.
pub(crate) struct Nginx {
    address: SocketAddr,
    process: Process,
    home: Home,
}

impl Nginx {
    /// Runs it with this text inside of `http { … }`, which makes it listen on this address.
    pub(crate) async fn start(address: SocketAddr, http: &str) -> Self {
        let home = Home::new();
        write(&home, http);
        let file = home.file("nginx.conf");
        // Before it has read its settings it would write to the system's own log.
        let arguments = ["-p", path_text(home.path()), "-c", path_text(&file), "-e", "stderr"];
        let process = Process::run("nginx", home.path(), &program("nginx", "nginx-light"), arguments, &[]);
        // If it were killed, its worker would live on.
        let mut process = process.ended_by(Signal::TERM);
        // Its worker is there, and the address was taken before.
        process.words("start worker process ").await;
        Self { address, process, home }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes other settings over, without losing a connection.
    pub(crate) async fn reload(&mut self, http: &str) {
        write(&self.home, http);
        self.process.signal(Signal::HUP);
        // The worker that was there takes nothing new any more.
        self.process.words("gracefully shutting down").await;
    }

    /// Ends it, and waits for that.
    pub(crate) async fn stop(&mut self) {
        self.process.stop().await;
    }
}

/// What docs/nginx.conf says, for these nodes, and without TLS, which these tests leave out.
pub(crate) fn documented(listen: SocketAddr, nodes: &[SocketAddr]) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/nginx.conf");
    let text = std::fs::read_to_string(path).expect("docs/nginx.conf can be read");
    let mut nodes = nodes.iter();
    let mut found = BTreeSet::new();
    let mut lines = String::new();
    for line in text.lines() {
        let (word, rest) = line.trim().split_once(' ').unwrap_or_default();
        let line = match word {
            "server" if rest != "{" => {
                let (_, settings) = rest.split_once(' ').expect("a node has settings after its address");
                nodes.next().map_or_else(String::new, |node| format!("server {node} {settings}"))
            }
            "listen" => format!("listen {listen};"),
            "ssl_certificate" | "ssl_certificate_key" => String::new(),
            _ => line.to_owned(),
        };
        found.insert(word);
        lines.push_str(&line);
        lines.push('\n');
    }
    for word in ["server", "listen", "ssl_certificate", "ssl_certificate_key"] {
        assert!(found.contains(word), "docs/nginx.conf has no {word} to replace");
    }
    assert_eq!(nodes.next(), None, "docs/nginx.conf has fewer nodes than the test");
    lines
}

/// Everything stays in the folder, and in the name of whoever runs the test.
fn write(home: &Home, http: &str) {
    // Without it a worker of root's would be someone else, who can't write to the folder; others can't change it anyway.
    let user = if geteuid().is_root() { "user root;" } else { "" };
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {what};\n"))
        .concat();
    let text = format!(
        "daemon off;\n{user}\npid nginx.pid;\nerror_log stderr notice;\nworker_processes 1;\n\
         events {{ worker_connections 16384; }}\nhttp {{\naccess_log off;\n{folders}\n{http}\n}}\n"
    );
    std::fs::write(home.file("nginx.conf"), text).expect("a temporary folder can be written to");
}

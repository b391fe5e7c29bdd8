//! A real Redis of the test's own, which can be lost and come back empty.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{Process, origin::vacant, path_text, program, tunnel::Home, within};

/// A running server, on a port that stays its own; ends when dropped.
pub(crate) struct Redis {
    address: SocketAddr,
    arguments: Vec<String>,
    process: Process,
    home: Home,
}

impl Redis {
    /// A server that keeps nothing, without a password, on a free port of 127.0.0.1.
    pub(crate) async fn start() -> Self {
        let address = vacant().await;
        Self::start_with(address, &["--port", &address.port().to_string()]).await
    }

    /// The same on this address, for which redis-server takes these arguments.
    pub(crate) async fn start_with(address: SocketAddr, arguments: &[&str]) -> Self {
        let home = Home::new();
        let bind = address.ip().to_string();
        let fixed = ["--bind", &bind, "--save", "", "--appendonly", "no", "--dir", path_text(home.path())];
        let arguments = fixed.iter().chain(arguments).map(|&text| text.to_owned()).collect();
        let process = Self::serve(&home, &arguments).await;
        Self { address, arguments, process, home }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bench of the bus asks it for its process.
    #[allow(dead_code)]
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// What a node's `--bus` takes.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends it on the spot, as a power cut would.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Ends it as an administrator does.
    pub(crate) async fn stop(&mut self) {
        self.process.stop().await;
    }

    /// Starts it again on the same port. It has kept nothing.
    pub(crate) async fn start_again(&mut self) {
        self.process = Self::serve(&self.home, &self.arguments).await;
    }

    /// The first line of its answer to one command, as it is on the wire.
    pub(crate) async fn say(&self, command: &str) -> String {
        let answer = async {
            let mut stream = BufReader::new(TcpStream::connect(self.address).await?);
            stream.write_all(format!("{command}\r\n").as_bytes()).await?;
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            Ok::<_, std::io::Error>(line)
        };
        let line = within("an answer of Redis", answer).await.expect("Redis answers");
        line.trim_end().to_owned()
    }

    async fn serve(home: &Home, arguments: &Vec<String>) -> Process {
        let server = program("redis-server", "redis-server");
        let mut process = Process::run("Redis", home.path(), &server, arguments, &[]);
        process.words("Ready to accept connections").await;
        process
    }
}

//! Several nodes that share the work over Redis, behind nginx as docs/nginx.conf has it.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::select_all;

use super::{
    Client, Door, Exit, Nginx, Process, Redis, Wire, nginx, origin::vacant, process::TUNNEL, program,
    tunnel::Home, within,
};

/// How many nodes there are; enough that one can be away and two still have to find each other.
const NODES: usize = 3;

/// How often something is asked that tells no one by itself.
const OFTEN: Duration = Duration::from_millis(20);

/// Nodes, their Redis and their balancer.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Redis,
    pub(crate) nginx: Nginx,
    /// Where keys of clients are.
    pub(crate) home: Home,
}

impl Cluster {
    /// Three nodes with these further arguments.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let redis = Redis::start().await;
        let url = redis.url();
        Self::over(redis, &[url.as_str(); NODES], arguments).await
    }

    /// A node for each of these ways to Redis.
    pub(crate) async fn over(redis: Redis, buses: &[&str], arguments: &[&str]) -> Self {
        let mut places = Vec::new();
        for bus in buses {
            places.push(Place::anywhere(bus).await);
        }
        Self::at(redis, places, arguments).await
    }

    /// A node at each of these places.
    pub(crate) async fn at(redis: Redis, places: Vec<Place>, arguments: &[&str]) -> Self {
        let front = vacant().await;
        let mut nodes = Vec::new();
        for mut place in places {
            place.arguments.extend(arguments.iter().map(|&text| text.to_owned()));
            nodes.push(Node::start(place.behind(front)).await);
        }
        let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.place.listen).collect();
        let nginx = Nginx::start(front, &nginx::documented(front, &addresses)).await;
        Self { nodes, redis, nginx, home: Home::new() }
    }

    /// A client that has come in through the balancer, to whichever node.
    pub(crate) async fn client(&self, target: &str, arguments: &[&str]) -> Client {
        let url = format!("http://{}", self.nginx.address());
        Client::start(&url, target, &self.home.file("key.pem"), arguments).await
    }

    /// A client of the same key that stays with this node.
    pub(crate) async fn client_at(&self, node: usize, target: &str) -> Client {
        Client::start(&self.nodes[node].url(), target, &self.home.file("key.pem"), &[]).await
    }

    /// The node at which a client has registered that nobody has asked for yet.
    pub(crate) async fn holder(&mut self) -> usize {
        let registered = self.nodes.iter_mut().enumerate().map(|(number, node)| {
            Box::pin(async move {
                node.process.event("registered").await;
                number
            })
        });
        select_all(registered).await.0
    }

    /// Where visitors of this client come in by the balancer.
    pub(crate) fn door(&self, client: &Client) -> Door {
        Door { address: self.nginx.address(), host: client.host().to_owned() }
    }

    /// Where they come in at this node.
    pub(crate) fn door_at(&self, node: usize, client: &Client) -> Door {
        Door { address: self.nodes[node].place.listen, host: client.host().to_owned() }
    }
}

/// What is known of a node before it starts, and stays when it starts again.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    listen: SocketAddr,
    admin: SocketAddr,
    bus: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    /// The network namespace that it runs in.
    namespace: Option<String>,
}

impl Place {
    /// A node at addresses that nobody else has, with this way to Redis.
    pub(crate) async fn anywhere(bus: &str) -> Self {
        Self::new(vacant().await, vacant().await, bus)
    }

    /// A node that listens here for visitors, and here for those who watch its health.
    pub(crate) fn new(listen: SocketAddr, admin: SocketAddr, bus: &str) -> Self {
        let (arguments, variables) = (Vec::new(), Vec::new());
        Self { listen, admin, bus: bus.to_owned(), arguments, variables, namespace: None }
    }

    /// In this network namespace.
    pub(crate) fn inside(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        // Its addresses aren't this machine's alone.
        self.arguments.push("--open-registration".to_owned());
        self
    }

    /// With this variable in its environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With what every node behind this balancer is told.
    fn behind(mut self, front: SocketAddr) -> Self {
        let port = front.port();
        self.arguments.extend([
            format!("--public-url=http://localhost:{port}"),
            format!("--also-known-as=http://{front}"),
            format!("--trusted-proxy={}", front.ip()),
        ]);
        self
    }

    fn process(&self, home: &Home) -> Process {
        let (listen, admin) = (self.listen.to_string(), self.admin.to_string());
        let open = ["--admin-open", "health,metrics"];
        let fixed = ["proxy", "--listen", &listen, "--admin", &admin, open[0], open[1], "--bus", &self.bus];
        let all = fixed.into_iter().chain(["--domain", "localhost", "--log-format", "json"]);
        let all = all.chain(self.arguments.iter().map(String::as_str));
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        match &self.namespace {
            None => Process::run("node", home.path(), TUNNEL, all, &variables),
            Some(namespace) => {
                let all = ["netns", "exec", namespace, TUNNEL].into_iter().chain(all);
                Process::run("node", home.path(), &program("ip", "iproute2"), all, &variables)
            }
        }
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) process: Process,
    place: Place,
    home: Home,
}

impl Node {
    /// Starts one, and waits until it is ready.
    async fn start(place: Place) -> Self {
        let home = Home::new();
        let process = place.process(&home);
        let mut node = Self { process, place, home };
        node.process.event("listening").await;
        node.is_ready().await;
        node
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.place.listen
    }

    /// Where it tells its health.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.place.admin
    }

    /// Where clients connect that want this node and no other.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.place.listen)
    }

    /// Starts it again, after it has ended, at the same place; waits until it is ready.
    pub(crate) async fn start_again(&mut self) {
        self.process = self.place.process(&self.home);
        self.process.event("listening").await;
        self.is_ready().await;
    }

    /// What it answers to whoever watches its health.
    pub(crate) async fn health(&self, path: &str) -> u16 {
        let mut wire = Wire::connect(self.admin()).await;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin())).await;
        wire.reply("GET").await.status()
    }

    /// The number that its metrics have under this name; 0 if there is none yet.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let mut wire = Wire::connect(self.admin()).await;
        wire.send(format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin())).await;
        let text = wire.reply("GET").await.text();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let value = lines.find(|(found, _)| *found == name).map(|(_, value)| value);
        value.map_or(0, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value}")))
    }

    /// Waits until the balancer, which has found it away, leads visitors to it again. There have to be some.
    pub(crate) async fn is_visited(&self) {
        let mut often = tokio::time::interval(OFTEN);
        within("visitors to come by the balancer", async {
            while self.metric("tunnel_connections_open").await == 0 {
                often.tick().await;
            }
        })
        .await;
    }

    /// Asks as often as a balancer does until it says that it is ready.
    pub(crate) async fn is_ready(&self) {
        self.answers(200).await;
    }

    /// Asks until it says that it isn't.
    pub(crate) async fn is_not_ready(&self) {
        self.answers(503).await;
    }

    async fn answers(&self, status: u16) {
        let mut often = tokio::time::interval(OFTEN);
        within(&format!("/readyz to say {status}"), async {
            while self.health("/readyz").await != status {
                often.tick().await;
            }
        })
        .await;
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(&mut self) -> Exit {
        self.process.stop().await
    }
}

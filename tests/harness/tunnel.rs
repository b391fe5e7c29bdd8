//! A proxy and its clients, started and registered, with a fresh folder and key for each test.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use super::{Door, Exit, Process, Relay, Reply, Wire};

/// A folder that is gone after the test; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Home(Arc<TempDir>);

impl Home {
    pub(crate) fn new() -> Self {
        Self(Arc::new(tempfile::tempdir().expect("a temporary folder")))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Makes a key in this file, and gives its place and its name.
    pub(crate) async fn key(&self, file: &str) -> (PathBuf, String) {
        let path = self.file(file);
        let exit = self.run(&["key", "new", "--key", path_text(&path)]).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        let name = exit.stdout.lines().find_map(|line| line.strip_prefix("name")).expect("the key's name");
        (path, name.trim().to_owned())
    }

    /// Writes a file as editors do, beside it and then in its place, and gives its place.
    pub(crate) fn write(&self, file: &str, text: &str) -> PathBuf {
        let (path, aside) = (self.file(file), self.file(&format!("{file}~")));
        std::fs::write(&aside, text).expect("a temporary folder can be written to");
        std::fs::rename(&aside, &path).expect("it takes the place");
        path
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Exit {
        Process::start("program", self.path(), arguments).exit().await
    }
}

/// A path as an argument.
pub(crate) fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// Its admin listener, if it was given one.
    pub(crate) admin: Option<SocketAddr>,
    /// Its listener for plain HTTP beside TLS, if it was given one.
    pub(crate) http: Option<SocketAddr>,
    pub(crate) home: Home,
}

impl Proxy {
    /// A proxy on a free port.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", arguments).await
    }

    /// A proxy on this address.
    pub(crate) async fn start_at(listen: &str, arguments: &[&str]) -> Self {
        Self::start_in(Home::new(), listen, arguments).await
    }

    async fn start_in(home: Home, listen: &str, arguments: &[&str]) -> Self {
        Self::start_for("localhost", home, listen, arguments).await
    }

    /// A proxy of this domain.
    pub(crate) async fn start_for(domain: &str, home: Home, listen: &str, arguments: &[&str]) -> Self {
        let fixed = ["proxy", "--listen", listen, "--domain", domain, "--log-format", "json"];
        // Under any other domain it would have to be said who may register; where that matters tests say so themselves.
        let open: &[&str] = if domain == "localhost" { &[] } else { &["--open-registration"] };
        let mut process = Process::start("proxy", home.path(), fixed.iter().chain(open).chain(arguments));
        let event = process.event("listening").await;
        let [address, http, admin] =
            ["address", "http", "admin"].map(|key| event[key].as_str().and_then(|text| text.parse().ok()));
        let address = address.unwrap_or_else(|| panic!("no address in {event}"));
        Self { process, address, admin, http, home }
    }

    /// Several proxies, joined by no bus, that clients may dial by this relay's URL.
    pub(crate) async fn behind<const N: usize>(relay: &Relay) -> [Self; N] {
        let url = relay.url();
        let arguments = ["--also-known-as", url.as_str()];
        let starting = (0..N).map(|_| Self::start(&arguments));
        let Ok(started) = futures_util::future::join_all(starting).await.try_into() else {
            unreachable!("as many as were asked for")
        };
        started
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A running client that has registered.
pub(crate) struct Client {
    pub(crate) process: Process,
    /// What it says visitors use.
    pub(crate) public_url: String,
}

impl Client {
    /// A client for `target`, registered at the proxy with the key in this file (made if it isn't there).
    pub(crate) async fn start(proxy_url: &str, target: &str, key: &Path, arguments: &[&str]) -> Self {
        let mut process = Self::spawn(proxy_url, target, key, arguments);
        let event = process.event("registered").await;
        let public_url = event["public_url"].as_str().unwrap_or_else(|| panic!("no public_url in {event}"));
        Self { process, public_url: public_url.to_owned() }
    }

    /// The same, without waiting for its registration.
    pub(crate) fn spawn(proxy_url: &str, target: &str, key: &Path, arguments: &[&str]) -> Process {
        let home = key.parent().expect("the key is in a folder");
        let fixed = [target, "--proxy", proxy_url, "--key", path_text(key), "--log-format", "json"];
        Process::start("client", home, fixed.iter().chain(arguments))
    }

    /// What visitors put in `Host`.
    pub(crate) fn host(&self) -> &str {
        let host = ["http://", "https://"].iter().find_map(|scheme| self.public_url.strip_prefix(scheme));
        host.unwrap_or_else(|| panic!("no URL: {}", self.public_url)).trim_end_matches('/')
    }

    /// The tunnel's name.
    pub(crate) fn label(&self) -> &str {
        self.host().split('.').next().expect("split gives at least one part")
    }
}

/// What a test wants different from the defaults.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    proxy: Vec<&'a str>,
    client: Vec<&'a str>,
    proxy_file: Option<&'a str>,
    client_file: Option<&'a str>,
    relay: Option<&'a Relay>,
}

impl<'a> Setup<'a> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// More arguments for the proxy.
    pub(crate) fn proxy(mut self, arguments: &[&'a str]) -> Self {
        self.proxy.extend(arguments);
        self
    }

    /// More arguments for the client.
    pub(crate) fn client(mut self, arguments: &[&'a str]) -> Self {
        self.client.extend(arguments);
        self
    }

    /// The text of the proxy's settings file.
    pub(crate) fn proxy_file(mut self, text: &'a str) -> Self {
        self.proxy_file = Some(text);
        self
    }

    /// The text of the client's settings file.
    pub(crate) fn client_file(mut self, text: &'a str) -> Self {
        self.client_file = Some(text);
        self
    }

    /// What lies between client and proxy.
    pub(crate) fn relay(mut self, relay: &'a Relay) -> Self {
        self.relay = Some(relay);
        self
    }

    /// Starts both.
    pub(crate) async fn start(self, target: &str) -> Tunnel {
        let home = Home::new();
        let (mut for_proxy, mut for_client) = (self.proxy, self.client);
        let settings = |name: &str, text: Option<&str>| {
            let path = home.file(name);
            std::fs::write(&path, text.unwrap_or_default()).expect("a temporary folder can be written to");
            path
        };
        let proxy_file = settings("proxy.toml", self.proxy_file);
        let client_file = settings("tunnel.toml", self.client_file);
        for_proxy.extend(["--config", path_text(&proxy_file)]);
        for_client.extend(["--config", path_text(&client_file)]);
        let relay_url = self.relay.map(Relay::url);
        if let Some(url) = &relay_url {
            for_proxy.extend(["--also-known-as", url]);
        }
        let proxy = Proxy::start_in(home.clone(), "127.0.0.1:0", &for_proxy).await;
        if let Some(relay) = self.relay {
            relay.lead_to(proxy.address);
        }
        let key = home.file("key.pem");
        let client = Client::start(&relay_url.unwrap_or(proxy.url()), target, &key, &for_client).await;
        Tunnel { proxy, client, key }
    }
}

/// One proxy with one client.
pub(crate) struct Tunnel {
    pub(crate) proxy: Proxy,
    pub(crate) client: Client,
    pub(crate) key: PathBuf,
}

impl Tunnel {
    /// A tunnel to this origin with all defaults.
    pub(crate) async fn to(target: &str) -> Self {
        Setup::new().start(target).await
    }

    /// What visitors put in `Host`.
    pub(crate) fn host(&self) -> &str {
        self.client.host()
    }

    /// Where visitors come in.
    pub(crate) fn door(&self) -> Door {
        self.into()
    }

    /// A visitor's connection.
    pub(crate) async fn visit(&self) -> Wire {
        self.door().visit().await
    }

    /// The bytes of a request's head; `fields` are whole lines without their ends.
    pub(crate) fn head(&self, line: &str, fields: &[&str]) -> Vec<u8> {
        self.door().head(line, fields)
    }

    /// A visitor that has sent this head on a connection of its own.
    pub(crate) async fn ask(&self, line: &str, fields: &[&str]) -> Wire {
        self.door().ask(line, fields).await
    }

    /// The whole answer to one request.
    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.door().get(target).await
    }

    /// The whole answer to one request with a body.
    pub(crate) async fn post(&self, target: &str, body: &[u8]) -> Reply {
        self.door().post(target, body).await
    }
}

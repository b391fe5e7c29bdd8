//! A proxy that speaks TLS by itself, with a client that came to it by wss.

use std::net::SocketAddr;

use super::{
    Client, Process, Proxy, Wire,
    certificate::{Authority, Pair, Secure},
    path_text, program,
    tunnel::Home,
};

/// No wildcard is good for all of a domain like `localhost`.
const DOMAIN: &str = "tunnels.test";

/// The names of a proxy that its own machine's programs dial.
pub(crate) const NAMES: &[&str] = &["localhost", DOMAIN, "*.tunnels.test"];

/// Both of them, and who signed the certificate.
pub(crate) struct Secured {
    pub(crate) proxy: Proxy,
    pub(crate) client: Client,
    pub(crate) authority: Authority,
}

impl Secured {
    /// With one certificate, for all tunnels and the proxy's own name. `more` follows in the settings file, where the table `tls`
    /// is the last.
    pub(crate) async fn start(target: &str, more: &str, arguments: &[&str]) -> Self {
        let (authority, home) = (Authority::new(), Home::new());
        let pair = authority.server(NAMES);
        Self::with(authority, home, &[("first", pair)], more, arguments, target).await
    }

    /// With these certificates, in this folder.
    pub(crate) async fn with(
        authority: Authority,
        home: Home,
        pairs: &[(&str, Pair)],
        more: &str,
        arguments: &[&str],
        target: &str,
    ) -> Self {
        Self::beside(authority, home, pairs, more, arguments, target, &[]).await
    }

    /// The same, with arguments for the client too.
    pub(crate) async fn beside(
        authority: Authority,
        home: Home,
        pairs: &[(&str, Pair)],
        more: &str,
        arguments: &[&str],
        target: &str,
        for_client: &[&str],
    ) -> Self {
        let mut listed = String::new();
        for (name, pair) in pairs {
            pair.write(&home, name);
            listed += &format!("{{ certificate = '{name}.pem', key = '{name}.key' }}, ");
        }
        std::fs::write(home.file("ca.pem"), authority.pem()).expect("a temporary folder can be written to");
        let text = format!("[tls]\ncertificates = [{listed}]\n{more}\n");
        std::fs::write(home.file("proxy.toml"), text).expect("a temporary folder can be written to");
        let config = home.file("proxy.toml");
        let arguments = [&["--config", path_text(&config)], arguments].concat();
        let proxy = Proxy::start_for(DOMAIN, home.clone(), "127.0.0.1:0", &arguments).await;
        let url = format!("https://localhost:{}", proxy.address.port());
        let (ca, key) = (home.file("ca.pem"), home.file("key.pem"));
        let client =
            Client::start(&url, target, &key, &[&["--proxy-ca", path_text(&ca)], for_client].concat()).await;
        Self { proxy, client, authority }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address
    }

    /// The tunnel's host name, without its port.
    pub(crate) fn name(&self) -> &str {
        self.client.host().split(':').next().expect("split gives at least one part")
    }

    /// A visitor who trusts the authority.
    pub(crate) fn visitor(&self) -> Secure {
        Secure::trusting(&self.authority)
    }

    /// A visitor's connection to the tunnel.
    pub(crate) async fn visit(&self) -> Wire {
        self.visitor().visit(self.address(), self.name()).await
    }

    /// The head of a request without a body.
    pub(crate) fn get(&self, target: &str) -> String {
        format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.client.host())
    }

    /// What curl writes about a request to the tunnel: its answer's head and body.
    pub(crate) async fn curl(&self, arguments: &[&str]) -> String {
        let ca = self.proxy.home.file("ca.pem");
        let resolve = format!("{}:{}:127.0.0.1", self.name(), self.address().port());
        let url = format!("{}/path?a=b", self.client.public_url.trim_end_matches('/'));
        let fixed = ["-sS", "-i", "--cacert", path_text(&ca), "--resolve", &resolve, &url];
        let all = fixed.iter().chain(arguments);
        let exit =
            Process::run("curl", self.proxy.home.path(), &program("curl", "curl"), all, &[]).exit().await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        exit.stdout.trim_end().to_owned()
    }
}

//! How each program is started in front of the origin.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result, bail};

use super::{
    Paths, Plugin, System,
    program::{find, free, listening, version},
};

impl System {
    pub(super) async fn nginx(&mut self, origin: SocketAddr) -> Result<()> {
        let program = find("nginx", &[])?;
        self.version = version(&program, "-v").await;
        self.door = free()?;
        let config = format!(
            "worker_processes auto;\npid nginx.pid;\nerror_log stderr crit;\ndaemon off;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n access_log off;\n client_max_body_size 0;\n keepalive_requests 100000000;\n\
             upstream origin {{ server {origin}; keepalive 512; keepalive_requests 100000000; }}\n\
             map $http_upgrade $hop {{ default upgrade; '' ''; }}\n\
             server {{\n listen {door} backlog=4096;\n\
             location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Host $http_host;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $hop;\n\
             proxy_request_buffering off; proxy_max_temp_file_size 0; }}\n }}\n}}\n",
            door = self.door,
        );
        let file = self.write("nginx.conf", &config)?;
        let prefix = self.folder.path().to_owned();
        self.spawn("nginx", &program, |command| {
            command.arg("-e").arg("stderr").arg("-p").arg(prefix).arg("-c").arg(file);
        })
    }

    pub(super) async fn haproxy(&mut self, origin: SocketAddr) -> Result<()> {
        let program = find("haproxy", &[])?;
        self.version = version(&program, "-v").await;
        self.door = free()?;
        let config = format!(
            "global\n maxconn 8192\ndefaults\n mode http\n timeout connect 5s\n timeout client 120s\n timeout server 120s\n\
             timeout tunnel 120s\n http-reuse always\nfrontend door\n bind {door}\n default_backend origin\n\
             backend origin\n server origin {origin}\n",
            door = self.door,
        );
        let file = self.write("haproxy.cfg", &config)?;
        self.spawn("haproxy", &program, |command| _ = command.arg("-db").arg("-f").arg(file))
    }

    pub(super) async fn rathole(&mut self, peers: &Path, origin: SocketAddr) -> Result<()> {
        let program = find("rathole", &[peers])?;
        self.version = version(&program, "--version").await;
        self.door = free()?;
        let control = free()?;
        let server = format!(
            "[server]\nbind_addr = \"{control}\"\ndefault_token = \"bench\"\n\
             [server.services.web]\nbind_addr = \"{}\"\n",
            self.door
        );
        let client = format!(
            "[client]\nremote_addr = \"{control}\"\ndefault_token = \"bench\"\n\
             [client.services.web]\nlocal_addr = \"{origin}\"\n"
        );
        let (server, client) = (self.write("server.toml", &server)?, self.write("client.toml", &client)?);
        self.spawn("server", &program, |command| {
            _ = command.arg("--server").arg(server).env("RUST_LOG", "error")
        })?;
        self.spawn("client", &program, |command| {
            _ = command.arg("--client").arg(client).env("RUST_LOG", "error")
        })
    }

    pub(super) async fn bore(&mut self, peers: &Path, origin: SocketAddr) -> Result<()> {
        let program = find("bore", &[peers])?;
        self.version = version(&program, "--version").await;
        self.door = free()?;
        let port = self.door.port().to_string();
        self.spawn("server", &program, |command| {
            command
                .args(["server", "--bind-addr", "127.0.0.1", "--min-port", "1024"])
                .env("RUST_LOG", "error");
        })?;
        // Its control port is fixed.
        listening("127.0.0.1:7835".parse().expect("an address")).await?;
        self.spawn("client", &program, |command| {
            command.args(["local", &origin.port().to_string(), "--to", "127.0.0.1", "--port", &port]);
            command.env("RUST_LOG", "error");
        })
    }

    /// The service is behind the firewall: its client dials, and the server listens for visitors.
    pub(super) async fn wstunnel(&mut self, peers: &Path, origin: SocketAddr) -> Result<()> {
        let program = find("wstunnel", &[peers])?;
        self.version = version(&program, "--version").await;
        self.door = free()?;
        let (server, door) = (free()?, self.door);
        let url = format!("ws://{server}");
        // It reads the variable of a web proxy, and would go there.
        self.spawn("server", &program, |command| {
            command.args(["--log-lvl", "ERROR", "server", &url]).env_remove("HTTP_PROXY");
        })?;
        listening(server).await?;
        self.spawn("client", &program, |command| {
            command.args(["--log-lvl", "ERROR", "client", "-R", &format!("tcp://{door}:{origin}"), &url]);
            command.env_remove("HTTP_PROXY");
        })
    }

    pub(super) async fn ours(&mut self, paths: &Paths, plugins: &[Plugin], origin: SocketAddr) -> Result<()> {
        self.version = version(&paths.tunnel, "--version").await;
        self.door = self.proxy(paths, &[]).await?;
        let mut arguments = Vec::new();
        for (at, plugin) in plugins.iter().enumerate() {
            let guest = paths.guests.join("hostile.wasm");
            if !guest.is_file() {
                bail!("{} is missing; build it with cargo xtask guests", guest.display());
            }
            let config = self.write(&format!("plugin{at}.toml"), plugin.config)?;
            arguments.extend(["--plugin".into(), guest.into_os_string()]);
            arguments.extend(["--plugin-config".into(), config.into_os_string()]);
        }
        self.client(paths, self.door, origin, &arguments).await
    }

    pub(super) async fn over_redis(
        &mut self,
        paths: &Paths,
        elsewhere: bool,
        origin: SocketAddr,
    ) -> Result<()> {
        let program = find("redis-server", &[])?;
        self.version = version(&paths.tunnel, "--version").await;
        let redis = free()?;
        let folder = self.folder.path().to_owned();
        self.spawn("redis", &program, |command| {
            command.args(["--save", "", "--bind", "127.0.0.1", "--port", &redis.port().to_string()]);
            command.arg("--dir").arg(folder);
        })?;
        listening(redis).await?;
        let bus = ["--bus".to_owned(), format!("redis://{redis}")];
        let bus: Vec<&str> = bus.iter().map(String::as_str).collect();
        self.door = self.proxy(paths, &bus).await?;
        let dialled = if elsewhere { self.proxy(paths, &bus).await? } else { self.door };
        self.client(paths, dialled, origin, &[]).await
    }

    /// With its settings as they come, but for the rate: visitors here are one address.
    pub(super) async fn proxy(&mut self, paths: &Paths, more: &[&str]) -> Result<SocketAddr> {
        let address = free()?;
        self.spawn("proxy", &paths.tunnel, |command| {
            command.args(["proxy", "--listen", &address.to_string()]);
            command.args(["--rate", "off", "--max-body", "unlimited"]).args(more);
        })?;
        listening(address).await?;
        Ok(address)
    }

    async fn client(
        &mut self,
        paths: &Paths,
        proxy: SocketAddr,
        origin: SocketAddr,
        more: &[std::ffi::OsString],
    ) -> Result<()> {
        let key = self.folder.path().join("key.pem");
        // What it says is for people: for programs it has a line for each exchange, which others haven't.
        let url = self
            .told("client", &paths.tunnel, "Public URL", |command| {
                command.arg(format!("http://{origin}")).args(["--proxy", &format!("http://{proxy}")]);
                command.arg("--key").arg(key).args(more);
            })
            .await?;
        let host = url.split_once("://").context("a URL")?.1.trim_end_matches('/');
        self.host = host.to_owned();
        Ok(())
    }
}

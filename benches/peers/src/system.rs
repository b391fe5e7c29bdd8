//! The programs that are compared: how each is started in front of the origin.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::sleep,
};

use crate::account::Accounts;

/// How long a program may take until it serves.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where programs are.
pub(crate) struct Paths {
    pub(crate) tunnel: PathBuf,
    pub(crate) peers: PathBuf,
    pub(crate) guests: PathBuf,
}

/// A system that can be measured.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    /// It stands among the peers; others are variants of ours.
    pub(crate) plain: bool,
    /// It stands among the variants too, for comparison.
    pub(crate) reference: bool,
    way: Way,
}

/// What sort of program it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Nothing in between.
    Direct,
    /// A web server in between: one hop, which no tunnel can be better than.
    Server,
    /// Somebody else's tunnel.
    Tunnel,
    /// Ours.
    Ours,
}

enum Way {
    Direct,
    Nginx,
    Haproxy,
    Rathole,
    Bore,
    /// Arguments for the client.
    Ours(&'static [Plugin]),
    /// With Redis between; whether the session is at another node than the visitor.
    Redis {
        elsewhere: bool,
    },
}

/// A plugin at the client: a guest that is told what to do.
struct Plugin {
    config: &'static str,
}

const fn peer(name: &'static str, family: Family, way: Way) -> Kind {
    Kind { name, family, plain: true, reference: false, way }
}

const fn variant(name: &'static str, way: Way) -> Kind {
    Kind { name, family: Family::Ours, plain: false, reference: false, way }
}

pub(crate) const ALL: &[Kind] = &[
    peer("direct", Family::Direct, Way::Direct),
    Kind { name: "nginx", family: Family::Server, plain: true, reference: true, way: Way::Nginx },
    peer("haproxy", Family::Server, Way::Haproxy),
    peer("rathole", Family::Tunnel, Way::Rathole),
    peer("bore", Family::Tunnel, Way::Bore),
    Kind { name: "tunnel", family: Family::Ours, plain: true, reference: true, way: Way::Ours(&[]) },
    variant("tunnel, no-op plugin", Way::Ours(&[Plugin { config: "" }])),
    variant("tunnel, header plugin", Way::Ours(&[Plugin { config: "on-request = 'good'" }])),
    variant(
        "tunnel, whole-body plugin",
        Way::Ours(&[Plugin { config: "on-request = 'whole'\non-request-body = 'upper'" }]),
    ),
    variant("tunnel, Redis, session here", Way::Redis { elsewhere: false }),
    variant("tunnel, Redis, session elsewhere", Way::Redis { elsewhere: true }),
];

/// A system that serves. Its processes end when it is dropped.
pub(crate) struct System {
    pub(crate) kind: &'static Kind,
    /// Where visitors connect.
    pub(crate) door: SocketAddr,
    /// The host that they ask for.
    pub(crate) host: String,
    /// What it says that it is.
    pub(crate) version: String,
    processes: Vec<(&'static str, Child)>,
    // Ours are told to end when nobody reads what they say.
    _voices: Vec<Lines<BufReader<ChildStdout>>>,
    folder: TempDir,
}

impl System {
    /// Starts a system in front of the origin, and waits until it serves.
    ///
    /// # Errors
    /// It isn't installed, or doesn't serve.
    pub(crate) async fn start(kind: &'static Kind, paths: &Paths, origin: SocketAddr) -> Result<Self> {
        let mut system = Self {
            kind,
            door: origin,
            host: "origin.test".to_owned(),
            version: String::new(),
            processes: Vec::new(),
            _voices: Vec::new(),
            folder: tempfile::tempdir()?,
        };
        match &kind.way {
            Way::Direct => {}
            Way::Nginx => system.nginx(origin).await?,
            Way::Haproxy => system.haproxy(origin).await?,
            Way::Rathole => system.rathole(&paths.peers, origin).await?,
            Way::Bore => system.bore(&paths.peers, origin).await?,
            Way::Ours(plugins) => system.ours(paths, plugins, origin).await?,
            Way::Redis { elsewhere } => system.over_redis(paths, *elsewhere, origin).await?,
        }
        system.serves().await?;
        Ok(system)
    }

    /// What its processes use.
    pub(crate) fn accounts(&self) -> Result<Accounts> {
        let roots = self.processes.iter().map(|(part, child)| child.id().map(|id| (*part, id)));
        Accounts::of(&roots.collect::<Option<Vec<_>>>().context("one of its processes has ended")?)
    }

    async fn nginx(&mut self, origin: SocketAddr) -> Result<()> {
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

    async fn haproxy(&mut self, origin: SocketAddr) -> Result<()> {
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

    async fn rathole(&mut self, peers: &Path, origin: SocketAddr) -> Result<()> {
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

    async fn bore(&mut self, peers: &Path, origin: SocketAddr) -> Result<()> {
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

    async fn ours(&mut self, paths: &Paths, plugins: &[Plugin], origin: SocketAddr) -> Result<()> {
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

    async fn over_redis(&mut self, paths: &Paths, elsewhere: bool, origin: SocketAddr) -> Result<()> {
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

    async fn proxy(&mut self, paths: &Paths, more: &[&str]) -> Result<SocketAddr> {
        let event = self
            .event("proxy", &paths.tunnel, "listening", |command| {
                command.args([
                    "proxy",
                    "--listen",
                    "127.0.0.1:0",
                    "--rate",
                    "off",
                    "--max-body",
                    "unlimited",
                ]);
                command.args(["--log-format", "json"]).args(more);
            })
            .await?;
        event["address"].as_str().context("the proxy said no address")?.parse().context("the proxy's address")
    }

    async fn client(
        &mut self,
        paths: &Paths,
        proxy: SocketAddr,
        origin: SocketAddr,
        more: &[std::ffi::OsString],
    ) -> Result<()> {
        let key = self.folder.path().join("key.pem");
        let event = self
            .event("client", &paths.tunnel, "registered", |command| {
                command.arg(format!("http://{origin}")).args(["--proxy", &format!("http://{proxy}")]);
                command.arg("--key").arg(key).args(["--log-format", "json"]).args(more);
                command.stdin(Stdio::null());
            })
            .await?;
        let url = event["public_url"].as_str().or_else(|| event["url"].as_str()).context("no public URL")?;
        let host = url.split_once("://").context("a URL")?.1.trim_end_matches('/');
        self.host = host.to_owned();
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        Ok(path)
    }

    fn spawn(&mut self, part: &'static str, program: &Path, set: impl FnOnce(&mut Command)) -> Result<()> {
        let child = self.command(program, set, Stdio::null()).spawn();
        self.processes.push((part, child.with_context(|| format!("can't start {}", program.display()))?));
        Ok(())
    }

    /// Starts one of ours and waits for an event.
    async fn event(
        &mut self,
        part: &'static str,
        program: &Path,
        name: &str,
        set: impl FnOnce(&mut Command),
    ) -> Result<Value> {
        let child = self.command(program, set, Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("can't start {}", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        self.processes.push((part, child));
        let waiting = async {
            while let Some(line) = lines.next_line().await? {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if event["event"] == name {
                    return Ok(event);
                }
            }
            bail!("the {part} ended before it was {name}")
        };
        let event =
            tokio::time::timeout(PATIENCE, waiting).await.with_context(|| format!("it isn't {name}"))??;
        self._voices.push(lines);
        Ok(event)
    }

    fn command(&self, program: &Path, set: impl FnOnce(&mut Command), out: Stdio) -> Command {
        let mut command = Command::new(program);
        set(&mut command);
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Waits until a request is answered.
    async fn serves(&self) -> Result<()> {
        let door = crate::load::Door { address: self.door, host: self.host.clone() };
        let start = Instant::now();
        loop {
            match crate::load::once(&door).await {
                Ok(()) => return Ok(()),
                Err(why) if start.elapsed() > PATIENCE => return Err(why.context("it doesn't serve")),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// A program in one of these folders, or where programs are.
fn find(name: &str, folders: &[&Path]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bins = folders.iter().map(|folder| folder.join("bin"));
    let all = bins.chain(std::env::split_paths(&path)).chain(["/usr/sbin".into()]);
    let mut files = all.map(|folder| folder.join(name));
    files.find(|file| file.is_file()).with_context(|| format!("{name} isn't installed"))
}

async fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output().await else { return String::new() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text).into_owned();
    // Some say it in a line, some in a form.
    let labelled = text.lines().find_map(|line| line.strip_prefix("Build Version:"));
    labelled.or(text.lines().find(|line| !line.trim().is_empty())).unwrap_or_default().trim().to_owned()
}

/// An address on which nobody listens.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn listening(address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        if start.elapsed() > PATIENCE {
            bail!("nobody listens on {address}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

//! The programs that are compared.

mod program;
mod recipes;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
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
    Wstunnel,
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
    peer("wstunnel", Family::Tunnel, Way::Wstunnel),
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
            Way::Wstunnel => system.wstunnel(&paths.peers, origin).await?,
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

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
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

use crate::{
    account::Accounts,
    load::{self, Door},
};

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
    processes: Vec<Process>,
    // Kept open, so that who writes there is not told that nobody reads.
    _voices: Vec<Lines<BufReader<ChildStdout>>>,
    folder: TempDir,
}

struct Process {
    part: &'static str,
    /// How it was started.
    command: Command,
    child: Child,
}

impl Process {
    /// Kills it, and all that it started: workers of nginx outlive a master that is killed.
    fn kill_all(&self) {
        if let Some(all) = self.child.id().and_then(|pid| Accounts::of(&[(self.part, pid)]).ok()) {
            all.kill();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// What the part that visitors connect to is called.
const PUBLIC_ENDS: [&str; 2] = ["proxy", "server"];

impl System {
    /// Starts a system in front of the origin, and waits until it serves.
    ///
    /// # Errors
    /// It isn't installed, or doesn't serve.
    pub(crate) async fn start(kind: &'static Kind, paths: &Paths, origin: SocketAddr) -> Result<Self> {
        let mut system = Self::empty(kind, origin)?;
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

    /// A proxy of ours to which no client belongs.
    ///
    /// # Errors
    /// It doesn't start.
    pub(crate) async fn proxy_alone(paths: &Paths) -> Result<Self> {
        let ours = ALL.iter().find(|kind| kind.family == Family::Ours).context("ours is one of all")?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut system = Self::empty(ours, nowhere)?;
        system.door = system.proxy(paths, &[]).await?;
        Ok(system)
    }

    /// Ends its processes, and starts others in their place.
    ///
    /// # Errors
    /// It doesn't serve any more.
    pub(crate) async fn renew(&mut self, paths: &Paths, origin: SocketAddr) -> Result<()> {
        // Some have a fixed port, which the old has to leave first.
        for process in &mut self.processes {
            process.kill_all();
            process.child.wait().await?;
        }
        *self = Self::start(self.kind, paths, origin).await?;
        Ok(())
    }

    /// Kills the process that visitors connect to.
    ///
    /// # Errors
    /// There is none.
    pub(crate) async fn kill_public_end(&mut self) -> Result<()> {
        self.public_end()?.child.kill().await.context("it has ended")
    }

    /// Starts it again as it was started; doesn't wait until it serves.
    ///
    /// # Errors
    /// It doesn't start.
    pub(crate) fn start_public_end(&mut self) -> Result<()> {
        let process = self.public_end()?;
        process.child = process.command.spawn()?;
        Ok(())
    }

    /// Where its visitors knock.
    pub(crate) fn visitors_door(&self) -> Door {
        Door { address: self.door, host: self.host.clone() }
    }

    /// What its processes use.
    pub(crate) fn accounts(&self) -> Result<Accounts> {
        let roots = self.processes.iter().map(|process| process.child.id().map(|id| (process.part, id)));
        Accounts::of(&roots.collect::<Option<Vec<_>>>().context("one of its processes has ended")?)
    }

    fn empty(kind: &'static Kind, door: SocketAddr) -> Result<Self> {
        Ok(Self {
            kind,
            door,
            host: "origin.test".to_owned(),
            version: String::new(),
            processes: Vec::new(),
            _voices: Vec::new(),
            folder: tempfile::tempdir()?,
        })
    }

    fn public_end(&mut self) -> Result<&mut Process> {
        let mut processes = self.processes.iter_mut();
        processes.find(|process| PUBLIC_ENDS.contains(&process.part)).context("it has no such part")
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        Ok(path)
    }

    fn spawn(&mut self, part: &'static str, program: &Path, set: impl FnOnce(&mut Command)) -> Result<()> {
        self.launch(part, program, set, Stdio::null()).map(|_| ())
    }

    /// Starts one of ours and waits until it has said what stands behind a label.
    async fn told(
        &mut self,
        part: &'static str,
        program: &Path,
        label: &str,
        set: impl FnOnce(&mut Command),
    ) -> Result<String> {
        let child = self.launch(part, program, set, Stdio::piped())?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let waiting = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(told) = line.trim_start().strip_prefix(label) {
                    return Ok(told.trim().to_owned());
                }
            }
            bail!("the {part} ended before it told its {label}")
        };
        let told =
            timeout(PATIENCE, waiting).await.with_context(|| format!("it doesn't tell its {label}"))??;
        self._voices.push(lines);
        Ok(told)
    }

    fn launch(
        &mut self,
        part: &'static str,
        program: &Path,
        set: impl FnOnce(&mut Command),
        out: Stdio,
    ) -> Result<&mut Child> {
        let mut command = Command::new(program);
        set(&mut command);
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("can't start {}", program.display()))?;
        self.processes.push(Process { part, command, child });
        Ok(&mut self.processes.last_mut().context("just put there")?.child)
    }

    /// Waits until a request is answered.
    async fn serves(&self) -> Result<()> {
        let (door, start) = (self.visitors_door(), Instant::now());
        loop {
            match load::once(&door).await {
                Ok(()) => return Ok(()),
                Err(why) if start.elapsed() > PATIENCE => return Err(why.context("it doesn't serve")),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

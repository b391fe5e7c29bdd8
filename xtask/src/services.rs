//! Other people's programs that the tests need: Redis, of which one is started here for all unit tests; nginx and slowhttptest, which
//! the end-to-end tests start themselves; and Python, for the client that speaks the original's dialect.
//!
//! Owns finding them and the life of that one Redis; knows nothing of what the tests say to it.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{debian, step::Step};

/// Where Debian keeps what only administrators call; not in everybody's `PATH`.
const BESIDE_PATH: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Another program may take a free port before Redis does.
const ATTEMPTS: usize = 5;

/// What Redis says when it listens, and when it can't.
const READY: &str = "Ready to accept connections";
const TAKEN: &str = "Address already in use";

/// The programs, found or installed.
///
/// # Errors
/// One is missing; the error says what to install.
pub(crate) fn find() -> Result<Programs> {
    program("nginx", "nginx-light", Some("nginx.service"))?;
    program("slowhttptest", "slowhttptest", None)?;
    Ok(Programs {
        redis: program("redis-server", "redis-server", Some("redis-server.service"))?,
        python: python()?,
    })
}

/// Where Python's packages are; nothing is installed for the whole machine.
const PYTHON: &str = "target/python";
const REQUIREMENTS: &str = "tests/clients/requirements.txt";

/// A Python of our own, with the packages that the client needs.
fn python() -> Result<PathBuf> {
    let python = env::current_dir()?.join(PYTHON).join("bin/python");
    let (wanted, installed) = (fs::read_to_string(REQUIREMENTS)?, Path::new(PYTHON).join("installed"));
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let system = program("python3", "python3-venv", None)?;
    if Step::new(&system).arguments(["-m", "venv", PYTHON]).run().is_err() {
        // Debian has the module in a package of its own.
        ensure!(
            debian::may_install(),
            "tests need python3 with its module venv (on Debian: apt install python3-venv)"
        );
        debian::install("python3-venv")?;
        Step::new(&system).arguments(["-m", "venv", PYTHON]).run()?;
    }
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS];
    Step::new(&python).arguments(install).run().context("tests need the Python packages that it names")?;
    fs::write(installed, wanted)?;
    Ok(python)
}

/// What [`find`] has found.
pub(crate) struct Programs {
    redis: PathBuf,
    /// With the packages of the tests' client.
    pub(crate) python: PathBuf,
}

fn program(name: &str, package: &str, service: Option<&str>) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    if let Some(found) = look_for(name, &path) {
        return Ok(found);
    }
    if debian::may_install() {
        println!("xtask: no {name} here: installing Debian's");
        debian::install(package)?;
        if let Some(service) = service {
            debian::disable(service);
        }
        if let Some(found) = look_for(name, &path) {
            return Ok(found);
        }
    }
    bail!("tests need {name}; install it (on Debian: apt install {package})")
}

/// Whether a program is installed.
pub(crate) fn has(name: &str) -> bool {
    look_for(name, &env::var_os("PATH").unwrap_or_default()).is_some()
}

fn look_for(name: &str, path: &OsStr) -> Option<PathBuf> {
    let folders = env::split_paths(path).chain(BESIDE_PATH.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A Redis on a free port of this machine that keeps nothing; ends when dropped.
pub(crate) struct Redis {
    server: Child,
    port: u16,
    folder: PathBuf,
}

impl Redis {
    /// Starts one, and returns when it answers.
    ///
    /// # Errors
    /// It can't be started; the error has what it said.
    pub(crate) fn start(programs: &Programs) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            if let Some(redis) = Self::try_start(&programs.redis)? {
                return Ok(redis);
            }
        }
        bail!("redis-server found its port taken {ATTEMPTS} times")
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `None` if somebody else has taken the port meanwhile.
    fn try_start(program: &Path) -> Result<Option<Self>> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = env::temp_dir().join(format!("tunnel-redis-{port}"));
        fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        let mut command = bound_to_us(program);
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let server = command.spawn().with_context(|| format!("can't start {}", program.display()))?;
        let mut redis = Self { server, port, folder };
        let said = redis.first_words()?;
        if said.contains(READY) {
            redis.ping().context("redis-server doesn't answer")?;
            return Ok(Some(redis));
        }
        ensure!(said.contains(TAKEN), "redis-server didn't start:\n{said}");
        Ok(None)
    }

    /// What it says until it listens, or ends. Nobody reads on, which it doesn't mind.
    fn first_words(&mut self) -> Result<String> {
        let mut said = String::new();
        let mut output = BufReader::new(self.server.stdout.take().context("stdout is a pipe")?);
        while !said.contains(READY) && output.read_line(&mut said)? > 0 {}
        Ok(said)
    }

    fn ping(&self) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        connection.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        connection.read_exact(&mut answer)?;
        ensure!(&answer == b"+PONG\r\n", "it says {:?}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It keeps nothing, so that there is nothing to be gentle about. Where these fail it is gone already.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A program that ends with this one, whatever ends this one, where the system can do that.
fn bound_to_us(program: &Path) -> Command {
    match look_for("setpriv", &env::var_os("PATH").unwrap_or_default()) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> std::ffi::OsString {
        env::var_os("PATH").unwrap_or_default()
    }

    #[test]
    fn a_program_is_found_in_the_path_and_where_administrators_have_theirs() {
        let found = look_for("sh", &path()).expect("every system has a shell");
        assert!(found.is_absolute() && found.ends_with("sh"), "{}", found.display());
        assert_eq!(look_for("no-such-program-here", &path()), None);
        let folder = env::temp_dir().join(format!("tunnel-look-for-{}", std::process::id()));
        fs::create_dir_all(folder.join("nginx")).unwrap();
        assert_ne!(
            look_for("nginx", folder.as_os_str()),
            Some(folder.join("nginx")),
            "a folder is no program"
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn redis_answers_when_it_has_started_and_is_gone_when_dropped() {
        let redis = look_for("redis-server", &path()).expect("redis-server is here");
        let programs = Programs { redis, python: PathBuf::new() };
        let (one, two) = (Redis::start(&programs).unwrap(), Redis::start(&programs).unwrap());
        assert_ne!(one.url(), two.url());
        assert_eq!(one.url(), format!("redis://127.0.0.1:{}", one.port));
        let (port, folder) = (one.port, one.folder.clone());
        drop(one);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "nobody listens any more");
        assert!(!folder.exists());
        two.ping().unwrap();
    }

    #[test]
    fn a_server_that_does_not_start_is_an_error_with_what_it_said() {
        let programs = Programs { redis: look_for("sh", &path()).unwrap(), python: PathBuf::new() };
        let error = Redis::start(&programs).err().expect("a shell is no Redis");
        assert!(error.to_string().contains("redis-server didn't start"), "{error:#}");
    }
}

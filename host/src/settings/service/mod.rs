//! `tunnel service`: runs a role under systemd, from its command line.
//!
//! Owns what of a command line may stand in a unit, which everybody on the machine can read, and in which form: paths are whole.

mod unit;

use std::{
    any::TypeId,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::Command as Program,
};

use clap::{Args, Command, CommandFactory, Parser, Subcommand};

use self::unit::{MARK, Role, Scope, Unit};
use super::cli::{Cli, Command as Chosen};

/// `tunnel service`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Write a unit of systemd for a role with its arguments, and start it now and with the machine
    #[command(after_help = EXAMPLES)]
    Install(InstallArgs),
    /// Stop the service, and take its unit away
    Uninstall(WhichArgs),
    /// Say how the service is
    Status(WhichArgs),
}

const EXAMPLES: &str = "\
Examples:
  tunnel service install -- proxy --config /etc/tunnel/proxy.toml
  tunnel service install --user -- 3000 --proxy https://example.com
  tunnel service install --print -- proxy --config /etc/tunnel/proxy.toml";

/// `tunnel service install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Show the unit, and do nothing
    #[arg(long)]
    pub print: bool,

    /// Which service.
    #[command(flatten)]
    pub which: WhichArgs,

    /// What would stand after `tunnel`: the client's arguments, or `proxy` with its own
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<String>,
}

/// Which service is meant.
#[derive(Debug, Args)]
pub struct WhichArgs {
    /// For this user alone, while logged in (see loginctl enable-linger)
    #[arg(long)]
    pub user: bool,

    /// The unit's name [default: tunnel-client, or tunnel-proxy if that is installed or installs a proxy]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ServiceError {
    #[error(
        "services are run by systemd, and only on Linux; on this system start the program by what it has for that"
    )]
    NoSystemd,
    #[error("{0}")]
    Arguments(String),
    #[error(
        "{flag} has a password in it, which everybody on this machine could read; write it into a file: {instead}"
    )]
    Secret { flag: &'static str, instead: &'static str },
    #[error("{0:?} is no name for a unit; write letters, digits, - and _")]
    Name(String),
    #[error(
        "a service of the system can't see {}, which is somebody's own folder; put it elsewhere (the program \
         into /usr/local/bin, files into /etc/tunnel), or install for this user alone with --user",
        .0.display()
    )]
    OutOfSight(PathBuf),
    #[error("{} is there already, and not from here; give another --name, or remove it", .0.display())]
    Foreign(PathBuf),
    #[error("there is no such service: {} isn't there", .0.display())]
    Absent(PathBuf),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the folder of this user's units isn't known: HOME isn't set")]
    NoHome,
    #[error("{command} failed: {why}")]
    Systemctl { command: String, why: String },
}

/// Does what was asked for; gives what is to be shown.
///
/// # Errors
/// It can't be done; says why.
pub fn service(command: ServiceCommand) -> Result<String, ServiceError> {
    if !cfg!(target_os = "linux") {
        return Err(ServiceError::NoSystemd);
    }
    match command {
        ServiceCommand::Install(args) => install(&args),
        ServiceCommand::Uninstall(which) => uninstall(&which),
        ServiceCommand::Status(which) => {
            let (name, path) = which.installed()?;
            // It says by its exit code whether the service runs; its words do as well.
            let output = which.systemctl(["status", "--no-pager", &name]).output();
            let output = output.map_err(|error| failed("systemctl status", error.to_string()))?;
            Ok(format!("{}\n{}", path.display(), String::from_utf8_lossy(&output.stdout)))
        }
    }
}

fn install(args: &InstallArgs) -> Result<String, ServiceError> {
    let scope = args.which.scope();
    let (role, arguments) = checked(&args.arguments)?;
    let name = args.which.name.clone().unwrap_or_else(|| default_name(role).to_owned());
    proper(&name)?;
    let program = std::env::current_exe().and_then(|path| path.canonicalize());
    let program = program.map_err(|source| ServiceError::File { path: "tunnel".into(), source })?;
    if scope == Scope::System {
        in_sight(&program, &arguments)?;
    }
    let text = Unit { name: &name, scope, role, program: &program, arguments: &arguments }.text();
    if args.print {
        return Ok(text);
    }
    let path = args.which.path(&name)?;
    let written = std::fs::read_to_string(&path).ok();
    if written.is_some_and(|written| !written.starts_with(MARK)) {
        return Err(ServiceError::Foreign(path));
    }
    let written =
        path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
    written.map_err(|source| ServiceError::File { path: path.clone(), source })?;
    args.which.run(["daemon-reload"])?;
    args.which.run(["enable", &name])?;
    // Also where it runs already, by other arguments.
    args.which.run(["restart", &name])?;
    let user = if scope == Scope::User { "--user " } else { "" };
    Ok(format!(
        "{} runs, and starts by itself: {}\nIts log: journalctl {user}-u {name}\n",
        name,
        path.display()
    ))
}

fn uninstall(which: &WhichArgs) -> Result<String, ServiceError> {
    let (name, path) = which.installed()?;
    if !std::fs::read_to_string(&path).is_ok_and(|text| text.starts_with(MARK)) {
        return Err(ServiceError::Foreign(path));
    }
    which.run(["disable", "--now", &name])?;
    std::fs::remove_file(&path).map_err(|source| ServiceError::File { path: path.clone(), source })?;
    which.run(["daemon-reload"])?;
    Ok(format!("{name} is stopped and gone; what it kept stays in its folders\n"))
}

impl WhichArgs {
    fn scope(&self) -> Scope {
        if self.user { Scope::User } else { Scope::System }
    }

    fn path(&self, name: &str) -> Result<PathBuf, ServiceError> {
        let folder = match self.scope() {
            Scope::System => PathBuf::from("/etc/systemd/system"),
            Scope::User => {
                let base = etcetera::choose_base_strategy().map_err(|_| ServiceError::NoHome)?;
                etcetera::BaseStrategy::config_dir(&base).join("systemd/user")
            }
        };
        Ok(folder.join(format!("{name}.service")))
    }

    /// The service that is meant, and its unit, which is there.
    fn installed(&self) -> Result<(String, PathBuf), ServiceError> {
        if let Some(name) = &self.name {
            proper(name)?;
        }
        let usual = [Role::Proxy, Role::Client].map(default_name);
        let names = self.name.as_deref().map_or(usual.to_vec(), |name| vec![name]);
        let mut last = PathBuf::new();
        for name in names {
            last = self.path(name)?;
            if last.exists() {
                return Ok((name.to_owned(), last));
            }
        }
        Err(ServiceError::Absent(last))
    }

    fn systemctl<const N: usize>(&self, arguments: [&str; N]) -> Program {
        let mut program = Program::new("systemctl");
        if self.user {
            program.arg("--user");
        }
        program.args(arguments);
        program
    }

    fn run<const N: usize>(&self, arguments: [&str; N]) -> Result<(), ServiceError> {
        let shown = format!("systemctl {}", arguments.join(" "));
        let output = self.systemctl(arguments).output();
        let output = output.map_err(|error| failed(&shown, error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(&shown, String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")))
    }
}

fn failed(command: &str, why: String) -> ServiceError {
    ServiceError::Systemctl { command: command.to_owned(), why }
}

fn default_name(role: Role) -> &'static str {
    match role {
        Role::Proxy => "tunnel-proxy",
        Role::Client => "tunnel-client",
    }
}

/// It becomes a file's name, a user's and a folder's.
fn proper(name: &str) -> Result<(), ServiceError> {
    let proper = (1..=31).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    if proper { Ok(()) } else { Err(ServiceError::Name(name.to_owned())) }
}

/// The role that a command line runs, and its words with whole paths.
fn checked(words: &[String]) -> Result<(Role, Vec<String>), ServiceError> {
    if let Some(word) = words.iter().find(|word| word.contains(char::is_control)) {
        return Err(ServiceError::Arguments(format!("{word:?} can't stand in a unit")));
    }
    let all = std::iter::once("tunnel").chain(words.iter().map(String::as_str));
    let cli = Cli::try_parse_from(all).map_err(|error| {
        let text = error.to_string();
        ServiceError::Arguments(format!(
            "the arguments are none of tunnel's: {}",
            text.lines().next().unwrap_or_default().trim_start_matches("error: ")
        ))
    })?;
    let command = Cli::command();
    let (role, command) = match &cli.command {
        None => (Role::Client, command),
        Some(Chosen::Proxy(args)) => {
            if args.bus.as_ref().is_some_and(|bus| bus.has_password()) {
                let instead = "bus_password = { file = \"…\" } in the settings file";
                return Err(ServiceError::Secret { flag: "--bus", instead });
            }
            let proxy = command.find_subcommand("proxy").expect("it was just read").clone();
            (Role::Proxy, proxy)
        }
        Some(_) => {
            let text = "a service runs a client or a proxy; write `-- proxy …`, or `-- 3000 --proxy …`";
            return Err(ServiceError::Arguments(text.to_owned()));
        }
    };
    Ok((role, with_whole_paths(&command, words)))
}

/// A unit has no folder that its paths could start at.
fn with_whole_paths(command: &Command, words: &[String]) -> Vec<String> {
    let takes_path = |flag: &str| {
        let named = command.get_arguments().find(|argument| argument.get_long() == flag.strip_prefix("--"));
        named.is_some_and(|argument| {
            // What a plugin's flag names begins with its file.
            argument.get_value_parser().type_id() == TypeId::of::<PathBuf>() || flag == "--plugin"
        })
    };
    let mut after = false;
    let whole = words.iter().map(|word| {
        if std::mem::replace(&mut after, false) {
            return whole(word);
        }
        match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") && takes_path(flag) => {
                format!("{flag}={}", whole(value))
            }
            _ => {
                after = takes_path(word);
                word.clone()
            }
        }
    });
    whole.collect()
}

fn whole(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |whole| whole.display().to_string())
}

/// The unit keeps a service from everybody's own folders, so that nothing of theirs may stand there.
fn in_sight(program: &Path, arguments: &[String]) -> Result<(), ServiceError> {
    let values = arguments.iter().map(|word| word.split_once('=').map_or(word.as_str(), |(_, value)| value));
    let paths = std::iter::once(program).chain(values.map(|value| Path::new(OsStr::new(value))));
    let hidden = ["/home", "/root", "/run/user"];
    let mut out = paths.filter(|path| hidden.iter().any(|folder| path.starts_with(folder)));
    out.next().map_or(Ok(()), |path| Err(ServiceError::OutOfSight(path.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn paths_are_whole_and_all_else_stays() {
        let here = std::env::current_dir().unwrap().display().to_string();
        let (role, arguments) = checked(&words(
            "proxy --config proxy.toml --tls-key=a/key.pem --tls-certificate /c.pem --rate off",
        ))
        .unwrap();
        assert_eq!(role, Role::Proxy);
        let expected = format!(
            "proxy --config {here}/proxy.toml --tls-key={here}/a/key.pem --tls-certificate /c.pem --rate off"
        );
        assert_eq!(arguments, words(&expected));
        let (role, arguments) = checked(&words("3000 --proxy https://a.b --plugin auth.wasm?x=y")).unwrap();
        assert_eq!((role, &arguments[4]), (Role::Client, &format!("{here}/auth.wasm?x=y")));
    }

    #[test]
    fn what_is_no_role_or_shows_a_secret_is_refused() {
        for (line, says) in [
            ("demo", "a service runs a client or a proxy"),
            ("proxy --nonsense", "unexpected argument"),
            ("proxy --bus redis://user:secret@host/0", "--bus has a password"),
        ] {
            let error = checked(&words(line)).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("secret@"), "{line}: {error}");
        }
        assert!(checked(&["a\nb".to_owned()]).is_err());
        for name in ["", "../x", "a b", "-a", "A", "a.service"] {
            assert!(proper(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_service_of_the_system_reaches_into_nobodys_folder() {
        let program = Path::new("/usr/bin/tunnel");
        assert!(in_sight(program, &words("proxy --config /etc/tunnel/proxy.toml")).is_ok());
        assert!(in_sight(program, &words("proxy --config /home/a/proxy.toml")).is_err());
        assert!(in_sight(program, &words("proxy --config=/root/proxy.toml")).is_err());
        assert!(in_sight(Path::new("/home/a/tunnel"), &[]).is_err());
    }
}

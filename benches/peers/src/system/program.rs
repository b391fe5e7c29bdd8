//! Programs: where they are, what they say that they are, and whether they listen.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{net::TcpStream, process::Command, time::sleep};

use super::PATIENCE;

/// A program in one of these folders, or where programs are.
pub(super) fn find(name: &str, folders: &[&Path]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bins = folders.iter().map(|folder| folder.join("bin"));
    let all = bins.chain(std::env::split_paths(&path)).chain(["/usr/sbin".into()]);
    let mut files = all.map(|folder| folder.join(name));
    files.find(|file| file.is_file()).with_context(|| format!("{name} isn't installed"))
}

pub(super) async fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output().await else { return String::new() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text).into_owned();
    // Some say it in a line, some in a form.
    let labelled = text.lines().find_map(|line| line.strip_prefix("Build Version:"));
    labelled.or(text.lines().find(|line| !line.trim().is_empty())).unwrap_or_default().trim().to_owned()
}

/// An address on which nobody listens.
pub(super) fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

pub(super) async fn listening(address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        if start.elapsed() > PATIENCE {
            bail!("nobody listens on {address}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

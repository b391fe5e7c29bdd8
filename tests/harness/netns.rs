//! A network namespace for one node: its way to Redis is a link of its own, which really goes down, loses and delays packets,
//! with the kernel's TCP on both sides of it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

use rustix::process::geteuid;

use super::program;

/// Where visitors and clients reach the node.
const PORT: u16 = 6519;

/// A namespace with two links to this one: `front` for visitors, `bus` for Redis. Gone when dropped.
pub(crate) struct Namespace {
    /// Of the namespace; the links' names begin with it.
    name: String,
    front: Link,
    bus: Link,
}

/// A pair of connected interfaces, one on each side.
struct Link {
    /// The interface on this side.
    name: String,
    here: Ipv4Addr,
    there: Ipv4Addr,
}

impl Namespace {
    /// Makes one; or says why that can't be, in one line.
    pub(crate) fn make() -> Option<Self> {
        if !geteuid().is_root() {
            println!("skipped: a network namespace takes root");
            return None;
        }
        let namespace = Self::of(next());
        if let Err(why) = namespace.set_up() {
            println!("skipped: this machine makes no network namespace: {why}");
            return None;
        }
        Some(namespace)
    }

    fn of(number: u8) -> Self {
        // For benchmarks and tests alone (RFC 2544); one small network for each link.
        let third = u8::try_from(std::process::id() % 250).expect("below 250");
        let link = |name: String, last: u8| Link {
            name,
            here: Ipv4Addr::new(198, 18 + number % 2, third, last),
            there: Ipv4Addr::new(198, 18 + number % 2, third, last + 1),
        };
        let name = format!("tunnel{third}x{number}");
        let base = (number / 2) * 8;
        let (front, bus) = (link(format!("{name}f"), base + 1), link(format!("{name}b"), base + 5));
        Self { name, front, bus }
    }

    fn set_up(&self) -> Result<(), String> {
        let name = &self.name;
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))?;
        for Link { name: link, here, there } in [&self.front, &self.bus] {
            ip(&format!("link add {link} type veth peer name {link}p netns {name}"))?;
            ip(&format!("address add {here}/30 dev {link}"))?;
            ip(&format!("link set {link} up"))?;
            ip(&format!("-n {name} address add {there}/30 dev {link}p"))?;
            ip(&format!("-n {name} link set {link}p up"))?;
        }
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its node listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        (self.front.there, PORT).into()
    }

    /// Where Redis has to listen to be reached from inside; all others reach it there too.
    pub(crate) fn redis(&self) -> IpAddr {
        self.bus.here.into()
    }

    /// Lets nothing through to Redis, and nothing back. TCP is told nothing.
    pub(crate) fn down(&self) {
        self.link("down");
    }

    /// Lets it through again.
    pub(crate) fn up(&self) {
        self.link("up");
    }

    fn link(&self, to: &str) {
        ip(&format!("link set {} {to}", self.bus.name)).expect("the link is ours");
    }

    /// Makes the link to Redis delay and lose packets (tc-netem(8)), both ways; or says in one line why that can't be.
    pub(crate) fn trouble(&self, what: &str) -> bool {
        let (name, link) = (&self.name, &self.bus.name);
        let tc = program("tc", "iproute2");
        let both = run(&tc, &format!("qdisc add dev {link} root netem {what}"))
            .and_then(|()| run(&tc, &format!("-n {name} qdisc add dev {link}p root netem {what}")));
        if let Err(why) = &both {
            println!("skipped: this kernel has no netem to delay and lose packets: {why}");
        }
        both.is_ok()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The links go with it, whose other ends are inside. What was never made can't be removed.
        let _ = ip(&format!("netns delete {}", self.name));
        for link in [&self.front, &self.bus] {
            let _ = ip(&format!("link delete {}", link.name));
        }
    }
}

/// A number that no other test of this process has at the same time.
fn next() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    // 31 networks of 8 addresses in each of two ranges; no run makes as many.
    NEXT.fetch_add(1, Ordering::Relaxed) % 62
}

fn ip(arguments: &str) -> Result<(), String> {
    run(&program("ip", "iproute2"), arguments)
}

fn run(program: &str, arguments: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

//! A unit of systemd as text: what runs, and all that it is kept from.
//!
//! Pure; must not know where it is written, or how systemd is told.

use std::{fmt::Write, path::Path};

/// The first line, by which a file is known as one of ours.
pub(super) const MARK: &str =
    "# Made by `tunnel service install`; what is changed here is lost when that is run again.";

/// Whose unit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The system's: it runs as a user of its own, from the start of the machine.
    System,
    /// The caller's, who has few of systemd's means to keep it from things.
    User,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Proxy,
    Client,
}

/// A unit.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    pub(super) name: &'a str,
    pub(super) scope: Scope,
    pub(super) role: Role,
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [String],
}

/// What holds for both scopes: filters of system calls, which need no privileges.
const FOR_ALL: &str = "\
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
# AF_NETLINK is what looking up names asks for the machine's own addresses.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
UMask=0077
# Not MemoryDenyWriteExecute: plugins are compiled to machine code when they are loaded.
";

/// What the system alone can keep a service from.
const FOR_SYSTEM: &str = "\
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
";

impl Unit<'_> {
    /// The file's text.
    pub(super) fn text(&self) -> String {
        let mut out = format!("{MARK}\n[Unit]\n");
        let description = match self.role {
            Role::Proxy => "Tunnel proxy: services behind firewalls at public names",
            Role::Client => "Tunnel client: a service of this machine at a public name",
        };
        let _ = writeln!(out, "Description={description}");
        if self.scope == Scope::System {
            // Names have to be looked up.
            out.push_str("Wants=network-online.target\nAfter=network-online.target\n");
        }
        // Tried again for ever: what it lacks may come, an address or a file.
        out.push_str("StartLimitIntervalSec=0\n\n[Service]\nType=exec\n");
        let _ = writeln!(out, "ExecStart={}", self.command());
        out.push_str("ExecReload=/bin/kill -HUP $MAINPID\nRestart=on-failure\nRestartSec=5\n");
        // Longer than --grace-period and what comes after it.
        out.push_str("TimeoutStopSec=40\n");
        if self.role == Role::Proxy {
            out.push_str("# Each connection is an open file.\nLimitNOFILE=1048576\n");
        }
        out.push('\n');
        if self.scope == Scope::System {
            self.write_system(&mut out);
        }
        out.push_str(FOR_ALL);
        let target = if self.scope == Scope::System { "multi-user.target" } else { "default.target" };
        let _ = write!(out, "\n[Install]\nWantedBy={target}\n");
        out
    }

    fn write_system(&self, out: &mut String) {
        let name = self.name;
        let _ = write!(
            out,
            "# A user that is there while it runs; one of this name that is there already is taken instead.\n\
             DynamicUser=yes\nUser={name}\n\
             # Keys and compiled plugins.\n\
             StateDirectory={name}\nStateDirectoryMode=0700\nCacheDirectory={name}\nCacheDirectoryMode=0700\n\
             Environment=XDG_CONFIG_HOME=%S/{name} XDG_CACHE_HOME=%C/{name}\n"
        );
        let capability = match self.role {
            // Ports 80 and 443.
            Role::Proxy => "CAP_NET_BIND_SERVICE",
            Role::Client => "",
        };
        let _ = writeln!(out, "AmbientCapabilities={capability}\nCapabilityBoundingSet={capability}");
        out.push_str(FOR_SYSTEM);
    }

    fn command(&self) -> String {
        let program = self.program.display().to_string();
        let words = std::iter::once(&program).chain(self.arguments);
        words.map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// A word of ExecStart (systemd.service(5), "Command lines"): specifiers and variables stand for themselves.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%$+".contains(&byte);
    if !word.is_empty() && escaped.bytes().all(plain) { escaped } else { format!("\"{escaped}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_for_themselves() {
        for (word, written) in [
            ("--proxy=https://a.b:1/c", "--proxy=https://a.b:1/c"),
            ("a b", "\"a b\""),
            ("100%", "100%%"),
            ("$HOME", "$$HOME"),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("x.wasm?a=b;c", "\"x.wasm?a=b;c\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(word), written);
        }
    }

    /// The files that packages take are what the program itself writes.
    #[test]
    fn the_units_of_packages_are_these() {
        let units = [
            (Role::Proxy, "tunnel-proxy", include_str!("../../../../packages/systemd/tunnel-proxy.service")),
            (
                Role::Client,
                "tunnel-client",
                include_str!("../../../../packages/systemd/tunnel-client.service"),
            ),
        ];
        for (role, name, expected) in units {
            let arguments: Vec<String> = match role {
                Role::Proxy => ["proxy", "--config", "/etc/tunnel/proxy.toml"].map(str::to_owned).to_vec(),
                Role::Client => ["--all", "--config", "/etc/tunnel/tunnel.toml"].map(str::to_owned).to_vec(),
            };
            let program = Path::new("/usr/bin/tunnel");
            let unit = Unit { name, scope: Scope::System, role, program, arguments: &arguments };
            let text = unit.text();
            assert!(text == expected, "packages/systemd/{name}.service should read:\n{text}");
        }
    }
}

//! `tunnel service`: the unit that it writes, and what it refuses. Nothing is installed by tests.

use crate::harness::{Exit, Process, path_text, process::find, tunnel::Home};

async fn print(home: &Home, arguments: &[&str]) -> Exit {
    home.run(&[&["service", "install", "--print"], arguments].concat()).await
}

#[tokio::test]
async fn systemd_takes_the_units_and_finds_them_well_kept() {
    let Some(analyze) = find("systemd-analyze") else {
        println!("skipped: there is no systemd-analyze here (on Debian: apt install systemd)");
        return;
    };
    let home = Home::new();
    for (name, arguments) in [
        ("tunnel-proxy.service", &["--", "proxy", "--config", "/etc/tunnel/proxy.toml"][..]),
        ("tunnel-client.service", &["--", "3000", "--proxy", "https://tunnels.example.com"]),
    ] {
        // The program under test stands where a service of the system can't see it, perhaps.
        let exit = print(&home, &[&["--user"], arguments].concat()).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        let folder = format!("{}/../packages/systemd/{name}", env!("CARGO_MANIFEST_DIR"));
        let packaged = std::fs::read_to_string(folder).expect("the unit of a package");
        // Another folder, so that the program is there.
        let packaged = packaged.replace("/usr/bin/tunnel", crate::harness::process::TUNNEL);
        for (kind, text) in [("user", exit.stdout), ("system", packaged)] {
            let file = home.file(name);
            std::fs::write(&file, &text).expect("a temporary folder can be written to");
            let scope = format!("--{kind}");
            let verify = ["verify", "--man=no", &scope, path_text(&file)];
            let exit = Process::run("systemd-analyze", home.path(), &analyze, verify, &[]).exit().await;
            let complaints: Vec<&str> = exit.stderr.lines().filter(|line| line.contains(name)).collect();
            assert!(complaints.is_empty(), "{kind} {complaints:?}\n{text}");
            if kind == "system" {
                let rate = ["security", "--no-pager", "--offline=true", "--threshold=25", path_text(&file)];
                let exit = Process::run("systemd-analyze", home.path(), &analyze, rate, &[]).exit().await;
                assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
            }
        }
    }
}

#[tokio::test]
async fn a_unit_has_whole_paths_and_no_secret() {
    let home = Home::new();
    let exit = print(&home, &["--user", "--", "proxy", "--config", "proxy.toml"]).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let config = home.path().canonicalize().expect("it is there").join("proxy.toml");
    assert!(
        exit.stdout.contains(&format!("tunnel proxy --config {}\n", config.display())),
        "{}",
        exit.stdout
    );
    for (arguments, says) in [
        (&["--user", "--", "proxy", "--bus", "redis://a:hidden@host/0"][..], "--bus has a password in it"),
        (&["--user", "--", "key", "show"], "a service runs a client or a proxy"),
        (&["--user", "--name", "../x", "--", "3000"], "is no name for a unit"),
        (&["--", "3000", "--key", "/root/key.pem"], "is somebody's own folder"),
    ] {
        let exit = print(&home, arguments).await;
        assert_eq!(exit.code, Some(1), "{arguments:?} {exit:?}");
        assert!(exit.stderr.contains(says) && !exit.stderr.contains("hidden"), "{arguments:?} {exit:?}");
    }
}

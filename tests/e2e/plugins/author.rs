//! What the author of a plugin does: from nothing to a plugin that guards a tunnel, with the commands of its README.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::harness::{Origin, Setup, compiled, guest, origin::ok, path_text, tunnel::Home};

/// The commands of the first block of shell under a heading.
fn commands(readme: &str, heading: &str) -> Vec<String> {
    let section = readme.split(&format!("## {heading}\n")).nth(1).expect("the heading is there");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split("   #").next().unwrap_or_default().trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// Types a command into a shell, as it stands. Dependencies and the standard library were built before, for the examples.
async fn type_in(folder: &Path, command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_tunnel")).parent().expect("it is in a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests-build");
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-ec", command]).current_dir(folder).env("PATH", path).kill_on_drop(true);
    // Inside `cargo test` these speak of this package, and would speak of it to the new one.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUSTC") {
            shell.env_remove(&*name);
        }
    }
    let output =
        shell.env("CARGO_TARGET_DIR", built).stdin(Stdio::null()).output().await.expect("there is sh");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command}: {said}");
    said
}

/// Whether rustup has the target that the README asks for first.
async fn has_wasip2(folder: &Path) -> bool {
    let libraries = type_in(folder, "rustc --print target-libdir --target wasm32-wasip2").await;
    Path::new(libraries.trim()).is_dir()
}

#[tokio::test]
async fn a_new_plugin_goes_from_nothing_to_guarding_a_tunnel_as_its_readme_says() {
    let home = Home::new();
    type_in(home.path(), "tunnel plugin new my-gate").await;
    let folder = home.file("my-gate");
    let readme = std::fs::read_to_string(folder.join("README.md")).expect("it has a README");
    assert!(type_in(&folder, "cargo test").await.contains("1 passed"));

    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests-build"));
    let target = if has_wasip2(&folder).await {
        for command in commands(&readme, "Test, build, run").iter().filter(|c| c.starts_with("cargo build")) {
            type_in(&folder, command).await;
        }
        "wasm32-wasip2"
    } else {
        for command in commands(&readme, "Without rustup") {
            type_in(&folder, &command).await;
        }
        "wasm32-unknown-unknown"
    };
    let wasm = built.join(target).join("release/my_gate.wasm");
    // The commands that follow name the file as cargo lays it down without a shared target folder.
    let here = |command: &str| command.replace("target/wasm32-wasip2/release/my_gate.wasm", path_text(&wasm));
    let tries: Vec<String> = commands(&readme, "Test, build, run")
        .iter()
        .filter(|command| command.starts_with("tunnel plugin "))
        .map(|command| here(command))
        .collect();
    assert_eq!(tries.len(), 3, "check, and a request without and with the token");
    assert!(type_in(&folder, &tries[0]).await.contains("hooks    request"));
    assert!(type_in(&folder, &tries[1]).await.contains("401 Unauthorized"));
    assert!(type_in(&folder, &tries[2]).await.contains("The request was forwarded"));

    let last = commands(&readme, "Test, build, run").pop().map(|command| here(&command)).expect("a last one");
    let plugin = last
        .strip_prefix("tunnel 3000 --plugin '")
        .and_then(|rest| rest.strip_suffix('\''))
        .expect("it publishes");
    let origin = Origin::start().await.answering(|_| ok("inside"));
    let cache = compiled();
    let tunnel =
        Setup::new().client(&["--plugin", plugin, "--plugin-cache", &cache]).start(&origin.url()).await;
    assert_eq!(tunnel.get("/").await.status(), 401);
    assert_eq!(origin.seen().len(), 0);
    let mut visitor = tunnel.visit().await;
    visitor
        .send(format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer open sesame\r\n\r\n",
            tunnel.host()
        ))
        .await;
    assert_eq!(visitor.reply("GET").await.text(), "inside");
}

#[tokio::test]
async fn new_leaves_alone_what_is_there_and_refuses_bad_names() {
    let home = Home::new();
    std::fs::create_dir(home.file("mine")).expect("a folder");
    for (name, says) in [("mine", "is there already"), ("Bad Name", "is no name for a crate")] {
        let exit = home.run(&["plugin", "new", name]).await;
        assert_ne!(exit.code, Some(0));
        assert!(exit.stderr.contains(says), "{}", exit.stderr);
    }
    assert_eq!(std::fs::read_dir(home.file("mine")).expect("it is there").count(), 0);
}

#[tokio::test]
async fn check_says_of_anything_what_it_is() {
    let home = Home::new();
    let text = home.file("a.wasm");
    std::fs::write(&text, "fn main() {}").expect("a file");
    let application = guest("hello-http");
    for (file, says) in [
        (path_text(&text), "it is no WebAssembly: it is text"),
        (env!("CARGO_BIN_EXE_tunnel"), "it is a program for Linux"),
        ("nowhere.wasm", "can't be read"),
        (path_text(&application), "it is an application"),
    ] {
        let exit = home.run(&["plugin", "check", file]).await;
        assert_eq!(exit.code, Some(1), "{file}: {exit:?}");
        assert!(exit.stderr.contains(says), "{file}: {}", exit.stderr);
    }
}

#[tokio::test]
async fn run_shows_edits_answers_and_failures_and_bench_measures() {
    let home = Home::new();
    let wasm = guest("hostile");
    let run = async |deed: &str| {
        let config = format!("{{\"on-request\":\"{deed}\"}}");
        let exit = home
            .run(&["plugin", "run", path_text(&wasm), "--config", &config, "-H", "x-remove: 1", "/a"])
            .await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        exit
    };
    let edited = run("good").await;
    assert!(edited.stdout.contains("- x-remove: 1") && edited.stdout.contains("+ x-hostile: was here"));
    assert!(run("respond").await.stdout.contains("| a teapot"));
    let trapped = run("trap").await;
    assert!(
        trapped.stdout.contains("was not forwarded") && trapped.stdout.contains("trapped"),
        "{trapped:?}"
    );
    let exit = home.run(&["plugin", "bench", path_text(&wasm), "--exchanges", "20"]).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(
        exit.stdout.contains("reused instance") && exit.stdout.contains("fresh instance"),
        "{}",
        exit.stdout
    );
}

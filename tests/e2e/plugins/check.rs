//! `--check` and `--explain`: every mistake at once, each with its place, and nothing started.

use crate::harness::{Exit, compiled, guest, path_text, tunnel::Home};

const NAME: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst";

async fn check(home: &Home, text: &str, more: &[&str]) -> Exit {
    let path = home.file("proxy.toml");
    std::fs::write(&path, text).expect("a file");
    let cache = compiled();
    let fixed =
        ["proxy", "--config", path_text(&path), "--plugin-cache", &cache, "--check", "--open-registration"];
    home.run(&fixed.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).await
}

fn plugin(name: &str, more: &str) -> String {
    let wasm = guest("hostile");
    format!("[[plugin]]\nname = '{name}'\nfile = {wasm:?}\n{more}\n")
}

#[tokio::test]
async fn what_is_good_is_summed_up() {
    let home = Home::new();
    let text = format!(
        "domain = 'dev.example.com'\n{}{}[[policy]]\ndomain = '*.dev.example.com'\npath = '/api/*'\n\
         plugins = ['b', 'a']\n[[policy]]\ndomain = '*'\n",
        plugin("a", ""),
        plugin("b", "")
    );
    let exit = check(&home, &text, &[]).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    for says in
        ["is good: 2 plugins, 2 policies", "*.dev.example.com/api/*", "b -> a -> the tunnel", "proxy.toml:"]
    {
        assert!(exit.stdout.contains(says), "{says}: {}", exit.stdout);
    }
}

#[tokio::test]
async fn every_mistake_is_told_at_once() {
    let home = Home::new();
    std::fs::write(home.file("text.wasm"), "fn main() {}").expect("a file");
    let probe = guest("probe");
    let text = format!(
        "domain = 'example.com'\ncolour = 'red'\nanswer_timeout = 30\n\
         {}{}{}\
         [[plugin]]\nname = 'text'\nfile = 'text.wasm'\n\
         [[plugin]]\nname = 'missing'\nfile = 'missing.wasm'\n\
         [[plugin]]\nname = 'probe'\nfile = {probe:?}\n\
         [[policy]]\ndomain = '*'\nplugins = ['refuses', 'pinned', 'text', 'missing', 'probe', 'nobody']\nmax_body = 'big'\n\
         [[policy]]\ndomain = 'http://x/'\n[[policy]]\ndomain = '*.example.com'\npath = 'api'\n\
         [limits]\nmax_header_bytes = '1kB'\n",
        plugin("refuses", "config = { init = 'fault' }"),
        plugin("pinned", &format!("sha256 = '{}'", "0".repeat(64))),
        plugin("greedy", "limits = { memory = 'much' }"),
    );
    let exit = check(&home, &text, &[]).await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(!exit.stdout.contains("good"), "{}", exit.stdout);
    for (line, key, says) in [
        ("line 2: ", "", "unknown field `colour`"),
        ("line 3", "answer_timeout", "write a number and a unit"),
        ("line 7", "plugin.config", "its init refused the configuration"),
        ("line 11", "plugin.sha256", "if it is the right one all the same, write sha256 = "),
        ("line 15", "plugin.limits.memory", "is no size"),
        ("line 18", "plugin.file", "it is no WebAssembly: it is text"),
        ("line 21", "plugin.file", "can't be read"),
        // No grant is written: the plugin's own line.
        ("line 22", "plugin.grant", "add grant = "),
        ("line 27", "policy.plugins", "there is no plugin \"nobody\""),
        ("line 28", "policy.max_body", "is no size"),
        ("line 30", "policy.domain", "no host of a tunnel"),
        ("line 33", "policy.path", "write / first"),
        ("line 31", "policy", "nothing gets here"),
        ("line 35", "limits.max_header_bytes", "at least 8192"),
    ] {
        let found = exit.stderr.lines().any(|told| {
            told.contains("proxy.toml, ") && told.contains(line) && told.contains(key) && told.contains(says)
        });
        assert!(found, "{line}, {key}: {says}\n{}", exit.stderr);
    }
}

#[tokio::test]
async fn what_may_have_been_overlooked_is_no_mistake() {
    let home = Home::new();
    let text =
        format!("domain = 'example.com'\n{}[[policy]]\ndomain = '*.example.org'\n", plugin("idle", ""));
    let exit = check(&home, &text, &[]).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    for says in ["warning: ", "no policy names idle", "no tunnel of this proxy has a host like *.example.org"]
    {
        assert!(exit.stdout.contains(says), "{says}: {}", exit.stdout);
    }
}

#[tokio::test]
async fn a_url_is_told_what_it_would_meet_and_why() {
    let home = Home::new();
    let text = format!(
        "domain = 'dev.example.com'\n{}[[policy]]\ndomain = '{NAME}'\n\
         [[policy]]\ndomain = '*.dev.example.com'\npath = '/api/*'\nplugins = ['auth']\nmax_body = '2GB'\n\
         rate = {{ requests = 500, per = '1m', burst = 1000 }}\n",
        plugin("auth", "")
    );
    for (url, says) in [
        (
            "https://x.dev.example.com/api/1",
            &[
                "not policy 1 (",
                "its domain is abcdef",
                "policy 2 (",
                "auth -> the tunnel",
                "max_body  2.0 GB (this policy's)",
                "rate      500 in 60s, burst 1000 (this policy's)",
                "timeout   30s (the proxy's)",
            ][..],
        ),
        ("https://x.dev.example.com/%61pi/1", &["auth -> the tunnel"]),
        (
            "https://x.dev.example.com/",
            &["its path is /api/*", "no policy: straight to the tunnel", "max_body  500.0 kB"],
        ),
        ("https://x.dev.example.com/api/..%2fpublic", &["400: the path can be read in several ways"]),
        (&format!("https://{NAME}.dev.example.com/api"), &["policy 1 ("]),
        (&format!("https://dev.example.com/proxy/request/{NAME}/api"), &["policy 1 ("]),
        ("https://dev.example.com/", &["the proxy answers by itself"]),
        ("https://example.org/", &["404: this proxy doesn't serve the host"]),
    ] {
        let exit = check(&home, &text, &["--explain", url]).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        for says in says {
            assert!(exit.stdout.contains(says), "{url}: {says}\n{}", exit.stdout);
        }
    }
    assert_eq!(check(&home, &text, &["--explain", "x.dev.example.com"]).await.code, Some(2));
}

#[tokio::test]
async fn a_clients_settings_are_checked_too() {
    let home = Home::new();
    let path = home.file("tunnel.toml");
    let good = format!("{}[targets.web]\ntarget = 3000\n", plugin("a", ""));
    for (text, code, says) in [
        (good.clone(), 0, "a, then http://localhost:3000"),
        (good.replace("hostile.wasm", "missing.wasm"), 1, "line 3, plugin.file"),
    ] {
        std::fs::write(&path, text).expect("a file");
        let cache = compiled();
        let exit =
            home.run(&["web", "--config", path_text(&path), "--plugin-cache", &cache, "--check"]).await;
        assert_eq!(exit.code, Some(code), "{exit:?}");
        assert!(exit.stdout.contains(says) || exit.stderr.contains(says), "{says}: {exit:?}");
        assert!(!home.file(".config/tunnel/key.pem").exists(), "nothing was started");
    }
}

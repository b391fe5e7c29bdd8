use std::path::Path;

use super::*;
use crate::settings::{
    document,
    file::{ProxyFile, TunnelFile},
};

/// The plan of a file with an admin listener at this address, or what is wrong.
fn proxy(text: &str, admin: &str, args: &AdminArgs) -> Result<ProxyPlan, String> {
    let mut mistakes = Mistakes::default();
    let (file, lines): (ProxyFile, Lines) =
        document::parse(Path::new("/etc/t/proxy.toml"), text, &mut mistakes);
    let in_file = file.observe();
    let admin = (!admin.is_empty()).then(|| admin.parse().unwrap());
    let plan = ProxyPlan::new(&in_file, args, admin, &lines, &mut Sources::default(), &mut mistakes);
    mistakes.settle().map(|()| plan).map_err(|error| error.to_string())
}

fn wrong(text: &str) -> String {
    proxy(text, "", &AdminArgs::default()).err().unwrap_or_else(|| panic!("nothing is wrong with {text}"))
}

#[test]
fn mistakes_say_where_they_are_and_what_to_write() {
    for (text, says) in [
        ("[access_log]\n", "line 1, access_log: it says not where to; write file ="),
        ("[access_log]\nfile = \"a\"\nformat = \"xml\"", "line 3, access_log.format: \"xml\" is no format"),
        ("[access_log]\nfile = \"a\"\nheaders = [\"a b\"]", "access_log.headers: \"a b\" can't be the name"),
        ("[access_log]\nfile = \"a\"\nheaders = [\"Cookie\"]", "Cookie holds what lets others in"),
        (
            "[access_log]\nfile = \"a\"\nformat = \"combined\"\nheaders = [\"x\"]",
            "the combined format has no place",
        ),
        ("[access_log]\nfile = \"a\"\npath = \"b\"", "unknown field `path`"),
        ("[traces]\notlp = \"127.0.0.1:4317\"", "line 2, traces.otlp: \"127.0.0.1:4317\" is no collector"),
        ("[traces]\notlp = \"http://a:4317\"\nratio = 2", "line 3, traces.ratio: it is a share"),
        ("[traces]\notlp = \"http://a:4317\"\ntrust = \"me\"", "\"me\" is nobody to be trusted"),
        ("metrics_per_tunnel = 100000", "line 1, metrics_per_tunnel: it can be 10000 at most"),
        ("admin_open = [\"all\"]", "admin_open: \"all\" is no door"),
        ("admin_open = [\"api\"]", "needs a token"),
        ("admin_token = \"secret\"", "a secret can't stand in this file"),
    ] {
        let error = wrong(text);
        assert!(error.contains(says), "{text}\n{error}");
    }
}

#[test]
fn a_listener_that_others_reach_asks_for_a_token_or_says_what_is_open() {
    let none = AdminArgs::default();
    let error = proxy("admin = \"0.0.0.0:6520\"", "0.0.0.0:6520", &none).err().unwrap();
    assert!(error.contains("line 1, admin: others reach it") && error.contains("admin_token"), "{error}");
    let error = proxy("", "0.0.0.0:6520", &none).err().unwrap();
    assert!(
        error.contains("--admin 0.0.0.0:6520: others reach it") && error.contains("--admin-token-file"),
        "{error}"
    );

    let local = proxy("", "127.0.0.1:6520", &none).unwrap();
    assert_eq!((local.admin_token, local.admin_open), (None, Open::ALL));

    let doors = "admin_open = [\"health\", \"metrics\"]";
    let plan = proxy(doors, "10.0.0.1:6520", &none).unwrap();
    assert_eq!(plan.admin_open, Open { health: true, metrics: true, api: false });

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let given = AdminArgs { admin_token_file: Some(file.clone()), admin_open: None };
    for (token, says) in
        [("short\n", "5 bytes can be guessed"), ("with a space in it, sixteen", "without spaces")]
    {
        std::fs::write(&file, token).unwrap();
        let error = proxy("", "10.0.0.1:6520", &given).err().unwrap();
        assert!(error.contains(says), "{error}");
    }
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let plan = proxy("", "10.0.0.1:6520", &given).unwrap();
    assert_eq!(plan.admin_token, Some(Token::new(b"0123456789abcdef")));
    assert_eq!(plan.admin_open, Open { health: true, metrics: false, api: false });
    // A token is asked for on this machine too, once there is one.
    assert!(!proxy("", "127.0.0.1:6520", &given).unwrap().admin_open.api);
    let at = format!("admin_token = {{ file = {:?} }}", file);
    assert!(proxy(&at, "10.0.0.1:6520", &none).unwrap().admin_token.is_some());
}

#[test]
fn what_is_on_is_told_by_check() {
    let text =
        "[access_log]\nfile = \"log/access.log\"\n[traces]\notlp = \"http://127.0.0.1:4317\"\nratio = 0.25";
    let told = proxy("", "127.0.0.1:1", &AdminArgs::default()).unwrap().describe();
    assert_eq!(told, ["admin  127.0.0.1:1, open to all who reach it: health, metrics, the API"]);
    let told = proxy("admin_open = ['health']", "10.0.0.1:1", &AdminArgs::default()).unwrap().describe();
    assert_eq!(told, ["admin  10.0.0.1:1, open to all who reach it: health, nothing else"]);
    let told = proxy(text, "", &AdminArgs::default()).unwrap().describe();
    assert_eq!(
        told,
        [
            "access log  /etc/t/log/access.log, json",
            "traces  http://127.0.0.1:4317, 25 % of those that begin here"
        ]
    );
}

#[test]
fn a_client_takes_its_proxys_word() {
    let client = |text: &str| {
        let mut mistakes = Mistakes::default();
        let (file, lines): (TunnelFile, Lines) =
            document::parse(Path::new("tunnel.toml"), text, &mut mistakes);
        let plan = ClientPlan::new(file.traces.as_ref(), None, &lines, &mut mistakes);
        mistakes.settle().map(|()| plan).map_err(|error| error.to_string())
    };
    let error = client("[traces]\notlp = \"http://a:4317\"\ntrust = \"nobody\"").unwrap_err();
    assert!(error.contains("traces.trust: it is the proxy's to decide"), "{error}");
    assert!(client("[traces]\notlp = \"http://a:4317\"").unwrap().traces.is_some());
    assert_eq!(client("").unwrap(), ClientPlan::default());
}

mod files {
    use super::super::writer::Writer;

    async fn written(path: &std::path::Path, lines: &[&str]) -> String {
        let writer = Writer::open(path).unwrap();
        let sink = writer.sink();
        for line in lines {
            sink((*line).to_owned());
        }
        writer.finish().await;
        std::fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn all_is_written_at_the_end_and_appended_to_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        assert_eq!(written(&path, &["a", "b"]).await, "a\nb\n");
        assert_eq!(written(&path, &["c"]).await, "a\nb\nc\n");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o007, 0, "{mode:o}");
        }
        assert!(Writer::open(&folder.path().join("no/such/folder")).is_err());
    }
}

//! What guests aren't lent, they can't have.

use serde_json::json;

use super::*;

#[tokio::test]
async fn without_a_grant_wasi_has_nothing() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let chain = load_probe(probe("sealed")).await;
    let script = json!([
        ["env"],
        ["args"],
        ["folders"],
        ["read", "/", "etc/passwd"],
        ["connect", port],
        ["resolve", "localhost"],
    ]);
    let done = run(&chain, script).await;
    for (step, expected) in [(0, json!([])), (1, json!([])), (2, json!([]))] {
        assert_eq!(done[step], expected, "{done}");
    }
    for step in 3..6 {
        assert!(done[step]["error"].is_string(), "{done}");
    }
    let came = futures_util::FutureExt::now_or_never(listener.accept());
    assert!(came.is_none(), "nobody came");
}

#[tokio::test]
async fn environment_and_folders_are_those_of_the_grant() {
    let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "outside").unwrap();
    std::fs::write(inside.path().join("file"), "inside").unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), inside.path().join("link")).unwrap();
    let mut config = probe("folders");
    config.grant.env.insert("COLOUR".to_owned(), "red".to_owned());
    let folder = |guest: &str, writable| config::Folder {
        host: inside.path().to_owned(),
        guest: guest.to_owned(),
        writable,
    };
    config.grant.folders = vec![folder("/data", false), folder("/work", true)];
    let chain = load_probe(config).await;
    let up = format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
    let script = json!([
        ["env"],
        ["folders"],
        ["read", "/data", "file"],
        ["write", "/data", "file", "changed"],
        ["write", "/data", "new", "x"],
        ["read", "/data", up],
        ["read", "/data", "link"],
        ["read", "/data", outside.path().join("secret").to_str().unwrap()],
        ["write", "/work", "new", "written"],
        ["write", "/work", "link", "x"],
    ]);
    let done = run(&chain, script).await;
    assert_eq!(done[0], json!([["COLOUR", "red"]]));
    assert_eq!(done[1], json!(["/data", "/work"]));
    assert_eq!(done[2], json!("inside"));
    for step in [3, 4, 5, 6, 7, 9] {
        assert!(done[step]["error"].is_string(), "{step}: {done}");
    }
    assert_eq!(done[8], json!(7));
    assert_eq!(std::fs::read(inside.path().join("new")).unwrap(), b"written");
    assert_eq!(std::fs::read(inside.path().join("file")).unwrap(), b"inside");
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"outside");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told_when_the_plugin_is_loaded() {
    let mut config = probe("no-folder");
    let host_folder = tempfile::tempdir().unwrap().path().join("gone");
    config.grant.folders =
        vec![config::Folder { host: host_folder.clone(), guest: "/".to_owned(), writable: false }];
    let Err(error) = host().load(&guest("probe"), config).await else { panic!("it was loaded") };
    let expected = format!("the folder {} that it is granted can't be opened", host_folder.display());
    assert!(error.to_string().contains(&expected), "{error}");
}

#[tokio::test]
async fn an_import_that_is_not_granted_is_refused_by_name_with_the_remedy() {
    type Takes = fn(&mut Grant);
    let cases: [(Takes, &str, &str); 3] = [
        (|grant| grant.kv = false, "kv", "kv = true"),
        (|grant| grant.secrets.clear(), "secrets", "secrets = [\"NAME\"]"),
        (|grant| grant.http.clear(), "http-client", "http = [\"https://HOST\"]"),
    ];
    for (take, interface, remedy) in cases {
        let mut config = probe("ungranted");
        take(&mut config.grant);
        let Err(LoadError::Import(text)) = host().load(&guest("probe"), config).await else {
            panic!("{interface} was lent without a grant")
        };
        assert_eq!(
            text,
            format!(
                "it imports tunnel:plugin/{interface}@0.1.0, which it isn't granted: add grant = {{ {remedy} }} if it \
                 may have it"
            )
        );
    }
}

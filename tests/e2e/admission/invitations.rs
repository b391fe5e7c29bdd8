//! Invitations: made by the operator, presented by a client, good for so many keys and so long.

use std::path::Path;

use crate::harness::{
    Client, Door, Exit, Origin, Process, Proxy,
    applicant::{self, Applicant},
    origin::ok,
    path_text,
    process::TUNNEL,
    tunnel::Home,
};

const SETTINGS: &str = "[registration]\ninvitations = 'invitations.toml'\n";

/// Makes an invitation in this folder's file.
async fn invite(home: &Home, more: &[&str]) -> String {
    let file = home.file("invitations.toml");
    let exit = home.run(&[&["proxy", "invite", "--file", path_text(&file)][..], more].concat()).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    exit.stdout.trim_end().to_owned()
}

async fn proxy(home: &Home) -> Proxy {
    let settings = home.write("proxy.toml", SETTINGS);
    Proxy::start(&["-v", "--config", path_text(&settings)]).await
}

/// What a client with this invitation ends with.
async fn turned_away(proxy: &Proxy, key: &Path, invitation: &Path) -> Exit {
    let arguments = ["--invitation-file", path_text(invitation)];
    Client::spawn(&proxy.url(), "http://127.0.0.1:9", key, &arguments).exit().await
}

#[tokio::test]
async fn an_invitation_lets_one_key_in_for_good_and_no_second_one() {
    let origin = Origin::start().await.answering(|_| ok("in"));
    let home = Home::new();
    let text = invite(&home, &["--name", "the shop", "--hostname", "shop"]).await;
    let file = home.write("invitation.txt", &format!("{text}\n"));
    let (one, other) = (home.file("one.pem"), home.file("other.pem"));
    let with = ["--invitation-file", path_text(&file)];
    let mut first = proxy(&home).await;
    let mut client = Client::start(&first.url(), &origin.url(), &one, &with).await;
    let exit = turned_away(&first, &other, &file).await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr.contains("yours isn't one of them"), "{}", exit.stderr);
    // Neither after a start of the client, nor of the proxy.
    client.process.stop().await;
    let said = first.process.stop().await;
    assert!(said.stderr.contains("an invitation let in a key"), "{said:?}");
    assert!(!format!("{said:?}").contains(&text), "the secret itself is nobody's to read");
    let second = proxy(&home).await;
    assert_eq!(turned_away(&second, &other, &file).await.code, Some(1));
    let wished = [&with[..], &["--hostname", "shop"]].concat();
    let client = Client::start(&second.url(), &origin.url(), &one, &wished).await;
    let door = Door { address: second.address, host: client.host().to_owned() };
    assert_eq!(client.label(), "shop");
    assert_eq!(door.get("/").await.text(), "in");
}

#[tokio::test]
async fn an_invitation_that_is_unknown_altered_or_late_lets_nobody_in() {
    let home = Home::new();
    let text = invite(&home, &[]).await;
    let late = invite(&home, &["--expires", "1ms"]).await;
    let proxy = proxy(&home).await;
    for (presented, code) in [
        (late, "invitation-expired"),
        ("tunnel-invitation-guess".to_owned(), "unknown-invitation"),
        (text[..text.len() - 1].to_owned(), "unknown-invitation"),
        (format!("{text} "), "unknown-invitation"),
    ] {
        let mut applicant = Applicant::connect(proxy.address).await;
        let mut statement = applicant::statement(proxy.address, applicant.nonce);
        statement.invitation = Some(presented);
        let refusal = applicant.apply(statement.sign(&applicant::key(1))).await.expect_err(code);
        assert_eq!((refusal.code.as_str(), refusal.retry), (code, false), "{refusal:?}");
    }
}

#[tokio::test]
async fn an_invitation_taken_back_ends_what_came_in_by_it() {
    let origin = Origin::start().await.answering(|_| ok("in"));
    let home = Home::new();
    let text = invite(&home, &["--uses", "2"]).await;
    let mut proxy = proxy(&home).await;
    // From the environment, where it stands in no list of processes.
    let arguments = [&origin.url(), "--proxy", &proxy.url(), "--log-format", "json"].map(str::to_owned);
    let variables = [("TUNNEL_INVITATION", text.as_str())];
    let mut client = Process::run("client", home.path(), TUNNEL, arguments, &variables);
    client.event("registered").await;
    home.write("invitations.toml", "");
    proxy.process.event("unregistered").await;
    let exit = client.exit().await;
    assert_eq!(exit.code, Some(1), "it doesn't try again: {exit:?}");
    assert!(exit.stderr.contains("doesn't know the invitation"), "{}", exit.stderr);
}

#[tokio::test]
async fn an_invitation_goes_over_no_open_line() {
    let home = Home::new();
    let file = home.write("invitation.txt", "tunnel-invitation-x");
    let key = home.file("key.pem");
    let arguments = ["--invitation-file", path_text(&file)];
    let mut client = Client::spawn("http://192.0.2.1:6519", "http://127.0.0.1:9", &key, &arguments);
    let exit = client.exit().await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr.contains("dial the proxy by https"), "{}", exit.stderr);
}

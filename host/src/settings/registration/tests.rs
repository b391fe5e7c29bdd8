//! What files and flags say about registration, and what follows from saying nothing.

use std::path::Path;

use clap::Parser;

use super::{
    super::{
        document::{self, Lines, Mistakes},
        file::ProxyFile,
        plugins::Sources,
        values::Domain,
    },
    *,
};
use crate::proxy::{Registration, admission::InvitationId};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "baaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The rules of a file in this folder, and whether they are open because nobody said anything; or the first mistake.
fn read(
    folder: &Path,
    text: &str,
    given: &Given,
    (listen, domain, url): (&str, &str, Option<&str>),
) -> Result<(Registration, Said), String> {
    let (mut mistakes, mut sources) = (Mistakes::default(), Sources::default());
    let (file, lines): (ProxyFile, Lines) = document::parse(&folder.join("proxy.toml"), text, &mut mistakes);
    let url = url.map(|url| url.parse().unwrap());
    let door =
        Door { listen: listen.parse().unwrap(), domain: &Domain(domain.into()), public_url: url.as_ref() };
    let read = door.rules(&file.registration, given, &lines, &mut sources, &mut mistakes);
    mistakes.errors.first().map_or(Ok(read), |error| Err(error.to_string()))
}

fn public(text: &str) -> Result<Registration, String> {
    let at = ("0.0.0.0:6519", "example.com", None);
    read(Path::new(""), text, &Given::default(), at).map(|(rules, _)| rules)
}

#[test]
fn a_proxy_that_others_reach_has_to_be_told_who_may_register() {
    let given = Given::default();
    for (at, why) in [
        (("127.0.0.1:6519", "localhost", None), None),
        (("[::1]:6519", "x.localhost", Some("http://localhost:80")), None),
        (("127.0.0.1:6519", "127.0.0.1", Some("http://[::1]:80")), None),
        (("0.0.0.0:6519", "localhost", None), Some("listens on 0.0.0.0:6519")),
        (("10.0.0.1:6519", "localhost", None), Some("listens on 10.0.0.1:6519")),
        (("127.0.0.1:6519", "example.com", None), Some("under example.com")),
        (("127.0.0.1:6519", "localhost", Some("https://t.example.com")), Some("reached at t.example.com")),
    ] {
        let (rules, said) = read(Path::new(""), "", &given, at).unwrap();
        match (said, why) {
            (Said::ByNobody, None) => assert!(rules.open, "{at:?}"),
            (Said::NobodyMay(error), Some(why)) => {
                let error = error.to_string();
                assert!(error.contains(why) && error.contains("--open-registration"), "{error}");
                assert!(!rules.open);
            }
            (said, _) => panic!("{at:?}: {said:?}"),
        }
        for (text, open) in [
            ("registration = { open = true }", true),
            ("registration = { open = false }", false),
            (&format!("[[registration.key]]\nname = '{A}'"), false),
            (&format!("registration.open = true\n[[registration.key]]\nname = '{A}'"), true),
        ] {
            let (rules, said) = read(Path::new(""), text, &given, at).unwrap();
            assert_eq!((rules.open, said), (open, Said::ByOperator), "{text}");
        }
        let flag = Given { open: true, keys: Vec::new() };
        let (rules, _) = read(Path::new(""), "registration = { open = false }", &flag, at).unwrap();
        assert!(rules.open);
        let flag = Given { open: false, keys: vec![A.parse().unwrap()] };
        let (rules, _) = read(Path::new(""), "", &flag, at).unwrap();
        assert!(!rules.open && rules.keys.len() == 1);
    }
}

#[test]
fn keys_of_the_file_and_of_another_one_stand_together() {
    let folder = tempfile::tempdir().unwrap();
    let keys = format!(
        "revoked = ['{A}']\n[[key]]\nname = '{B}'\ndomains = ['www.example.org']\ncomment = 'the shop'\n"
    );
    std::fs::write(folder.path().join("keys.toml"), keys).unwrap();
    let text = format!(
        "[registration]\nkeys_file = 'keys.toml'\nreserved = ['shop']\npages = ['https://app.example.com']\nrate = '10/min'\n\
         max_sessions_per_key = 5\nmax_sessions_per_address = 6\n\
         [[registration.key]]\nname = '{A}'\nhostnames = ['blog', 'pr-*']\nmax_sessions = 4\n"
    );
    let at = ("0.0.0.0:6519", "example.com", None);
    let (rules, _) = read(folder.path(), &text, &Given::default(), at).unwrap();
    assert_eq!(rules.keys[&A.parse().unwrap()].hostnames.len(), 2);
    assert_eq!(rules.keys[&A.parse().unwrap()].max_sessions, Some(4));
    assert_eq!(rules.keys[&B.parse().unwrap()].domains, ["www.example.org".parse().unwrap()]);
    assert!(rules.revoked.contains(&A.parse().unwrap()) && rules.reserved.contains("shop"));
    assert_eq!(rules.pages.origins, ["https://app.example.com"]);
    assert_eq!((rules.max_sessions_per_key, rules.max_sessions_per_address), (5, 6));
    assert_eq!(rules.rate.unwrap().per.as_secs(), 60);
    // What is wrong there is told of there.
    std::fs::write(folder.path().join("keys.toml"), "\n[[key]]\nname = 'short'\n").unwrap();
    let error = read(folder.path(), &text, &Given::default(), at).err().unwrap();
    assert!(error.contains("keys.toml, line 3, key.name: \"short\" is no key"), "{error}");
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, says) in [
        ("[[registration.key]]\nhostnames = ['a']", "line 1, registration.key: a key needs its name"),
        (
            "[[registration.key]]\nname = 'x'",
            "line 2, registration.key.name: \"x\" is no key: a key's name is 52",
        ),
        ("registration.revoked = ['x']", "\"x\" is no key"),
        (
            &format!("[[registration.key]]\nname = '{A}'\n[[registration.key]]\nname = '{A}'"),
            "line 4, registration.key.name: this key is listed already",
        ),
        (
            &format!(
                "[[registration.key]]\nname = '{A}'\nhostnames = ['a']\n[[registration.key]]\nname = '{B}'\nhostnames = ['b', 'a']"
            ),
            "another key has it already",
        ),
        (
            &format!(
                "[[registration.key]]\nname = '{A}'\nhostnames = ['a-*']\n[[registration.key]]\nname = '{B}'\nhostnames = ['a-b-*']"
            ),
            "line 6, registration.key.hostnames: another key has it already",
        ),
        (&format!("[[registration.key]]\nname = '{A}'\nhostnames = ['{B}']"), "can't be a chosen name"),
        (&format!("[[registration.key]]\nname = '{A}'\nhostnames = ['*']"), "can't be a chosen name"),
        (
            &format!("[[registration.key]]\nname = '{A}'\nhostnames = ['a.b']"),
            "whole hostnames stand in domains",
        ),
        (&format!("[[registration.key]]\nname = '{A}'\ndomains = ['blog']"), "is no whole hostname"),
        (
            &format!("[[registration.key]]\nname = '{A}'\ndomains = ['b.example.com']"),
            "write hostnames = [\"b\"]",
        ),
        (&format!("[[registration.key]]\nname = '{A}'\ndomains = ['example.com']"), "is the proxy's own"),
        (&format!("[[registration.key]]\nname = '{A}'\ndomains = ['a.b.example.com']"), "not deeper"),
        ("registration.pages = ['app.example.com']", "is no origin of a page"),
        ("registration.pages = ['https://app.example.com:443']", "is no origin of a page"),
        ("registration.rate = '10/day'", "write 1000/s or 10/min"),
        ("registration.keys_file = 'none.toml'", "none.toml can't be read"),
        ("registration.invitations = 'none.toml'", "none.toml can't be read"),
        ("registration.opne = true", "unknown field `opne`"),
    ] {
        let error = public(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(error.contains(says), "{text}\n{error}");
    }
    let beside = format!("[[registration.key]]\nname = '{A}'\ndomains = ['badexample.com']");
    assert!(public(&beside).is_ok());
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: InviteArgs,
}

#[test]
fn an_invitation_is_printed_once_and_its_digest_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("invitations.toml");
    let made = |more: &[&str]| {
        let line = ["invite", "--file", file.to_str().unwrap()];
        let Line { args } = Line::try_parse_from(line.iter().chain(more)).unwrap();
        invite(&args).unwrap()
    };
    let plain = made(&[]);
    let full =
        made(&["--name", "the \"build\" server", "--expires", "30d", "--uses", "3", "--hostname", "pr-*"]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        !text.contains(plain.as_str()) && plain.starts_with("tunnel-invitation-") && plain.len() == 61,
        "{plain}"
    );
    let at = ("0.0.0.0:6519", "example.com", None);
    let (rules, _) =
        read(folder.path(), "registration.invitations = 'invitations.toml'", &Given::default(), at).unwrap();
    let known = |text: &str| &rules.invitations[&InvitationId::of(text)];
    assert_eq!((known(&plain).uses.get(), known(&plain).label.as_str()), (1, ""));
    let full = known(&full);
    assert_eq!((full.uses.get(), full.label.as_str(), full.hostnames.len()), (3, "the \"build\" server", 1));
    let days = full.expires.unwrap() - known(&plain).expires.unwrap();
    assert!((days - 23 * 24 * 60 * 60).abs() < 60, "{days}");
    assert!(rules.ledger.is_some() && !rules.open);
    for bad in ["xd", "30", "-1h"] {
        assert!(Line::try_parse_from(["invite", "--file", "x", "--expires", bad]).is_err(), "{bad}");
    }
    // Twice the same, and one that lacks what it is known by.
    let doubled = format!("{text}{text}\n[[invitation]]\nuses = 2\n");
    std::fs::write(&file, doubled).unwrap();
    let error =
        read(folder.path(), "registration.invitations = 'invitations.toml'", &Given::default(), at).err();
    assert!(error.is_some_and(|error| {
        error.contains("invitations.toml, line 15, invitation.sha256: this invitation is listed already")
    }));
}

//! Decisions of the rules, and what becomes of sessions when they change.

use std::{net::IpAddr, num::NonZeroU32};

use super::*;
use crate::{exchange::websocket::Role, session};

const HERE: &str = "127.0.0.1";

fn key(n: u64) -> KeyName {
    crate::bus::contract::name(n).as_str().parse().unwrap()
}

fn name(text: &str) -> TunnelName {
    text.parse().unwrap()
}

fn patterns(texts: &[&str]) -> Vec<NamePattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Key 1 has a blog, names for branches and a hostname; an invitation is for one key and for names of its own.
fn rules() -> Registration {
    let mut rules = Registration::default();
    let domains = vec![name("www.example.org")];
    let hostnames = patterns(&["blog", "pr-*", "admin"]);
    rules.keys.insert(key(1), KeyRules { hostnames, domains, max_sessions: Some(2) });
    rules.keys.insert(key(2), KeyRules { hostnames: patterns(&["pr-2"]), ..KeyRules::default() });
    rules.revoked.insert(key(3));
    rules.invitations.insert(InvitationId::of("come in"), invitation(None));
    rules.invitations.insert(InvitationId::of("too late"), invitation(Some(1)));
    rules.reserved.insert("ci-secret".into());
    rules
}

fn invitation(expires: Option<i64>) -> Invitation {
    Invitation {
        label: String::new(),
        expires,
        uses: NonZeroU32::MIN,
        hostnames: patterns(&["ci-*", "mail", "w*"]),
    }
}

fn applicant(n: u64, name: Option<&str>, invitation: Option<&str>) -> Applicant {
    Applicant {
        name: name.map_or_else(|| key(n).tunnel().clone(), |name| name.parse().unwrap()),
        key: key(n),
        invitation: invitation.map(InvitationId::of),
        address: HERE.parse().unwrap(),
    }
}

async fn verdict(admission: &Admission, applicant: &Applicant) -> &'static str {
    admission.admit(applicant).await.map_or_else(|reason| reason.code(), |()| "accepted")
}

#[tokio::test]
async fn listed_and_invited_keys_come_in_and_have_what_they_were_given() {
    let admission = Admission::new(rules(), None);
    for (n, name, invitation, expected) in [
        (1, None, None, "accepted"),
        (1, Some("blog"), None, "accepted"),
        (1, Some("pr-1"), None, "accepted"),
        (1, Some("pr-2"), None, "hostname-not-yours"),
        (2, Some("pr-2"), None, "accepted"),
        (1, Some("pr"), None, "hostname-not-yours"),
        (1, Some("admin"), None, "accepted"),
        (1, Some("www.example.org"), None, "accepted"),
        (1, Some("example.org"), None, "hostname-not-yours"),
        (2, Some("www.example.org"), None, "hostname-not-yours"),
        (2, Some("blog"), None, "hostname-not-yours"),
        (3, None, None, "revoked"),
        (3, None, Some("come in"), "revoked"),
        (4, None, None, "not-admitted"),
        (4, None, Some("let me in"), "unknown-invitation"),
        (4, None, Some("too late"), "invitation-expired"),
        (4, None, Some("come in"), "accepted"),
        (4, None, Some("come in"), "accepted"),
        (4, None, None, "not-admitted"),
        (4, Some("ci-4"), Some("come in"), "accepted"),
        (4, Some("blog"), Some("come in"), "hostname-not-yours"),
        (4, Some("mail"), Some("come in"), "hostname-reserved"),
        (4, Some("www"), Some("come in"), "hostname-reserved"),
        (4, Some("ci-secret"), Some("come in"), "hostname-reserved"),
        (5, None, Some("come in"), "invitation-spent"),
    ] {
        // One with a bad name mustn't cost the invitation its use.
        let applicant = applicant(n, name, invitation);
        assert_eq!(verdict(&admission, &applicant).await, expected, "{applicant:?}");
    }
}

#[tokio::test]
async fn an_open_door_gives_no_chosen_names() {
    let open = Registration { open: true, ..rules() };
    let admission = Admission::new(open, None);
    for (n, name, invitation, expected) in [
        (9, None, None, "accepted"),
        (9, Some("blog"), None, "hostname-not-yours"),
        (9, Some("free"), None, "hostname-not-yours"),
        (9, None, Some("let me in"), "unknown-invitation"),
        (3, None, None, "revoked"),
    ] {
        assert_eq!(verdict(&admission, &applicant(n, name, invitation)).await, expected);
    }
}

#[tokio::test]
async fn refusals_say_whether_it_is_worth_trying_again() {
    let wait = Duration::from_millis(1500);
    for (reason, retry) in [
        (NotAdmitted::Closed { key: key(1) }, (false, None)),
        (NotAdmitted::Revoked { key: key(1) }, (false, None)),
        (NotAdmitted::InvitationSpent, (false, None)),
        (NotAdmitted::LedgerAway, (true, None)),
        (NotAdmitted::Taken { name: name("a") }, (true, Some(10))),
        (NotAdmitted::TooOften { wait }, (true, Some(2))),
    ] {
        let refusal = Refusal::from(reason);
        assert_eq!((refusal.retry, refusal.retry_after.map(|wait| wait.as_secs())), retry, "{refusal:?}");
    }
    let text = NotAdmitted::NotYours { name: name("a"), may: patterns(&["blog", "pr-*"]) }.to_string();
    assert!(text.contains("a isn't yours") && text.contains("but blog, pr-*;"), "{text}");
}

/// A session over a pipe, which is never read.
fn session() -> (Handle, impl Sized) {
    let (near, far) = tokio::io::duplex(1024);
    let socket = session::Socket::over(near, Role::Server, &[]);
    let settings = session::Settings {
        tunnel: Some(name("x")),
        max_exchanges: 1,
        max_websocket_message: 1,
        ping_after: Duration::from_secs(1),
    };
    let (handle, driver) = session::open(socket, settings);
    (handle, (far, driver))
}

#[tokio::test]
async fn rules_that_change_end_what_they_no_longer_allow() {
    let admission = Arc::new(Admission::new(Registration { open: true, ..rules() }, None));
    let (handle, _kept) = session();
    let applicants = [
        applicant(1, Some("blog"), None),
        applicant(1, None, None),
        applicant(4, None, Some("come in")),
        applicant(9, None, None),
    ];
    let mut living = Vec::new();
    for applicant in &applicants {
        let dismissal = Arc::<Dismissal>::default();
        living.push((admission.place(applicant, &handle, &dismissal).unwrap(), dismissal));
    }
    let ended = || living.iter().map(|(_, dismissal)| dismissal.is_given()).collect::<Vec<_>>();
    // The name goes; the key may stay.
    let mut changed = Registration { open: true, ..rules() };
    changed.keys.get_mut(&key(1)).unwrap().hostnames.clear();
    admission.replace(changed.clone());
    assert_eq!(ended(), [true, false, false, false]);
    changed.invitations.clear();
    admission.replace(changed.clone());
    assert_eq!(ended(), [true, false, true, false]);
    changed.open = false;
    admission.replace(changed.clone());
    assert_eq!(ended(), [true, false, true, true]);
    changed.revoked.insert(key(1));
    admission.replace(changed);
    assert_eq!(ended(), [true; 4]);
    drop(living);
    // One that was admitted before the change has no place after it.
    let late = admission.place(&applicants[1], &handle, &Arc::default());
    assert_eq!(late.err().map(|reason| reason.code()), Some("revoked"));
}

#[tokio::test]
async fn keys_and_addresses_have_so_many_sessions_and_get_their_places_back() {
    let mut rules = Registration { open: true, max_sessions_per_address: 3, ..rules() };
    rules.max_sessions_per_key = 3;
    let admission = Arc::new(Admission::new(rules, None));
    let (handle, _kept) = session();
    let place = |n, address: &str| {
        let applicant = Applicant { address: address.parse::<IpAddr>().unwrap(), ..applicant(n, None, None) };
        admission.place(&applicant, &handle, &Arc::default())
    };
    let code = |placed: Result<Seated, NotAdmitted>| placed.err().map(|reason| reason.code());
    let first = place(1, HERE).unwrap();
    let _second = place(1, HERE).unwrap();
    assert_eq!(code(place(1, HERE)), Some("too-many-sessions-of-key"), "it has a number of its own");
    drop(first);
    let _again = place(1, HERE).unwrap();
    let _others: Vec<_> = (10..13).map(|n| place(n, "2001:db8::1").unwrap()).collect();
    assert_eq!(code(place(13, "2001:db8::2")), Some("too-many-sessions-of-address"));
    let elsewhere = place(13, "2001:db8:0:1::2").unwrap();
    assert_eq!(admission.disconnect(&Whom::Key(key(13)), &Refusal::from(NotAdmitted::LedgerAway)), 1);
    drop(elsewhere);
    assert_eq!(
        admission.disconnect(&Whom::Tunnel(key(13).tunnel().clone()), &NotAdmitted::LedgerAway.into()),
        0
    );
}

#[tokio::test]
async fn a_chosen_name_has_one_key_at_a_time() {
    let mut rules = rules();
    rules.keys.insert(key(6), KeyRules { hostnames: patterns(&["team-*"]), ..KeyRules::default() });
    let admission = Arc::new(Admission::new(rules.clone(), None));
    let (handle, _kept) = session();
    let place = |n| admission.place(&applicant(n, Some("team-a"), None), &handle, &Arc::default());
    let held = place(6).unwrap();
    let again = place(6).unwrap();
    rules.keys.remove(&key(6));
    rules.keys.insert(key(7), KeyRules { hostnames: patterns(&["team-a"]), ..KeyRules::default() });
    admission.replace(rules);
    assert_eq!(
        place(7).err().map(|reason| reason.code()),
        Some("hostname-taken"),
        "the other's is still ending"
    );
    drop((held, again));
    place(7).unwrap();
}

use jiff::tz::TimeZone;

use super::*;
use crate::settings::{document, file::ProxyFile};

/// What a file says, with these files beside it; and all that is wrong.
fn chosen(text: &str, beside: &[(&str, &str)]) -> (DoorSettings, Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in beside {
        std::fs::write(folder.path().join(name), content).unwrap();
        private(&folder.path().join(name));
    }
    let mut mistakes = Mistakes::default();
    let path = folder.path().join("proxy.toml");
    let (mut file, lines): (ProxyFile, Lines) = document::parse(&path, text, &mut mistakes);
    let door = InFile {
        tls: file.tls.take(),
        http: file.http.take(),
        proxy_protocol: file.proxy_protocol.take(),
        http2: file.http2,
        lines: &lines,
    };
    let mut sources = Sources::default();
    let door = door.choose(&DoorArgs::default(), "example.com", &mut sources, &mut mistakes);
    let said = |errors: &[crate::settings::SettingsError]| -> Vec<String> {
        let all = errors.iter().map(ToString::to_string);
        all.map(|text| text.replace(&format!("{}/", folder.path().display()), "")).collect()
    };
    (door, said(&mistakes.errors), said(&mistakes.warnings))
}

#[cfg(unix)]
fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(not(unix))]
fn private(_: &Path) {}

fn pair(change: impl Fn(&mut rcgen::CertificateParams)) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(vec!["*.example.com".to_owned()]).unwrap();
    change(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

const TLS: &str = "[tls]\ncertificates = [{ certificate = 'c.pem', key = 'k.pem' }]\n";

#[test]
fn a_good_pair_is_taken_without_a_word() {
    let (certificate, key) = pair(|_| {});
    let text = format!("http = '127.0.0.1:0'\n{TLS}hsts = '180d'\nhandshake_timeout = '5s'\n");
    let (door, errors, warnings) = chosen(&text, &[("c.pem", &certificate), ("k.pem", &key)]);
    assert_eq!((errors, warnings), (vec![], vec![]));
    let tls = door.tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].names(), ["*.example.com"]);
    assert_eq!(tls.hsts.as_ref().unwrap(), "max-age=15552000");
    assert_eq!(tls.handshake_timeout, Duration::from_secs(5));
    assert!(door.http.is_some() && door.challenges.is_none());
    let checked = shown(&door);
    assert!(
        checked.starts_with("  tls  *.example.com, good until ") && checked.ends_with(" UTC\n"),
        "{checked}"
    );
}

#[test]
fn what_is_wrong_is_said_with_the_file_and_the_line() {
    let (one, other) = (pair(|_| {}), pair(|_| {}));
    let good = [("c.pem", one.0.as_str()), ("k.pem", one.1.as_str())];
    for (text, files, says) in [
        (
            TLS.to_owned(),
            vec![good[0], ("k.pem", &other.1)],
            "proxy.toml, line 2, tls.certificates: k.pem: its private key isn't that of the certificate in c.pem",
        ),
        (TLS.to_owned(), vec![good[0]], "line 2, tls.certificates: k.pem: No such file"),
        (TLS.to_owned(), vec![("c.pem", "x"), good[1]], "c.pem: it has no certificate in it"),
        (TLS.to_owned(), vec![good[0], ("k.pem", "x")], "k.pem: it has no private key in it"),
        ("[tls]\nhsts = '1d'\n".to_owned(), vec![], "line 1, tls.certificates: there is no certificate"),
        ("http = '127.0.0.1:0'\n".to_owned(), vec![], "line 1, http: it is for plain HTTP beside TLS"),
        (format!("{TLS}acme_challenges = 'no'\n"), good.to_vec(), "tls.acme_challenges: no is no folder"),
        (format!("{TLS}acme_challenges = '.'\n"), good.to_vec(), "give http = \"0.0.0.0:80\" too"),
        (format!("{TLS}client_certificates = 'required'\n"), good.to_vec(), "it needs client_ca"),
        (
            format!("{TLS}client_ca = 'k.pem'\n"),
            good.to_vec(),
            "line 3, tls.client_ca: k.pem: it has no cert",
        ),
        (format!("{TLS}hsts = 'long'\n"), good.to_vec(), "line 3, tls.hsts: \"long\" is no time"),
    ] {
        let (_, errors, _) = chosen(&text, &files);
        assert!(errors.iter().any(|error| error.contains(says)), "{text}\n{says}\n{errors:#?}");
    }
}

#[test]
fn what_will_be_refused_by_browsers_is_a_warning() {
    let day = |offset: i64| {
        let time = Timestamp::from_second(Timestamp::now().as_second() + offset * 24 * 3600).unwrap();
        let date = time.to_zoned(TimeZone::UTC).date();
        let part = |number: i8| u8::try_from(number).unwrap();
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    let expired = pair(|params| params.not_after = day(-1));
    let soon = pair(|params| params.not_after = day(3));
    let early = pair(|params| params.not_before = day(2));
    let elsewhere = pair(|params| params.subject_alt_names = Vec::from([name("www.example.org")]));
    for (pair, says) in [
        (&expired, "line 2, tls.certificates: the certificate c.pem expired on "),
        (&soon, "the certificate c.pem expires on "),
        (&early, "the certificate c.pem isn't good before "),
        (&elsewhere, "no certificate is for *.example.com"),
    ] {
        let (door, errors, warnings) = chosen(TLS, &[("c.pem", &pair.0), ("k.pem", &pair.1)]);
        assert_eq!((door.tls.unwrap().certificates.len(), errors), (1, vec![]));
        assert!(warnings.len() == 1 && warnings[0].contains(says), "{says}\n{warnings:#?}");
    }
}

fn name(text: &str) -> rcgen::SanType {
    rcgen::SanType::DnsName(text.try_into().unwrap())
}

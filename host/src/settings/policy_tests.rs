use std::{fs, time::Duration};

use super::*;
use crate::settings::{
    cli::{Cli, Command},
    proxy::ProxySettings,
};

const NAME: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst";

/// Settings of a proxy under example.com, in a folder with `a.wasm`, which nobody loads here; what is wrong, and what may
/// have been overlooked.
fn read(text: &str) -> (Vec<Plan>, Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.wasm"), b"wasm").unwrap();
    let path = folder.path().join("proxy.toml");
    fs::write(&path, format!("domain = 'example.com'\n{text}")).unwrap();
    let line = format!("tunnel proxy --config {}", path.display());
    let Some(Command::Proxy(args)) = Cli::of(&line).unwrap().command else { panic!("not the proxy") };
    let mut mistakes = Mistakes::default();
    let settings = ProxySettings::load(&args, &mut mistakes).unwrap();
    let texts = |errors: &[crate::settings::SettingsError]| {
        let folder = format!("{}/", folder.path().display());
        errors.iter().map(|error| error.to_string().replace(&folder, "")).collect()
    };
    (settings.plans, texts(&mistakes.errors), texts(&mistakes.warnings))
}

const PLUGIN: &str = "[[plugin]]\nname = 'a'\nfile = 'a.wasm'\n";

#[test]
fn a_policy_says_what_differs() {
    let (plans, errors, warnings) = read(&format!(
        "{PLUGIN}[[policy]]\ndomain = '*.example.com'\npath = '/api/*'\nplugins = ['a']\nmax_body = 'unlimited'\n\
         rate = {{ requests = 5, per = '1m', burst = 7 }}\ntimeout = '3s'\n\
         [[policy]]\ndomain = '{NAME}'\nrate = '8/s'\n[[policy]]\ndomain = '*'\nrate = 'off'\nserve = 'a.wasm'\n"
    ));
    assert_eq!((errors, warnings), (vec![], vec![]));
    let limits = plans[0].limits;
    let rate = limits.rate.unwrap().unwrap();
    assert_eq!((rate.tokens.get(), rate.per, rate.burst.get()), (5, Duration::from_secs(60), 7));
    assert_eq!((limits.max_body, limits.answer_timeout), (Some(None), Some(Duration::from_secs(3))));
    assert!(plans[0].position.ends_with("proxy.toml:5"), "{}", plans[0].position);
    assert_eq!(plans[0].plugins, ["a"]);
    let rate = plans[1].limits.rate.unwrap().unwrap();
    assert_eq!((rate.tokens.get(), rate.per, rate.burst.get()), (8, Duration::from_secs(1), 16));
    assert_eq!(plans[1].limits.max_body, None, "as the proxy has it");
    assert_eq!((plans[2].limits.rate, plans[2].serve.as_deref()), (Some(None), Some("a.wasm")));
}

#[test]
fn every_mistake_is_told_with_its_line() {
    for (text, says) in [
        ("[[policy]]\npath = '/x'\n", "line 2, policy.domain: a policy needs a domain"),
        ("[[policy]]\ndomain = 'https://x'\n", "line 3, policy.domain: "),
        ("[[policy]]\ndomain = '*'\npath = 'api'\n", "line 4, policy.path: \"api\" is no path of a policy"),
        ("[[policy]]\ndomain = '*'\npath = '/a/*/b'\n", "a * stands only at its end"),
        (
            "[[policy]]\ndomain = '*'\nplugins = ['b']\n",
            "line 4, policy.plugins: there is no plugin \"b\"; add a [[plugin]]",
        ),
        ("[[policy]]\ndomain = '*'\nplugins = 'a'\n", "line 4, policy.plugins: invalid type"),
        ("[[policy]]\ndomain = '*'\nserve = 'no.wasm'\n", "line 4, policy.serve: no.wasm can't be read"),
        ("[[policy]]\ndomain = '*'\nmax_body = 'much'\n", "line 4, policy.max_body: \"much\" is no size"),
        ("[[policy]]\ndomain = '*'\nrate = { requests = 0 }\n", "line 4, policy.rate.requests"),
        (
            "[[policy]]\ndomain = '*'\nrate = { requests = 1, per = 'day' }\n",
            "policy.rate.per: \"day\" is no time",
        ),
        ("[[policy]]\ndomain = '*'\nrate = 5\n", "expected { requests = 500"),
        ("[[policy]]\ndomain = '*'\ntimeout = 30\n", "line 4, policy.timeout: \"30\" is no time"),
        ("[[policy]]\ndomain = '*'\nplugin = []\n", "unknown field `plugin`"),
        (
            "[[application]]\nname = 'x'\nfile = 'a.wasm'\ntick = '1s'\n",
            "line 5, application.tick: it says nothing",
        ),
        (
            "[[policy]]\ndomain = '*'\n[[policy]]\ndomain = '*.example.com'\n",
            "line 4, policy: nothing gets here",
        ),
    ] {
        let (_, errors, _) = read(text);
        assert_eq!(errors.len(), 1, "{text}\n{errors:#?}");
        assert!(errors[0].contains("proxy.toml, line ") && errors[0].contains(says), "{says}\n{errors:#?}");
    }
}

#[test]
fn what_may_have_been_overlooked_is_a_warning() {
    let (_, errors, warnings) = read(&format!("{PLUGIN}[[policy]]\ndomain = '*.other.org'\n"));
    assert_eq!(errors, [""; 0]);
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(
        warnings[0].contains("line 6, policy.domain: no tunnel of this proxy has a host like *.other.org")
    );
    assert!(
        warnings[1].contains("line 2, plugin: no policy names a: nothing ever meets it"),
        "{warnings:#?}"
    );
}

#[test]
fn a_plugin_with_a_mistake_is_not_an_unknown_one() {
    let text = "[[plugin]]\nname = 'a'\nfile = 'no.wasm'\n[[policy]]\ndomain = '*'\nplugins = ['a']\n";
    let (_, errors, _) = read(text);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("line 4, plugin.file"), "{errors:#?}");
}

#[test]
fn applications_may_be_named_in_tables() {
    let text = "[[application]]\nname = 'site'\nfile = 'a.wasm'\ngrant = { env = { LANG = 'C' } }\n\
                [[policy]]\ndomain = '*'\nserve = 'site'\n";
    let (plans, errors, warnings) = read(text);
    assert_eq!((errors, warnings), (vec![], vec![]));
    assert_eq!(plans[0].serve.as_deref(), Some("site"));
}

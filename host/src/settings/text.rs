//! Lines for people.
//!
//! Whatever a visitor or the other side chose (paths, reasons, URLs) is escaped before a terminal sees it: control
//! characters could move the cursor, set the window's title or fake lines.

use std::{fmt::Write, path::Path, time::Duration};

use anstyle::{AnsiColor, Style};
use bytesize::ByteSize;
use http::StatusCode;

use crate::{
    client::{ExchangeSummary, Outcome},
    proxy,
};

const BOLD: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default();

/// Characters of a path, or a reason, that a line shows; what is longer is cut.
const LONGEST: usize = 200;

/// The text as it may be shown: control and direction characters spelt out, cut if it is very long.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (n, c) in text.chars().enumerate() {
        if n == LONGEST {
            shown.push('…');
            break;
        }
        if c.is_control() || deceives(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Characters without a shape that reorder or hide others (Unicode TR 36 section 3.2).
fn deceives(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The first thing a user wants to see.
pub(super) fn registered(name: Option<&str>, public_url: &str, target: &str) -> String {
    let mut block = String::new();
    if let Some(name) = name {
        let _ = writeln!(block, "  Target       {}", shown(name));
    }
    let _ = writeln!(block, "  Public URL   {BOLD}{}{BOLD:#}", shown(public_url));
    let _ = write!(block, "  Forwards to  {}", shown(target));
    block
}

/// What to try once a demo is up.
pub(super) fn demo_hint(public_url: &str) -> String {
    let url = shown(public_url);
    let url = url.trim_end_matches('/');
    format!(
        "               (a sample page of this demo; everything stays on this machine)\n\n  \
         Open the public URL in a browser, or try in another terminal\n    curl {url}/\n    \
         curl -d hello {url}/echo"
    )
}

/// How to end it.
pub(super) fn how_to_end() -> String {
    format!("  {FAINT}ctrl-c ends it{FAINT:#}\n")
}

/// Changed plugins and policies are in force.
pub(super) fn reloaded(plugins: usize, fresh: usize) -> String {
    format!("  {GREEN}Reloaded{GREEN:#}     {plugins} plugins, {fresh} of them new")
}

/// What changed can't be used; what was in force stays.
pub(super) fn reload_failed(reason: &str) -> String {
    // One mistake a line.
    let lines: Vec<String> = reason.lines().map(shown).collect();
    format!("  {YELLOW}Not reloaded{YELLOW:#}: {}\n  What was in force stays.", lines.join("\n  "))
}

/// Where a client's metrics are.
pub(super) fn metrics(address: std::net::SocketAddr) -> String {
    format!("  Metrics      http://{address}/metrics")
}

/// A key was made.
pub(super) fn key_created(path: &Path) -> String {
    format!("  New key      {} (it names the tunnel: keep it)", shown(&path.display().to_string()))
}

/// A session was lost or couldn't be opened.
pub(super) fn disconnected(name: Option<&str>, reason: &str, retry_in: Duration) -> String {
    let retry_in = duration(retry_in);
    format!(
        "  {}{YELLOW}Not connected{YELLOW:#}: {}; next try in {retry_in}, and so on until it works",
        prefix(name),
        shown(reason)
    )
}

/// What to do when there never was a connection.
pub(super) fn no_proxy_hint() -> String {
    "  Is the proxy running? Start one on this machine with `tunnel proxy`, or name another with --proxy URL"
        .to_owned()
}

/// A lost session is up again.
pub(super) fn reconnected(name: Option<&str>, public_url: &str) -> String {
    format!("  {}{GREEN}Connected again{GREEN:#}: {}", prefix(name), shown(public_url))
}

/// The proxy drains.
pub(super) fn moving(name: Option<&str>) -> String {
    format!("  {}The proxy is about to stop; opening another session", prefix(name))
}

/// The client has ended.
pub(super) fn stopped(name: Option<&str>) -> String {
    format!("  {}Stopped", prefix(name))
}

/// A signal was heard.
pub(super) fn stopping() -> String {
    "  Stopping; ctrl-c again ends it at once".to_owned()
}

/// The reader was too slow.
pub(super) fn left_out(lines: u64) -> String {
    format!("  ({lines} lines left out: the terminal was too slow)")
}

/// A plugin takes long to load.
pub(super) fn compiling(file: &Path, kept: bool) -> String {
    let again = if kept { "; the next start is quick" } else { "" };
    format!("  Compiling    {}{again}", shown(&file.display().to_string()))
}

/// Another port than the usual one.
pub(super) fn port_taken(taken: impl std::fmt::Display, instead: impl std::fmt::Display) -> String {
    format!("  {taken} is taken; the demo listens on {instead} instead")
}

/// One ended exchange: time of day, method, path, what came of it, bytes, time.
pub(super) fn exchange(name: Option<&str>, summary: &ExchangeSummary, time_of_day: &str) -> String {
    let (style, outcome) = match summary.outcome {
        Outcome::Status(status) => (style(status), status.as_str().to_owned()),
        Outcome::Broken(status) => (RED, format!("{} broken off", status.as_str())),
        Outcome::Failed(kind) => (RED, kind.code().to_owned()),
    };
    let bytes = match (summary.bytes_in, summary.bytes_out) {
        (0, out) => size(out),
        (bytes_in, out) => format!("{} in, {} out", size(bytes_in), size(out)),
    };
    format!(
        "{FAINT}{time_of_day}{FAINT:#}  {}{:<6} {}  {style}{outcome}{style:#}  {bytes}  {}",
        prefix(name),
        shown(summary.method.as_str()),
        shown(summary.path.as_str()),
        duration(summary.time),
    )
}

fn style(status: StatusCode) -> Style {
    match status.as_u16() {
        0..300 => GREEN,
        300..400 => CYAN,
        400..500 => YELLOW,
        _ => RED,
    }
}

fn prefix(name: Option<&str>) -> String {
    name.map(|name| format!("{}: ", shown(name))).unwrap_or_default()
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

fn duration(time: Duration) -> String {
    match time.as_secs() {
        0 if time.as_millis() < 10 => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// What the proxy tells.
pub(super) fn proxy(event: &proxy::Event) -> String {
    match event {
        proxy::Event::Listening { address, public_url, http, admin } => {
            let who =
                if address.ip().is_loopback() { "this machine alone" } else { "everyone who can reach it" };
            let url = shown(public_url);
            let admin = admin
                .map(|admin| format!("  Admin        http://{admin}/metrics, /readyz, /healthz, /api/v1\n"));
            let http = http.map(|http| format!("  Plain HTTP   {http} (leads to https)\n"));
            let (http, admin, end) = (http.unwrap_or_default(), admin.unwrap_or_default(), how_to_end());
            format!(
                "  Listening    {address} ({who})\n  Public URL   {BOLD}{url}{BOLD:#}\n  \
                 To publish   tunnel 3000 --proxy {}\n{http}{admin}{end}",
                url.trim_end_matches('/')
            )
        }
        proxy::Event::Registered { public_url, client, .. } => {
            format!("  {GREEN}Client came{GREEN:#}: {} from {client}", shown(public_url))
        }
        proxy::Event::Unregistered { tunnel, reason } => {
            format!("  Client gone: {tunnel}, {}", shown(reason))
        }
        proxy::Event::Draining { exchanges: 0 } => "  Nothing is under way".to_owned(),
        proxy::Event::Draining { exchanges: 1 } => "  Waiting for an exchange under way".to_owned(),
        proxy::Event::Draining { exchanges } => format!("  Waiting for {exchanges} exchanges under way"),
        proxy::Event::Stopped => "  Stopped".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::exchange::{ErrorKind, ExchangeId};

    fn line(path: &str, outcome: Outcome) -> String {
        let summary = ExchangeSummary {
            exchange: ExchangeId(1),
            method: Method::POST,
            path: path.parse().unwrap(),
            outcome,
            bytes_in: 500_000,
            bytes_out: 1200,
            time: Duration::from_millis(42),
        };
        let styled = exchange(Some("web"), &summary, "12:00:01");
        anstream::adapter::strip_str(&styled).to_string()
    }

    #[test]
    fn a_line_of_an_exchange() {
        assert_eq!(
            line("/a?b=c", Outcome::Status(StatusCode::OK)),
            "12:00:01  web: POST   /a?b=c  200  500.0 kB in, 1.2 kB out  42 ms"
        );
        assert!(line("/", Outcome::Broken(StatusCode::OK)).contains("200 broken off"));
        assert!(line("/", Outcome::Failed(ErrorKind::OriginUnreachable)).contains("origin-unreachable"));
    }

    #[test]
    fn nobody_writes_to_the_terminal_but_us() {
        let hostile = "/\u{1b}]0;owned\u{7}\u{9b}2J\r\n\u{202e}\u{200b}\u{7f}é";
        // What a target may have: nothing of ASCII that controls, but all else.
        let line = line("/\u{9b}2J\u{202e}\u{200b}é", Outcome::Status(StatusCode::OK));
        assert!(!line.chars().any(|c| c.is_control() || deceives(c)), "{line:?}");
        assert!(line.contains("\\u{9b}2J") && line.contains('é'), "{line}");
        for text in [
            disconnected(None, hostile, Duration::ZERO),
            registered(None, hostile, "x").replace('\n', ""),
            reconnected(None, hostile),
        ] {
            let text = anstream::adapter::strip_str(&text).to_string();
            assert!(!text.chars().any(|c| c.is_control() || deceives(c)), "{text:?}");
            assert!(text.contains("owned"), "{text}");
        }
    }

    #[test]
    fn a_long_path_is_cut() {
        let line = line(&format!("/{}", "a".repeat(10_000)), Outcome::Status(StatusCode::OK));
        assert!(line.chars().count() < LONGEST + 80);
    }

    #[test]
    fn times_are_short() {
        let shown = |millis| duration(Duration::from_millis(millis));
        assert_eq!((shown(3), shown(42), shown(1234)), ("3.0 ms".into(), "42 ms".into(), "1.2 s".into()));
        assert_eq!(shown(125_000), "2 min 5 s");
    }

    #[test]
    fn the_first_lines_lead_on() {
        let listening = proxy::Event::Listening {
            address: "127.0.0.1:6519".parse().unwrap(),
            public_url: "http://localhost:6519/".to_owned(),
            http: None,
            admin: Some("127.0.0.1:6520".parse().unwrap()),
        };
        let text = anstream::adapter::strip_str(&proxy(&listening)).to_string();
        for part in [
            "127.0.0.1:6519 (this machine alone)",
            "tunnel 3000 --proxy http://localhost:6519\n",
            "http://127.0.0.1:6520/metrics",
            "ctrl-c",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}

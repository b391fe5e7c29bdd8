//! What the roles tell, as lines on stdout: for people, or one JSON object each for programs.

use std::{
    io::{self, IsTerminal},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Output,
    cli::LogFormat,
    json,
    printer::{Printer, Weight},
    text,
};
use crate::{client, proxy};

/// Turns events into lines. Clones write to the same place.
#[derive(Clone)]
pub struct Reporter {
    printer: Printer,
    format: LogFormat,
    /// Whether people see a line for each exchange.
    exchanges: bool,
    /// Whether the user has been told how to end it.
    told: Arc<AtomicBool>,
}

impl Reporter {
    /// Writes to stdout. People see exchanges on a terminal or with `-v`; programs always do.
    pub fn new(output: &Output) -> Self {
        let exchanges = output.verbose > 0 || io::stdout().is_terminal();
        match output.format {
            LogFormat::Json => Self::to(io::stdout(), LogFormat::Json, true),
            // Colour on a terminal alone, and not where NO_COLOR is set.
            LogFormat::Text => Self::to(anstream::stdout(), LogFormat::Text, exchanges),
        }
    }

    fn to(out: impl io::Write + Send + 'static, format: LogFormat, exchanges: bool) -> Self {
        let left_out = match format {
            LogFormat::Json => json::left_out,
            LogFormat::Text => text::left_out,
        };
        Self { printer: Printer::start(out, left_out), format, exchanges, told: Arc::default() }
    }

    /// What the client of one target tells; `name` is the target's in the settings file.
    pub fn client(&self, name: Option<&str>) -> Arc<dyn Fn(client::Event) + Send + Sync> {
        self.client_with(name, |_| None)
    }

    /// What the client of a demo tells, with a hint of what to try.
    pub fn demo_client(&self) -> Arc<dyn Fn(client::Event) + Send + Sync> {
        self.client_with(None, |public_url| Some(text::demo_hint(public_url)))
    }

    fn client_with(
        &self,
        name: Option<&str>,
        hint: fn(&str) -> Option<String>,
    ) -> Arc<dyn Fn(client::Event) + Send + Sync> {
        let reporter = self.clone();
        let name = name.map(str::to_owned);
        // Whether the proxy was ever reached, or the user has been told what to do about it.
        let settled = AtomicBool::new(false);
        let said = Said::default();
        Arc::new(move |event| {
            let weight = match event {
                client::Event::Exchange(_) if !reporter.exchanges => return,
                client::Event::Exchange(_) => Weight::Exchange,
                _ => Weight::Milestone,
            };
            if reporter.format == LogFormat::Text && said.already(&event) {
                return;
            }
            let line = match reporter.format {
                LogFormat::Json => json::client(name.as_deref(), &event),
                LogFormat::Text => reporter.client_text(name.as_deref(), &event, hint, &settled),
            };
            reporter.printer.print(line, weight);
        })
    }

    fn client_text(
        &self,
        name: Option<&str>,
        event: &client::Event,
        hint: fn(&str) -> Option<String>,
        settled: &AtomicBool,
    ) -> String {
        match event {
            client::Event::Registered { public_url, target } => {
                settled.store(true, Ordering::Relaxed);
                let mut lines = vec![text::registered(name, public_url, target)];
                lines.extend(hint(public_url));
                if !self.told.swap(true, Ordering::Relaxed) {
                    lines.push(text::how_to_end());
                }
                lines.join("\n")
            }
            client::Event::Disconnected { reason, retry_in, nobody_listens } => {
                let line = text::disconnected(name, reason, *retry_in);
                // Whatever answered otherwise is running, and its sentence says what to do.
                if !nobody_listens || settled.swap(true, Ordering::Relaxed) {
                    line
                } else {
                    line + "\n" + &text::no_proxy_hint()
                }
            }
            client::Event::Reconnected { public_url } => text::reconnected(name, public_url),
            client::Event::Moving => text::moving(name),
            client::Event::Exchange(summary) => {
                let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
                text::exchange(name, summary, &now)
            }
            client::Event::Stopped => text::stopped(name),
        }
    }

    /// Takes lines that are written as they are, among all others; which of them can't be written is told by their number.
    pub fn lines(&self) -> Arc<dyn Fn(String) + Send + Sync> {
        let printer = self.printer.clone();
        Arc::new(move |line| printer.print(line, Weight::Exchange))
    }

    /// What the proxy tells.
    pub fn proxy(&self) -> Arc<dyn Fn(proxy::Event) + Send + Sync> {
        let reporter = self.clone();
        Arc::new(move |event| {
            let line = match reporter.format {
                LogFormat::Json => json::proxy(&event),
                LogFormat::Text => text::proxy(&event),
            };
            reporter.printer.print(line, Weight::Milestone);
        })
    }

    /// What the proxy of a demo tells: for programs all of it, for people nothing that the client doesn't say.
    pub fn demo_proxy(&self) -> Arc<dyn Fn(proxy::Event) + Send + Sync> {
        match self.format {
            LogFormat::Json => self.proxy(),
            LogFormat::Text => Arc::new(|_| {}),
        }
    }

    /// Where a client's metrics are.
    pub fn metrics(&self, address: std::net::SocketAddr) {
        let line = match self.format {
            LogFormat::Json => json::metrics(address),
            LogFormat::Text => text::metrics(address),
        };
        self.printer.print(line, Weight::Milestone);
    }

    /// A key was made.
    pub fn key_created(&self, path: &Path) {
        let line = match self.format {
            LogFormat::Json => json::key_created(path),
            LogFormat::Text => text::key_created(path),
        };
        self.printer.print(line, Weight::Milestone);
    }

    /// Changed plugins and policies are in force.
    pub fn reloaded(&self, plugins: usize, fresh: usize) {
        let line = match self.format {
            LogFormat::Json => json::reloaded(plugins, fresh),
            LogFormat::Text => text::reloaded(plugins, fresh),
        };
        self.printer.print(line, Weight::Milestone);
    }

    /// What changed can't be used.
    pub fn reload_failed(&self, reason: &str) {
        let line = match self.format {
            LogFormat::Json => json::reload_failed(reason),
            LogFormat::Text => text::reload_failed(reason),
        };
        self.printer.print(line, Weight::Milestone);
    }

    /// A plugin takes long to load. Only somebody at a terminal waits for it.
    pub fn compiling(&self, file: &Path, kept: bool) {
        if io::stdout().is_terminal() {
            self.for_people(|| text::compiling(file, kept));
        }
    }

    /// A demo got another address than the usual one. Programs learn it from `listening`.
    pub fn port_taken(&self, taken: std::net::SocketAddr, instead: std::net::SocketAddr) {
        self.for_people(|| text::port_taken(taken, instead));
    }

    /// A signal was heard.
    pub fn stopping(&self) {
        self.for_people(text::stopping);
    }

    /// The end, and why. People read it on stderr.
    pub fn error(&self, message: &str) {
        if self.format == LogFormat::Json {
            self.printer.print(json::error(message), Weight::Milestone);
        }
    }

    fn for_people(&self, line: impl FnOnce() -> String) {
        if self.format == LogFormat::Text {
            self.printer.print(line(), Weight::Milestone);
        }
    }

    /// Waits until the last line is written; a reader that stalls gets two seconds.
    pub fn finish(&self) {
        self.printer.finish();
    }
}

/// Why a client isn't connected, as people were told last: a proxy that stays away is not news each time.
#[derive(Default)]
struct Said(Mutex<Option<String>>);

impl Said {
    fn already(&self, event: &client::Event) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            client::Event::Disconnected { reason, .. } if said.as_deref() == Some(reason) => return true,
            client::Event::Disconnected { reason, .. } => *said = Some(reason.clone()),
            client::Event::Registered { .. } | client::Event::Reconnected { .. } => *said = None,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, time::Duration};

    use http::{Method, StatusCode};

    use super::*;
    use crate::{
        client::{Event, ExchangeSummary, Outcome},
        exchange::ExchangeId,
    };

    /// What a reporter writes while `tell` runs.
    fn written(format: LogFormat, exchanges: bool, tell: impl FnOnce(&Reporter)) -> String {
        let (mut reader, writer) = io::pipe().unwrap();
        let reporter = Reporter::to(writer, format, exchanges);
        tell(&reporter);
        reporter.finish();
        let mut text = String::new();
        // The thread has ended, and the writer with it.
        reader.read_to_string(&mut text).unwrap();
        anstream::adapter::strip_str(&text).to_string()
    }

    fn registered(name: &str) -> Event {
        Event::Registered {
            public_url: format!("http://{name}.localhost:6519"),
            target: "http://localhost:3000".into(),
        }
    }

    fn exchange() -> Event {
        Event::Exchange(ExchangeSummary {
            exchange: ExchangeId(7),
            method: Method::GET,
            path: http::uri::PathAndQuery::from_static("/seen"),
            outcome: Outcome::Status(StatusCode::OK),
            bytes_in: 0,
            bytes_out: 0,
            time: Duration::from_millis(1),
        })
    }

    fn lost() -> Event {
        Event::Disconnected {
            reason: "connection refused".to_owned(),
            retry_in: Duration::from_millis(100),
            nobody_listens: true,
        }
    }

    #[test]
    fn people_are_told_once_how_to_end_it_and_what_each_url_leads_to() {
        let text = written(LogFormat::Text, true, |reporter| {
            reporter.client(Some("web"))(registered("one"));
            reporter.client(Some("api"))(registered("two"));
        });
        assert!(text.starts_with("  Target       web\n  Public URL   http://one.localhost:6519\n"), "{text}");
        assert!(
            text.contains("Public URL   http://two.localhost:6519\n  Forwards to  http://localhost:3000")
        );
        assert_eq!(text.matches("ctrl-c").count(), 1, "{text}");
    }

    #[test]
    fn a_proxy_that_was_never_reached_gets_one_hint() {
        let text = written(LogFormat::Text, true, |reporter| {
            let report = reporter.client(None);
            report(lost());
            report(lost());
        });
        assert_eq!(text.matches("connection refused").count(), 1, "the same reason is no news: {text}");
        assert_eq!(text.matches("tunnel proxy").count(), 1, "{text}");
        let text = written(LogFormat::Text, true, |reporter| {
            let report = reporter.client(None);
            for event in [lost(), registered("one"), lost()] {
                report(event);
            }
        });
        assert_eq!(text.matches("connection refused").count(), 2, "it was there in between: {text}");
        let text = written(LogFormat::Text, true, |reporter| {
            let report = reporter.client(None);
            report(registered("one"));
            report(lost());
        });
        assert!(!text.contains("tunnel proxy"), "{text}");
        let text = written(LogFormat::Text, true, |reporter| {
            let reason = "no TLS there".to_owned();
            let retry_in = Duration::from_millis(100);
            reporter.client(None)(Event::Disconnected { reason, retry_in, nobody_listens: false });
        });
        assert!(!text.contains("tunnel proxy"), "something runs there: {text}");
    }

    #[test]
    fn exchanges_are_shown_where_somebody_looks() {
        let told = |format, exchanges| {
            written(format, exchanges, |reporter| reporter.client(None)(exchange())).contains("/seen")
        };
        assert!(told(LogFormat::Text, true));
        assert!(!told(LogFormat::Text, false));
        assert!(told(LogFormat::Json, true));
    }

    #[test]
    fn programs_read_json_alone() {
        let text = written(LogFormat::Json, true, |reporter| {
            reporter.demo_client()(registered("one"));
            reporter.stopping();
            reporter.client(None)(lost());
            reporter.error("no luck");
        });
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["registered", "disconnected", "error"]);
    }

    #[test]
    fn a_demo_says_what_to_try() {
        let text = written(LogFormat::Text, true, |reporter| {
            reporter.demo_proxy()(proxy::Event::Draining { exchanges: 4 });
            reporter.demo_client()(registered("one"));
        });
        assert!(text.contains("curl http://one.localhost:6519/\n") && !text.contains('4'), "{text}");
    }
}

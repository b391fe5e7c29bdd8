//! Answers by itself while the service is away: 503 with `Retry-After`, as a page for browsers and as JSON for programs.

use guest_sdk::prelude::*;
use serde::Deserialize;
use serde_json::json;

/// What the operator writes under `config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    message: String,
    /// When to come again, in seconds.
    retry_after: u32,
    /// Paths that still reach the service, by their beginning.
    except: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let message = "We are working on it and will be back soon.".to_owned();
        Self { message, retry_after: 300, except: Vec::new() }
    }
}

struct Maintenance {
    config: Config,
    page: String,
}

#[guest_sdk::plugin]
impl Plugin for Maintenance {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if let Some(path) = config.except.iter().find(|path| !path.starts_with('/')) {
            return Err(Fault::new(format!("except: a path begins with /, not as {path:?} does")));
        }
        let page = include_str!("page.html").replace("{message}", &escape(&config.message));
        Ok(Self { config, page })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let path = request.path();
        if self.config.except.iter().any(|open| path.starts_with(open)) {
            return Forward::new().into();
        }
        let answer = Respond::new(503)
            .header("retry-after", self.config.retry_after.to_string())
            .header("cache-control", "no-store");
        let accept = request.header_text("accept").unwrap_or_default();
        if accept.contains("text/html") {
            answer.html(&self.page).into()
        } else {
            answer.json(&json!({ "error": "maintenance", "message": self.config.message })).into()
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use guest_sdk::testing::{Host, get};

    use super::*;

    #[test]
    fn browsers_get_a_page() {
        let plugin = Host::new().load::<Maintenance>("message = 'Back at <5>'\nretry_after = 60");
        let answer = plugin.request(get("/").header("accept", "text/html,*/*;q=0.8")).answered();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("60")));
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(answer.text().contains("<p>Back at &lt;5&gt;</p>"), "{}", answer.text());
    }

    #[test]
    fn programs_get_json() {
        let answer = Host::new().load::<Maintenance>("message = 'Later'").request(get("/api")).answered();
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.text(), r#"{"error":"maintenance","message":"Later"}"#);
    }

    #[test]
    fn some_paths_stay_open() {
        let plugin = Host::new().load::<Maintenance>("except = ['/health']");
        assert_eq!(plugin.request(get("/health/live?x=1")).forwarded().path, "/health/live?x=1");
        assert_eq!(plugin.request(get("/?/health")).answered().status, 503);
        assert!(Host::new().try_load::<Maintenance>("except = ['health']").is_err());
    }
}

//! `tunnel proxy status|sessions|disconnect|drain`: what a running node says of itself, and what it is told.
//!
//! Asks the admin listener's API as any other program would. Must not know how a node does what it is told.

use std::{fmt::Write, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::timeout;

use super::{text::shown, values::Wrong};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of one answer: a page of a thousand sessions has half a megabyte.
const LONGEST: usize = 16 << 20;

/// Sessions of one page.
const PAGE: usize = 500;

/// What a running proxy is asked for.
#[derive(Debug, Clone, Subcommand)]
pub enum Operation {
    /// Ask a running proxy how it is
    Status(ToolArgs),
    /// List the sessions of a running proxy
    Sessions {
        /// Only those of this tunnel
        #[arg(long, value_name = "NAME")]
        tunnel: Option<String>,
        /// Whom to ask.
        #[command(flatten)]
        tool: ToolArgs,
    },
    /// End a session of a running proxy now; its client may come back
    Disconnect {
        /// Its number, as "tunnel proxy sessions" shows it
        session: u64,
        /// Whom to ask.
        #[command(flatten)]
        tool: ToolArgs,
    },
    /// Have a running proxy drain and end, as SIGTERM does
    Drain(ToolArgs),
}

/// Whom to ask, and how to write what he says.
#[derive(Debug, Clone, Args)]
pub struct ToolArgs {
    /// The proxy's admin listener
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:6520",
        env = "TUNNEL_ADMIN",
        hide_env_values = true
    )]
    pub admin: AdminUrl,

    /// The token that it asks for, in a file
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Write the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Where an admin listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminUrl(Uri);

impl std::str::FromStr for AdminUrl {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let bare = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url: Option<Uri> = bare.parse().ok();
        match url {
            Some(url) if url.scheme_str() == Some("http") && url.host().is_some() && url.path() == "/" => {
                Ok(Self(url))
            }
            _ => Err(Wrong(format!(
                "\"{text}\" is no admin listener; write for example http://127.0.0.1:6520 (it speaks no TLS: over a \
                 network, use ssh -L or a VPN)"
            ))),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ToolError {
    #[error("the token in {} can't be read: {source}", path.display())]
    Token { path: PathBuf, source: std::io::Error },
    #[error("the token in {} can't stand in a header", .0.display())]
    BadToken(PathBuf),
    #[error("nobody answers at {admin}: {reason}; is the proxy running, with --admin?")]
    Silent { admin: String, reason: String },
    #[error("{admin} says {status}: {text}")]
    Refused { admin: String, status: StatusCode, text: String },
    #[error("{0} doesn't answer as a proxy does")]
    NotAProxy(String),
}

/// Does what was asked for, and says what there is to say.
///
/// # Errors
/// The proxy can't be asked, or won't.
pub async fn operate(tool: &Operation) -> Result<String, ToolError> {
    match tool {
        Operation::Status(args) => {
            let node = Asking::new(args)?.ask(Method::GET, "node").await?;
            Ok(if args.json { line(&node) } else { status(&node) })
        }
        Operation::Sessions { tunnel, tool: args } => {
            let sessions = every_session(&Asking::new(args)?, tunnel.as_deref()).await?;
            Ok(if args.json { line(&Value::Array(sessions)) } else { table(&sessions) })
        }
        Operation::Disconnect { session, tool: args } => {
            let said = Asking::new(args)?.ask(Method::DELETE, &format!("sessions/{session}")).await?;
            Ok(if args.json { line(&said) } else { format!("session {session} is ended\n") })
        }
        Operation::Drain(args) => {
            let said = Asking::new(args)?.ask(Method::POST, "drain").await?;
            Ok(if args.json {
                line(&said)
            } else {
                format!("it drains; exchanges under way: {}\n", said["exchanges"])
            })
        }
    }
}

async fn every_session(asking: &Asking, tunnel: Option<&str>) -> Result<Vec<Value>, ToolError> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let mut path = format!("sessions?limit={PAGE}&after={after}");
        if let Some(tunnel) = tunnel {
            let name = percent_encoding::utf8_percent_encode(tunnel, percent_encoding::NON_ALPHANUMERIC);
            // Names have letters, digits, dashes and dots, which mean themselves; anything else is no name.
            let _ = write!(path, "&tunnel={}", name.to_string().replace("%2D", "-").replace("%2E", "."));
        }
        let page = asking.ask(Method::GET, &path).await?;
        let Some(sessions) = page["sessions"].as_array() else { return Err(asking.not_a_proxy()) };
        all.extend(sessions.iter().cloned());
        match page["next"].as_u64() {
            Some(next) if next > after => after = next,
            _ => return Ok(all),
        }
    }
}

/// A node that is asked.
struct Asking {
    admin: Uri,
    token: Option<header::HeaderValue>,
    client: Client<HttpConnector, Empty<bytes::Bytes>>,
}

impl Asking {
    fn new(args: &ToolArgs) -> Result<Self, ToolError> {
        let token = args.admin_token_file.as_ref().map(|path| {
            let read = std::fs::read_to_string(path);
            let token = read.map_err(|source| ToolError::Token { path: path.clone(), source })?;
            let mut token = header::HeaderValue::try_from(format!("Bearer {}", token.trim()))
                .map_err(|_| ToolError::BadToken(path.clone()))?;
            token.set_sensitive(true);
            Ok(token)
        });
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Ok(Self { admin: args.admin.0.clone(), token: token.transpose()?, client })
    }

    fn shown(&self) -> String {
        self.admin.to_string().trim_end_matches('/').to_owned()
    }

    fn not_a_proxy(&self) -> ToolError {
        ToolError::NotAProxy(self.shown())
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Value, ToolError> {
        let silent = |reason: String| ToolError::Silent { admin: self.shown(), reason };
        let mut request = Request::builder().method(method).uri(format!("{}/api/v1/{path}", self.shown()));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Empty::new()).map_err(|error| silent(error.to_string()))?;
        let asking = async {
            let response = self.client.request(request).await.map_err(|error| silent(deepest(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            Ok((status, body.map_err(|error| silent(error.to_string()))?.to_bytes()))
        };
        let (status, bytes) =
            timeout(PATIENCE, asking).await.map_err(|_| silent("it takes too long".to_owned()))??;
        let text = String::from_utf8_lossy(&bytes);
        let value: Option<Value> = serde_json::from_slice(&bytes).ok();
        if !status.is_success() {
            let said = value.as_ref().and_then(|value| value["error"].as_str()).unwrap_or(text.trim());
            return Err(ToolError::Refused { admin: self.shown(), status, text: shown(said) });
        }
        value.ok_or_else(|| self.not_a_proxy())
    }
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// A value as people read it; what clients said of themselves is in it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    }
}

fn status(node: &Value) -> String {
    let mut out = String::new();
    let words = [
        ("state", "state"),
        ("node", "node"),
        ("version", "version"),
        ("since", "since"),
        ("public url", "public_url"),
        ("bus", "bus"),
        ("sessions", "sessions"),
        ("exchanges", "exchanges"),
        ("connections", "connections"),
    ];
    for (word, key) in words {
        let _ = writeln!(out, "{word:<12} {}", plain(&node[key]));
    }
    out
}

fn table(sessions: &[Value]) -> String {
    let heads = ["ID", "PUBLIC URL", "CLIENT", "SINCE", "OPEN", "TO CLIENT", "FROM CLIENT", "PROGRAM"];
    let mut rows = vec![heads.map(str::to_owned)];
    for session in sessions {
        let urls =
            session["tunnels"].as_array().into_iter().flatten().map(|tunnel| plain(&tunnel["public_url"]));
        let program = match session["program"].as_str() {
            Some(program) => format!("{} ({})", shown(program), plain(&session["dialect"])),
            None => plain(&session["dialect"]),
        };
        rows.push([
            plain(&session["id"]),
            urls.collect::<Vec<_>>().join(" "),
            plain(&session["client"]),
            plain(&session["since"]),
            plain(&session["exchanges_open"]),
            plain(&session["bytes_to_client"]),
            plain(&session["bytes_from_client"]),
            program,
        ]);
    }
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_admin_listener_is_an_address_without_tls() {
        for (text, url) in
            [("127.0.0.1:6520", "http://127.0.0.1:6520/"), ("http://a.lan:1", "http://a.lan:1/")]
        {
            assert_eq!(text.parse::<AdminUrl>().unwrap().0.to_string(), url);
        }
        for text in ["https://a.lan", "", "http://a/b"] {
            let Wrong(why) = text.parse::<AdminUrl>().unwrap_err();
            assert!(why.contains("http://127.0.0.1:6520"), "{why}");
        }
    }

    #[test]
    fn what_clients_say_of_themselves_moves_no_cursor() {
        let session = json!({
            "id": 7, "tunnels": [{ "public_url": "http://x.localhost" }], "client": "127.0.0.1:1", "dialect": "v2",
            "program": "evil\u{1b}[2J", "since": null, "exchanges_open": 0,
        });
        let text = table(&[session]);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(text.starts_with("ID  PUBLIC URL") && text.contains("http://x.localhost"), "{text}");
    }
}

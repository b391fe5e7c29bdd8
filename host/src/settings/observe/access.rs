//! `[access_log]`: where a line for each request goes, and what it may say.

use std::path::{Path, PathBuf};

use http::HeaderName;
use serde::Deserialize;

use super::{
    super::{
        SettingsError,
        document::Lines,
        file::FileError,
        report::Reporter,
        values::{Written, Wrong},
    },
    writer::Writer,
};
use crate::proxy::access::{AccessLog, Format, Redacted, is_secret};

/// Further headers of a line; more make it a dump.
const MOST_HEADERS: usize = 32;

/// `[access_log]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLogTable {
    /// A file, or `stdout`; a relative path starts at the settings file's folder.
    pub file: Option<PathBuf>,
    /// `json` or `combined`.
    pub format: Option<Written<FormatName>>,
    /// Parameters of queries whose values are left out, in place of the usual ones; `*` is all of them.
    pub redact: Option<Vec<String>>,
    /// Further request headers that are written, in JSON.
    pub headers: Option<Vec<String>>,
}

/// The name of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatName(Format);

impl std::str::FromStr for FormatName {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match text {
            "json" => Ok(Self(Format::Json)),
            "combined" => Ok(Self(Format::Combined)),
            _ => Err(Wrong(format!("\"{text}\" is no format; write \"json\" or \"combined\""))),
        }
    }
}

/// The access log, checked.
pub(super) struct AccessPlan {
    to: To,
    format: Format,
    redacted: Redacted,
    headers: Vec<HeaderName>,
}

enum To {
    Stdout,
    File(PathBuf),
}

/// Checks the table.
pub(super) fn plan(table: &AccessLogTable, lines: &Lines) -> Result<AccessPlan, FileError> {
    let to = match &table.file {
        None => {
            let problem =
                "it says not where to; write file = \"/var/log/tunnel/access.log\", or file = \"stdout\"";
            return Err(lines.wrong("access_log", problem));
        }
        Some(file) if file == Path::new("stdout") => To::Stdout,
        Some(file) => To::File(lines.resolve("access_log.file", file)?),
    };
    let format = table.format.as_ref().map_or(Format::Json, |format| format.0.0);
    let redacted = match &table.redact {
        None => Redacted::default(),
        Some(names) if names.iter().any(|name| name == "*") => Redacted::All,
        Some(names) => Redacted::named(names.iter().cloned()),
    };
    let mut headers = Vec::new();
    for name in table.headers.iter().flatten() {
        let header: HeaderName = name.parse().map_err(|_| {
            lines.wrong("access_log.headers", format!("{name:?} can't be the name of a header"))
        })?;
        if is_secret(&header) {
            let problem = format!("{name} holds what lets others in; it is never written");
            return Err(lines.wrong("access_log.headers", problem));
        }
        headers.push(header);
    }
    if headers.len() > MOST_HEADERS {
        return Err(lines.wrong("access_log.headers", format!("{MOST_HEADERS} headers at most")));
    }
    if !headers.is_empty() && format == Format::Combined {
        let problem = "the combined format has no place for them; write format = \"json\"";
        return Err(lines.wrong("access_log.headers", problem));
    }
    Ok(AccessPlan { to, format, redacted, headers })
}

impl AccessPlan {
    pub(super) fn describe(&self) -> String {
        let to = match &self.to {
            To::Stdout => "stdout".to_owned(),
            To::File(file) => file.display().to_string(),
        };
        let format = match self.format {
            Format::Json => "json",
            Format::Combined => "combined",
        };
        format!("access log  {to}, {format}")
    }

    /// Opens the log.
    ///
    /// # Errors
    /// The file can't be written.
    pub(super) fn begin(
        &self,
        reporter: &Reporter,
    ) -> Result<(Option<AccessLog>, Option<Writer>), SettingsError> {
        let (sink, writer): (std::sync::Arc<dyn Fn(String) + Send + Sync>, _) = match &self.to {
            // One at a time with the lines of events, so that none is torn.
            To::Stdout => (reporter.lines(), None),
            To::File(file) => {
                let writer = Writer::open(file).map_err(|source| SettingsError::AccessLog {
                    path: file.clone(),
                    source: std::sync::Arc::new(source),
                })?;
                (writer.sink(), Some(writer))
            }
        };
        let (format, redacted) = (self.format, self.redacted.clone());
        let log = AccessLog { format, redacted, headers: self.headers.as_slice().into(), sink };
        Ok((Some(log), writer))
    }
}

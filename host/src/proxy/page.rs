//! Short answers of the proxy's own, in the form that their reader understands: a page for browsers, JSON for
//! programs that ask for it, text for everyone else.
//!
//! Owns form and escaping; must not know what it says.

use std::fmt::Write;

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        self, ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};
use serde_json::Value;

use crate::exchange::{Body, hygiene};

/// The form that a visitor asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A page.
    Html,
    /// For programs.
    Json,
    /// For terminals.
    Text,
}

/// What is to be said, free of form.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    /// One short line.
    pub(crate) title: &'a str,
    /// Sentences, each a paragraph.
    pub(crate) paragraphs: Vec<&'a str>,
    /// A command line to copy.
    pub(crate) command: Option<&'a str>,
    /// Small print: names and values.
    pub(crate) facts: Vec<(&'a str, &'a str)>,
    /// The same for programs.
    pub(crate) json: Value,
}

impl Form {
    /// The form that `Accept` prefers (RFC 9110 section 12.5.1). A tie goes to the one named first; what names none
    /// of ours, as `*/*` does, gets text.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut best = (Self::Text, 0.0);
        for range in hygiene::tokens(headers, &ACCEPT) {
            let Some((form, weight)) = std::str::from_utf8(range).ok().and_then(weighed) else { continue };
            if weight > best.1 {
                best = (form, weight);
            }
        }
        best.0
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        })
    }
}

fn weighed(range: &str) -> Option<(Form, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.as_bytes();
    let is = |name: &str| media.eq_ignore_ascii_case(name.as_bytes());
    let form = if is("text/html") || is("application/xhtml+xml") {
        Form::Html
    } else if is("text/plain") {
        Form::Text
    } else if is("application/json")
        || media.last_chunk().is_some_and(|end: &[u8; 5]| end.eq_ignore_ascii_case(b"+json"))
    {
        Form::Json
    } else {
        return None;
    };
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some((form, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))))
}

impl Page<'_> {
    /// The whole response. Never stored: it is about this moment.
    pub(crate) fn respond(&self, status: StatusCode, form: Form) -> http::Response<Body> {
        self.write(status, form).map(Body::full)
    }

    /// The same, with its text still at hand.
    pub(crate) fn write(&self, status: StatusCode, form: Form) -> http::Response<String> {
        let mut response = http::Response::new(match form {
            Form::Html => self.html(),
            Form::Json => format!("{}\n", self.json),
            Form::Text => self.text(),
        });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, form.content_type());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_name(header::ACCEPT));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if form == Form::Html {
            let policy =
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        }
        response
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for paragraph in &self.paragraphs {
            let _ = write!(text, "\n{paragraph}\n");
        }
        if let Some(command) = self.command {
            let _ = write!(text, "\n    {command}\n");
        }
        if !self.facts.is_empty() {
            text.push('\n');
        }
        for (name, value) in &self.facts {
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }

    fn html(&self) -> String {
        let mut main = format!("<h1>{}</h1>\n", Escaped(self.title));
        for paragraph in &self.paragraphs {
            let _ = writeln!(main, "<p>{}</p>", Escaped(paragraph));
        }
        if let Some(command) = self.command {
            let _ = writeln!(main, "<pre><code>{}</code></pre>", Escaped(command));
        }
        if !self.facts.is_empty() {
            main.push_str("<dl>\n");
            for (name, value) in &self.facts {
                let _ = writeln!(main, "<div><dt>{}</dt><dd>{}</dd></div>", Escaped(name), Escaped(value));
            }
            main.push_str("</dl>\n");
        }
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"robots\" content=\"noindex\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n\
             <body>\n<main>\n{main}</main>\n</body>\n</html>\n",
            Escaped(self.title),
        )
    }
}

const STYLE: &str = "
:root{color-scheme:light dark}
body{margin:0;font:1rem/1.6 system-ui,sans-serif;background:Canvas;color:CanvasText}
main{max-width:38rem;margin:12vh auto;padding:0 1.5rem;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.3}
pre{padding:.75rem 1rem;border:1px solid GrayText;border-radius:.375rem;white-space:pre-wrap}
dl{margin-top:2.5rem;font-size:.875rem;opacity:.8}
dt,dd{display:inline;margin:0}
dt::after{content:\": \"}
";

/// Text made safe for HTML, in element content as in quoted attributes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: &str) -> Form {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Form::of(&headers)
    }

    #[test]
    fn accept_decides() {
        assert_eq!(Form::of(&HeaderMap::new()), Form::Text);
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (accept, expected) in [
            (chrome, Form::Html),
            ("*/*", Form::Text),
            ("application/json, text/plain, */*", Form::Json),
            ("text/html;q=0.5, application/json", Form::Json),
            ("application/problem+json", Form::Json),
            ("TEXT/HTML;level=1;q=0.3, text/plain;q=0.2", Form::Html),
            ("text/html;q=0", Form::Text),
            ("text/html;q=x, image/png", Form::Text),
        ] {
            assert_eq!(form(accept), expected, "{accept}");
        }
    }

    #[test]
    fn a_page_escapes_all_it_is_given() {
        let evil = "<script>'\"&";
        let (paragraphs, facts) = (vec![evil], vec![(evil, evil)]);
        let page = Page { title: evil, paragraphs, command: Some(evil), facts, json: Value::Null };
        let html = page.html();
        assert!(!html.contains("<script>"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;&#39;&quot;&amp;").count(), 6);
    }
}

//! What is answered. Knows nothing of where it runs.

use serde_json::json;

/// An answer with its type.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

/// `/` greets, `/echo` shows the request, all else isn't there.
#[cfg_attr(
    not(target_arch = "wasm32"),
    allow(dead_code, reason = "nobody calls a native build but its tests")
)]
pub(crate) fn to(method: &str, path_and_query: &str, headers: &[(String, String)]) -> Answer {
    let text =
        |status, body: &str| Answer { status, kind: "text/plain; charset=utf-8", body: body.to_owned() };
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    match (method, path) {
        ("GET", "/") => text(200, "Hello from a component.\n"),
        (_, "/echo") => {
            let body = json!({ "method": method, "path": path, "query": query, "headers": headers });
            Answer { status: 200, kind: "application/json", body: format!("{body}\n") }
        }
        (_, "/") => text(405, "Only GET is for this.\n"),
        _ => text(404, "There is nothing here.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_greets_and_echoes() {
        assert_eq!(to("GET", "/?x", &[]).body, "Hello from a component.\n");
        let echo = to("POST", "/echo?a=b", &[("x".to_owned(), "y".to_owned())]);
        assert_eq!(echo.kind, "application/json");
        assert_eq!(
            echo.body,
            "{\"headers\":[[\"x\",\"y\"]],\"method\":\"POST\",\"path\":\"/echo\",\"query\":\"a=b\"}\n"
        );
    }

    #[test]
    fn all_else_is_refused() {
        assert_eq!((to("PUT", "/", &[]).status, to("GET", "/favicon.ico", &[]).status), (405, 404));
    }
}

//! A page for those who came in. Who they are is said by whoever let them in.

use http::HeaderMap;

/// Greets the user whom the request's `x-user` names.
pub(super) fn page(headers: &HeaderMap) -> String {
    let user = headers.get("x-user").and_then(|user| user.to_str().ok()).unwrap_or("somebody");
    let user = user.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>Members</title>\n<style>:root {{ color-scheme: light dark }} body {{ \
         max-width: 40rem; margin: 4rem auto; padding: 0 1rem; font: 1.1rem/1.6 system-ui, sans-serif }}</style>\n\
         <body>\n<h1>Welcome, {user}</h1>\n<p>This service knows nothing of passwords: the plugin asked for yours, checked \
         it, took it off the request and left your name in <code>x-user</code>.</p>\n<p><a href=\"../\">Back</a></p>\n\
         </body>\n</html>\n"
    )
}

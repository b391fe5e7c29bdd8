//! As Apache's `combined`: address, two dashes, time, request, status, bytes, referer, user agent.

use std::fmt::Write;

use super::{Line, deceives};

pub(super) fn line(line: &Line<'_>) -> String {
    let head = line.head;
    let mut out = format!("{} - - [", line.visitor.ip());
    let _ = write!(out, "{}", line.time.strftime("%d/%b/%Y:%H:%M:%S +0000"));
    out.push_str("] \"");
    quote(&mut out, head.method.as_str());
    out.push(' ');
    quote(&mut out, &head.path);
    let _ = write!(out, " {}\" ", head.protocol);
    match line.status {
        Some(status) => {
            let _ = write!(out, "{}", status.as_u16());
        }
        // As nginx has it: the visitor left first.
        None => out.push_str("499"),
    }
    let _ = write!(out, " {} \"", line.bytes_out);
    quote(&mut out, head.referer.as_deref().unwrap_or("-"));
    out.push_str("\" \"");
    quote(&mut out, head.agent.as_deref().unwrap_or("-"));
    out.push('"');
    out
}

/// What could end the field or the line, or do something to a terminal, is spelt out byte by byte.
fn quote(out: &mut String, text: &str) {
    for c in text.chars() {
        if c == '"' || c == '\\' || deceives(c) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "\\x{byte:02x}");
            }
        } else {
            out.push(c);
        }
    }
}

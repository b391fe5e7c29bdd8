//! `traceparent` (W3C Trace Context, section 3.2), read strictly: what isn't valid begins a trace anew, as the specification demands.

use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Version, trace id, parent id and flags, with the dashes between.
const LENGTH: usize = 55;

/// The span that these headers name as the parent.
pub(super) fn read(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (trace, parent, flags) = parse(value)?;
    Some(SpanContext::new(trace, parent, flags, true, state(headers)))
}

/// What vendors keep there; nothing if it can't be read (section 3.3.1.1).
fn state(headers: &HeaderMap) -> TraceState {
    let mut all = String::new();
    for value in headers.get_all(TRACESTATE) {
        let Ok(value) = value.to_str() else { return TraceState::default() };
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(value);
    }
    TraceState::from_str(&all).unwrap_or_default()
}

fn parse(value: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    // Later versions may append to what is known of this one, after another dash.
    let (known, rest) = (value.get(..LENGTH)?, value.get(LENGTH..)?);
    let mut parts = known.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let whole = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let follows = if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
    if !whole || parts.next().is_some() || version == "ff" || !follows {
        return None;
    }
    let (trace, parent) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(parent).ok()?);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let valid = trace != TraceId::INVALID && parent != SpanId::INVALID;
    valid.then(|| (trace, parent, TraceFlags::new(flags)))
}

/// Names this span as the parent of what follows.
pub(super) fn write(headers: &mut HeaderMap, span: &SpanContext) {
    let flags = span.trace_flags().to_u8();
    let value = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
    headers.insert(TRACEPARENT, HeaderValue::try_from(value).expect("hexadecimal digits and dashes"));
    let state = span.trace_state().header();
    match HeaderValue::try_from(state) {
        Ok(state) if !state.is_empty() => _ = headers.insert(TRACESTATE, state),
        _ => _ = headers.remove(TRACESTATE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
        let map = headers(&[
            ("traceparent", GOOD),
            ("tracestate", "rojo=00f067aa0ba902b7"),
            ("tracestate", "congo=t61rcWkgMzE"),
        ]);
        let span = read(&map).unwrap();
        assert!(span.is_sampled() && span.is_remote());
        let mut written = headers(&[("traceparent", "x"), ("traceparent", "y"), ("tracestate", "z=1")]);
        write(&mut written, &span);
        assert_eq!(written, headers(&[("traceparent", GOOD), ("tracestate", state)]));
    }

    #[test]
    fn only_what_is_valid_is_a_parent() {
        for later in [
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert!(read(&headers(&[("traceparent", later)])).is_some(), "{later}");
        }
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473600f067aa0ba902b7--01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
        ] {
            assert!(read(&headers(&[("traceparent", bad)])).is_none(), "{bad}");
        }
        assert!(read(&headers(&[("traceparent", GOOD), ("traceparent", GOOD)])).is_none());
        // A state that nobody can read is no reason to lose the trace.
        let span = read(&headers(&[("traceparent", GOOD), ("tracestate", "rojo")])).unwrap();
        assert_eq!(span.trace_state().header(), "");
    }
}

//! Misbehaves in the hook and in the way that its configuration names: `{"on-request": "loop"}`.

use std::sync::OnceLock;

wit_bindgen::generate!({ path: "../../../wit", world: "full-filter", generate_all });

use exports::tunnel::plugin::{
    http_request_hook, http_response_hook, lifecycle, tick_hook, ws_hook,
};
use tunnel::plugin::{
    exchange::{Request, Response},
    log,
    types::{
        Answer, BodyAction, BodyMode, BodyVerdict, Edit, Fault, Forward, HeadVerdict, Side, WsAccept, WsAction,
        WsInterest, WsMessage, WsVerdict,
    },
};

struct Hostile;

static PLAN: OnceLock<serde_json::Value> = OnceLock::new();

/// What to do in a hook; empty for nothing.
fn plan(hook: &str) -> &'static str {
    PLAN.get().and_then(|plan| plan[hook].as_str()).unwrap_or_default()
}

/// The deeds that are possible in every hook.
fn misbehave(deed: &str) -> Result<(), Fault> {
    match deed {
        "loop" => loop {
            std::hint::black_box(0);
        },
        "bomb" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(vec![1; 1 << 20]);
            }
        }
        "overflow" => {
            deep(0);
            Ok(())
        }
        "trap" => panic!("told to"),
        "fault" => Err(Fault { message: "a fault with a secret in it".to_owned() }),
        "log" => {
            log::write(log::Level::Warn, &"x".repeat(10 << 20), &[]);
            Ok(())
        }
        "forge-log" => {
            log::write(log::Level::Warn, "one line\nWARN plugin: another", &[]);
            Ok(())
        }
        "file" => match std::fs::read("/etc/passwd") {
            Ok(_) => panic!("a file could be read"),
            Err(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "that is the point")]
fn deep(n: u64) -> u64 {
    let room = std::hint::black_box([n; 64]);
    deep(room[0] + 1) + room[1]
}

fn header(name: &str, value: &[u8]) -> Edit {
    Edit::Set((name.to_owned(), value.to_vec()))
}

/// Edits that must be refused, by name; `good` may pass.
fn edits(deed: &str) -> Vec<Edit> {
    match deed {
        "crlf" => vec![header("x-a", b"a\r\nx-evil: 1")],
        "nul" => vec![header("x-a", b"a\0b")],
        "name" => vec![header("x a", b"1")],
        "te" => vec![header("transfer-encoding", b"chunked")],
        "length" => vec![header("content-length", b"1")],
        "host" => vec![header("host", b"evil.example")],
        "reserved" => vec![header("tunnel-error", b"1")],
        "path" => vec![Edit::SetPath("/a b\r\nx: y".to_owned())],
        "connect" => vec![Edit::SetMethod("CONNECT".to_owned())],
        "status" => vec![Edit::SetStatus(101)],
        "many" => (0..2000).map(|n| header(&format!("x-{n}"), b"1")).collect(),
        "huge" => vec![header("x-a", &vec![b'a'; 100_000])],
        // For whoever wants to know who was asked: one more value, on whatever passes.
        _ if deed.starts_with("mark:") => vec![Edit::Append(("x-mark".to_owned(), deed[5..].as_bytes().to_vec()))],
        "good" => vec![header("x-hostile", b"was here"), Edit::Remove("x-remove".to_owned())],
        _ => Vec::new(),
    }
}

/// The verdict on a head that a hook's plan asks for.
fn head(hook: &str) -> Result<HeadVerdict, Fault> {
    let deed = plan(hook);
    misbehave(deed)?;
    Ok(match deed {
        "abort" => HeadVerdict::Abort("a reason with a secret in it".to_owned()),
        "respond" => HeadVerdict::Respond(Answer {
            status: 418,
            headers: vec![("content-type".to_owned(), b"text/plain".to_vec())],
            body: b"a teapot".to_vec(),
        }),
        "respond-huge" => HeadVerdict::Respond(Answer { status: 200, headers: Vec::new(), body: vec![0; 1 << 20] }),
        "respond-101" => HeadVerdict::Respond(Answer { status: 101, headers: Vec::new(), body: Vec::new() }),
        "state" => HeadVerdict::Forward(Forward { edits: Vec::new(), body: BodyMode::Pass, state: vec![0; 1 << 20] }),
        _ => HeadVerdict::Forward(Forward {
            edits: edits(deed),
            body: match deed {
                "whole" => BodyMode::Whole,
                "chunks" => BodyMode::Chunks,
                _ => BodyMode::Pass,
            },
            state: b"state".to_vec(),
        }),
    })
}

/// The verdict on a body that a hook's plan asks for.
fn body(hook: &str, bytes: Vec<u8>, state: &[u8]) -> Result<BodyVerdict, Fault> {
    let deed = plan(hook);
    misbehave(deed)?;
    assert!(state == b"state" || state.is_empty(), "the state is the one that the head's hook left");
    let action = match deed {
        "upper" => BodyAction::Replace(bytes.to_ascii_uppercase()),
        "large" => BodyAction::Replace(vec![b'x'; 1 << 20]),
        "abort" => BodyAction::Abort("a reason with a secret in it".to_owned()),
        "respond" => BodyAction::Respond(Answer { status: 418, headers: Vec::new(), body: b"a teapot".to_vec() }),
        _ => BodyAction::Keep,
    };
    Ok(BodyVerdict { action, edits: edits(deed), state: None })
}

impl lifecycle::Guest for Hostile {
    fn init(config: String) -> Result<(), String> {
        let plan_of_config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        let _ = PLAN.set(plan_of_config);
        misbehave(plan("init")).map_err(|fault| fault.message)
    }
}

impl http_request_hook::Guest for Hostile {
    fn on_request(request: &Request) -> Result<HeadVerdict, Fault> {
        if plan("on-request") == "note" {
            let _ = request.set_note("hostile", &format!("{:?}", request.role()));
        }
        head("on-request")
    }

    fn on_request_body(_: &Request, state: Vec<u8>, bytes: Vec<u8>, _: bool) -> Result<BodyVerdict, Fault> {
        body("on-request-body", bytes, &state)
    }
}

impl http_response_hook::Guest for Hostile {
    fn on_response(_: &Response, _: Vec<u8>) -> Result<HeadVerdict, Fault> {
        head("on-response")
    }

    fn on_response_body(_: &Response, state: Vec<u8>, bytes: Vec<u8>, _: bool) -> Result<BodyVerdict, Fault> {
        body("on-response-body", bytes, &state)
    }
}

impl ws_hook::Guest for Hostile {
    fn on_open(_: &Request, _: Vec<u8>) -> Result<WsAccept, Fault> {
        misbehave(plan("on-open"))?;
        Ok(WsAccept { interest: WsInterest::all(), state: Vec::new() })
    }

    fn on_message(_: Side, message: WsMessage, _: Vec<u8>) -> Result<WsVerdict, Fault> {
        let deed = plan("on-message");
        misbehave(deed)?;
        let action = match deed {
            "close" => WsAction::Close((1008, "not here".to_owned())),
            "close-1006" => WsAction::Close((1006, String::new())),
            "long-reason" => WsAction::Close((1008, "x".repeat(200))),
            "discard" => WsAction::Discard,
            "echo" => WsAction::Replace(message),
            _ => WsAction::Keep,
        };
        let send = match deed {
            "flood" => (0..10_000).map(|_| (Side::Visitor, WsMessage::Text("x".to_owned()))).collect(),
            _ => Vec::new(),
        };
        Ok(WsVerdict { action, send, state: None })
    }

    fn on_close(_: Side, _: u16, _: String, _: Vec<u8>) {
        let _ = misbehave(plan("on-close"));
    }
}

impl tick_hook::Guest for Hostile {
    fn on_tick() -> Result<(), Fault> {
        misbehave(plan("on-tick"))
    }
}

export!(Hostile);

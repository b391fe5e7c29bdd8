//! A plugin for tests: does to a WebSocket what its configuration and the messages themselves ask for.
//!
//! A text message is an order if it begins with a known word; see [`Plugin::on_message`]. Any other message passes.

use std::cell::OnceCell;

use serde::Deserialize;

wit_bindgen::generate!({ path: "../../../wit", world: "ws-filter" });

use exports::tunnel::plugin::{http_request_hook, lifecycle, ws_hook};
use tunnel::plugin::{
    exchange::Request,
    log,
    types::{
        BodyAction, BodyMode, BodyVerdict, Fault, Forward, HeadVerdict, Side, WsAccept, WsAction, WsInterest,
        WsMessage, WsVerdict,
    },
};

/// What `init` is given.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// What `on-open` does: `trap`, `fault`, `spin`, `state` (more than it may leave); it accepts if it is empty.
    open: String,
    /// The same for `on-close`, which can't return a fault.
    close: String,
    /// Messages that are of interest; all, if it is empty.
    interest: Vec<String>,
    /// Put in front of each text message that is no order; several plugins show their order so.
    mark: String,
    /// Counts messages, and puts the number in front of each that is no order.
    count: bool,
}

thread_local! {
    static CONFIG: OnceCell<Config> = const { OnceCell::new() };
}

fn config<T>(read: impl FnOnce(&Config) -> T) -> T {
    CONFIG.with(|config| read(config.get_or_init(Config::default)))
}

/// Fails in one of the ways that a guest can.
fn misbehave(way: &str) -> Result<(), Fault> {
    match way {
        "trap" => panic!("as asked"),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "eat" => {
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(std::hint::black_box(vec![1; 1 << 20]));
            }
        }
        "fault" => Err(Fault { message: "a guest's secret".to_owned() }),
        _ => Ok(()),
    }
}

struct Plugin;

export!(Plugin);

impl lifecycle::Guest for Plugin {
    fn init(text: String) -> Result<(), String> {
        let parsed = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        CONFIG.with(|config| config.set(parsed)).map_err(|_| "initialised twice".to_owned())
    }
}

impl http_request_hook::Guest for Plugin {
    fn on_request(_: &Request) -> Result<HeadVerdict, Fault> {
        Ok(HeadVerdict::Forward(Forward { edits: Vec::new(), body: BodyMode::Pass, state: b"request".to_vec() }))
    }

    fn on_request_body(_: &Request, _: Vec<u8>, _: Vec<u8>, _: bool) -> Result<BodyVerdict, Fault> {
        Ok(BodyVerdict { action: BodyAction::Keep, edits: Vec::new(), state: None })
    }
}

impl ws_hook::Guest for Plugin {
    fn on_open(request: &Request, state: Vec<u8>) -> Result<WsAccept, Fault> {
        misbehave(&config(|config| config.open.clone()))?;
        let line = format!("opened {} with {}", request.path(), String::from_utf8_lossy(&state));
        log::write(log::Level::Info, &line, &[]);
        let mut interest = WsInterest::empty();
        config(|config| {
            for kind in &config.interest {
                interest |= match kind.as_str() {
                    "visitor-text" => WsInterest::VISITOR_TEXT,
                    "visitor-binary" => WsInterest::VISITOR_BINARY,
                    "origin-text" => WsInterest::ORIGIN_TEXT,
                    "origin-binary" => WsInterest::ORIGIN_BINARY,
                    _ => WsInterest::empty(),
                };
            }
            if config.interest.is_empty() {
                interest = WsInterest::all();
            }
        });
        let state = if config(|config| config.open == "state") { vec![0; 1 << 20] } else { b"0".to_vec() };
        Ok(WsAccept { interest, state })
    }

    fn on_message(sender: Side, message: WsMessage, state: Vec<u8>) -> Result<WsVerdict, Fault> {
        let mut verdict = WsVerdict { action: WsAction::Keep, send: Vec::new(), state: None };
        let WsMessage::Text(text) = message else { return Ok(verdict) };
        let other = match sender {
            Side::Visitor => Side::Origin,
            Side::Origin => Side::Visitor,
        };
        let (order, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match order {
            "discard" => verdict.action = WsAction::Discard,
            "replace" => verdict.action = WsAction::Replace(WsMessage::Text(rest.to_owned())),
            "binary" => verdict.action = WsAction::Replace(WsMessage::Binary(rest.as_bytes().to_vec())),
            "blow-up" => verdict.action = WsAction::Replace(WsMessage::Binary(vec![7; rest.parse().unwrap()])),
            "close" => {
                let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                verdict.action = WsAction::Close((code.parse().unwrap(), reason.to_owned()));
            }
            "back" => verdict.send.push((sender, WsMessage::Text(rest.to_owned()))),
            "on" => verdict.send.push((other, WsMessage::Text(rest.to_owned()))),
            "many" => {
                let each = |at| (other, WsMessage::Text(format!("{at}")));
                verdict.send.extend((0..rest.parse().unwrap()).map(each));
            }
            "state" => verdict.state = Some(vec![0; rest.parse().unwrap()]),
            "trap" | "spin" | "eat" | "fault" => misbehave(order)?,
            _ => {
                let mark = config(|config| config.mark.clone());
                let mut marked = format!("{mark}{text}");
                if config(|config| config.count) {
                    let count = 1 + std::str::from_utf8(&state).unwrap().parse::<u64>().unwrap();
                    marked = format!("{count}:{marked}");
                    verdict.state = Some(count.to_string().into_bytes());
                }
                if marked != text {
                    verdict.action = WsAction::Replace(WsMessage::Text(marked));
                }
            }
        }
        Ok(verdict)
    }

    fn on_close(by: Side, code: u16, reason: String, state: Vec<u8>) {
        let by = match by {
            Side::Visitor => "visitor",
            Side::Origin => "origin",
        };
        let state = String::from_utf8_lossy(&state);
        log::write(log::Level::Info, &format!("closed by {by}, {code} {reason:?}, state {state}"), &[]);
        let _ = misbehave(&config(|config| config.close.clone()));
    }
}

//! A plugin for the host's tests. The header `script` of a request is a JSON array of steps, each an array of a name and
//! arguments; the answer is a JSON array of what came of them. `{"tick": [...]}` in its configuration is run by ticks.

#![allow(missing_docs, unsafe_code, reason = "wit-bindgen's code")]

mod wasi_steps;

use std::cell::RefCell;

use serde_json::{Value, json};

wit_bindgen::generate!({
    path: ["../../../wit", "wit/deps/io.wit", "wit/deps/clocks.wit", "wit/deps/cli.wit", "wit/deps/random.wit",
        "wit/deps/filesystem.wit", "wit/deps/sockets.wit", "wit/probe.wit"],
    world: "test:probe/probe",
    generate_all,
});

use exports::tunnel::plugin::{
    http_request_hook::{self, BodyVerdict, HeadVerdict, Request},
    lifecycle, tick_hook,
};
use tunnel::plugin::{clock, http_client, kv, log, metrics, random, secrets, types};

struct Probe;

export!(Probe);

thread_local! {
    static CONFIG: RefCell<Value> = const { RefCell::new(Value::Null) };
    /// Handles that are never given back.
    static KEPT: RefCell<Vec<kv::Bucket>> = const { RefCell::new(Vec::new()) };
}

impl lifecycle::Guest for Probe {
    fn init(config: String) -> Result<(), String> {
        let config: Value = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        let steps = config["init"].clone();
        CONFIG.set(config);
        run(&steps).map(drop)
    }
}

impl http_request_hook::Guest for Probe {
    fn on_request(request: &Request) -> Result<HeadVerdict, types::Fault> {
        let script = request.header("script").pop().unwrap_or_default();
        let script =
            serde_json::from_slice(&script).map_err(|error| types::Fault { message: error.to_string() })?;
        let script: Value = script;
        if script[0][0] == "tls" {
            return Ok(tls(request));
        }
        let results = run(&script).map_err(|message| types::Fault { message })?;
        let body = serde_json::to_vec(&results).unwrap_or_default();
        Ok(HeadVerdict::Respond(types::Answer { status: 200, headers: Vec::new(), body }))
    }

    fn on_request_body(_: &Request, _: Vec<u8>, _: Vec<u8>, _: bool) -> Result<BodyVerdict, types::Fault> {
        Err(types::Fault { message: "no body was asked for".to_owned() })
    }
}

impl tick_hook::Guest for Probe {
    fn on_tick() -> Result<(), types::Fault> {
        let steps = CONFIG.with_borrow(|config| config["tick"].clone());
        run(&steps).map(drop).map_err(|message| types::Fault { message })
    }
}

/// `["tls"]`, which is about the request itself.
fn tls(request: &Request) -> HeadVerdict {
    let known = request.visitor_tls().map(|tls| {
        let client = tls.client.map(|client| json!({ "subject": client.subject, "sha256": client.sha256 }));
        json!({ "version": tls.version, "cipher": tls.cipher, "server-name": tls.server_name, "alpn": tls.alpn, "client": client })
    });
    let body = serde_json::to_vec(&known).unwrap_or_default();
    HeadVerdict::Respond(types::Answer { status: 200, headers: Vec::new(), body })
}

/// The results of all steps, or the text of a step `fault`.
fn run(steps: &Value) -> Result<Vec<Value>, String> {
    steps.as_array().into_iter().flatten().map(step).collect()
}

fn step(step: &Value) -> Result<Value, String> {
    let text = |at: usize| step[at].as_str().unwrap_or_default();
    let number = |at: usize| step[at].as_u64().unwrap_or_default();
    Ok(match text(0) {
        "fault" => return Err(text(1).to_owned()),
        "trap" => unreachable!("as told"),
        "spin" => {
            let end = clock::monotonic() + number(1) * 1_000_000;
            while clock::monotonic() < end {}
            Value::Null
        }
        // ["repeat", n, step]: what came of the last one.
        "repeat" => {
            let mut last = Value::Null;
            for _ in 0..number(1) {
                last = self::step(&step[2])?;
            }
            last
        }
        "now" => json!(clock::now()),
        "random" => json!(random::bytes(number(1) as u32).len()),
        "secret" => json!(secrets::get(text(1)).map(|value| String::from_utf8_lossy(&value).into_owned())),
        "log" => {
            let level = match text(1) {
                "error" => log::Level::Error,
                "warn" => log::Level::Warn,
                _ => log::Level::Info,
            };
            let message = text(2).repeat(step[3].as_u64().unwrap_or(1) as usize);
            log::write(level, &message, &[("field".to_owned(), text(4).to_owned())]);
            Value::Null
        }
        "add" => {
            metrics::add(text(1), &labels(&step[2]), number(3));
            Value::Null
        }
        "gauge" => {
            metrics::gauge(text(1), &labels(&step[2]), step[3].as_f64().unwrap_or(f64::NAN));
            Value::Null
        }
        "observe" => {
            metrics::observe(text(1), &labels(&step[2]), step[3].as_f64().unwrap_or(f64::NAN));
            Value::Null
        }
        "http" => send(&step[1]),
        "keep" => match kv::Bucket::open(text(1)) {
            Ok(bucket) => {
                KEPT.with_borrow_mut(|kept| kept.push(bucket));
                Value::Null
            }
            Err(error) => failed(&error),
        },
        name if name.starts_with("kv.") => match key_value(&name[3..], step) {
            Ok(value) => value,
            Err(error) => failed(&error),
        },
        _ => return wasi_steps::step(step),
    })
}

fn labels(labels: &Value) -> Vec<(String, String)> {
    let labels = labels.as_object().into_iter().flatten();
    labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn failed(error: &dyn std::fmt::Debug) -> Value {
    json!({ "error": format!("{error:?}") })
}

/// `[kv.OPERATION, bucket, key, ...]`
fn key_value(operation: &str, step: &Value) -> Result<Value, kv::Error> {
    let text = |at: usize| step[at].as_str().unwrap_or_default();
    // A number stands for a value of so many bytes.
    let bytes = |at: usize| match step[at].as_u64() {
        Some(length) => vec![b'x'; length as usize],
        None => text(at).as_bytes().to_vec(),
    };
    let ttl = |at: usize| step[at].as_u64().unwrap_or_default();
    let bucket = kv::Bucket::open(text(1))?;
    Ok(match operation {
        "get" => json!(bucket.get(text(2))?.map(|value| String::from_utf8_lossy(&value).into_owned())),
        "set" => json!(bucket.set(text(2), &bytes(3), ttl(4))?),
        "remove" => json!(bucket.remove(text(2))?),
        "increment" => json!(bucket.increment(text(2), step[3].as_i64().unwrap_or_default(), ttl(4))?),
        "swap" => {
            let old = step[3].is_string().then(|| bytes(3));
            json!(bucket.swap(text(2), old.as_deref(), &bytes(4), ttl(5))?)
        }
        _ => Value::Null,
    })
}

fn send(request: &Value) -> Value {
    let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    let headers = labels(&request["headers"]).into_iter().map(|(name, value)| (name, value.into_bytes()));
    let sent = http_client::send(&http_client::Request {
        method: request["method"].as_str().unwrap_or("GET").to_owned(),
        url: text("url"),
        headers: headers.collect(),
        body: text("body").into_bytes(),
        timeout_ms: request["timeout"].as_u64().unwrap_or_default() as u32,
    });
    match sent {
        Ok(answer) => json!({ "status": answer.status, "body": String::from_utf8_lossy(&answer.body) }),
        Err(error) => failed(&error),
    }
}

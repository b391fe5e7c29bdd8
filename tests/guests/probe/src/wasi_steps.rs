//! Knocks at the doors of WASI, by its own interface rather than through `std`, which has none of it on
//! `wasm32-unknown-unknown`.

use serde_json::{Value, json};

use super::{
    failed,
    wasi::{
        cli::{environment, stderr, stdout},
        clocks::{monotonic_clock, wall_clock},
        filesystem::{
            preopens,
            types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
        },
        random::random,
        sockets::{
            instance_network::instance_network,
            ip_name_lookup,
            network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress},
            tcp_create_socket,
        },
    },
};

pub(super) fn step(step: &Value) -> Result<Value, String> {
    let text = |at: usize| step[at].as_str().unwrap_or_default();
    let number = |at: usize| step[at].as_u64().unwrap_or_default();
    Ok(match text(0) {
        "env" => json!(environment::get_environment()),
        "args" => json!(environment::get_arguments()),
        "clock" => json!([monotonic_clock::now(), wall_clock::now().seconds]),
        "wasi-random" => json!(random::get_random_bytes(number(1)).len()),
        "sleep" => {
            monotonic_clock::subscribe_duration(number(1) * 1_000_000).block();
            Value::Null
        }
        // [name, text, times]
        "stdout" | "stderr" => {
            let stream = if text(0) == "stdout" { stdout::get_stdout() } else { stderr::get_stderr() };
            let bytes = text(1).repeat(step[2].as_u64().unwrap_or(1) as usize).into_bytes();
            let mut written = Ok(());
            for piece in bytes.chunks(4096) {
                written = written.and_then(|()| stream.blocking_write_and_flush(piece));
            }
            json!(written.is_ok())
        }
        "folders" => {
            json!(preopens::get_directories().into_iter().map(|(_, name)| name).collect::<Vec<_>>())
        }
        // [name, folder, path]
        "read" => told(folder(text(1)).and_then(|folder| {
            let nothing = OpenFlags::empty();
            let file = folder.open_at(PathFlags::empty(), text(2), nothing, DescriptorFlags::READ)?;
            let (bytes, _) = file.read(1 << 16, 0)?;
            Ok(json!(String::from_utf8_lossy(&bytes)))
        })),
        // [name, folder, path, text]
        "write" => told(folder(text(1)).and_then(|folder| {
            let file =
                folder.open_at(PathFlags::empty(), text(2), OpenFlags::CREATE, DescriptorFlags::WRITE)?;
            Ok(json!(file.write(text(3).as_bytes(), 0)?))
        })),
        // [name, port]: of 127.0.0.1
        "connect" => {
            let socket = tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4);
            let address = Ipv4SocketAddress { port: number(1) as u16, address: (127, 0, 0, 1) };
            let address = IpSocketAddress::Ipv4(address);
            told(
                socket
                    .and_then(|socket| socket.start_connect(&instance_network(), address))
                    .map(|()| json!("connected")),
            )
        }
        "resolve" => {
            told(ip_name_lookup::resolve_addresses(&instance_network(), text(1)).map(|_| json!("resolved")))
        }
        unknown => return Err(format!("no such step: {unknown}")),
    })
}

fn folder(name: &str) -> Result<Descriptor, ErrorCode> {
    let folders = preopens::get_directories().into_iter();
    folders.into_iter().find(|(_, called)| called == name).map(|(folder, _)| folder).ok_or(ErrorCode::NoEntry)
}

fn told(result: Result<Value, impl std::fmt::Debug>) -> Value {
    result.unwrap_or_else(|error| failed(&error))
}

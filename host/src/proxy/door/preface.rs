//! Whether a connection without TLS begins as HTTP/2 does (RFC 9113 section 3.3: by prior knowledge).

use std::io;

use bytes::Bytes;
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::super::http2::PREFACE;

/// Reads until it is known, at most as far as the preface goes. Says whether it is HTTP/2, and what was read.
///
/// # Errors
/// The connection broke off.
pub(super) async fn speaks_http2(socket: &mut TcpStream) -> io::Result<(bool, Bytes)> {
    let mut ahead = [0; PREFACE.len()];
    let mut have = 0;
    while have < ahead.len() {
        let read = socket.read(&mut ahead[have..]).await?;
        have += read;
        // HTTP/1.1 differs in its first byte or two: no method begins with `PRI ` (RFC 9113 section 3.4).
        if read == 0 || ahead[..have] != PREFACE[..have] {
            return Ok((false, Bytes::copy_from_slice(&ahead[..have])));
        }
    }
    Ok((true, Bytes::copy_from_slice(&ahead)))
}

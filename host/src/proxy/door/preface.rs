//! Whether a connection without TLS begins as HTTP/2 does (RFC 9113 section 3.3: by prior knowledge).

use std::io;

use bytes::Bytes;
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::super::http2::PREFACE;

/// Bytes that are read at once: the whole head of most requests, which is looked into to see where the connection belongs.
const AT_ONCE: usize = 2048;

/// Reads until it is known. Says whether it is HTTP/2, and what was read.
///
/// # Errors
/// The connection broke off.
pub(super) async fn speaks_http2(socket: &mut TcpStream) -> io::Result<(bool, Bytes)> {
    let mut ahead = [0; AT_ONCE];
    let mut have = 0;
    loop {
        let read = socket.read(&mut ahead[have..]).await?;
        have += read;
        let begun = have.min(PREFACE.len());
        // HTTP/1.1 differs in its first byte or two: no method begins with `PRI ` (RFC 9113 section 3.4).
        let http2 = ahead[..begun] == PREFACE[..begun];
        if read == 0 || !http2 || begun == PREFACE.len() {
            return Ok((http2 && begun == PREFACE.len(), Bytes::copy_from_slice(&ahead[..have])));
        }
    }
}

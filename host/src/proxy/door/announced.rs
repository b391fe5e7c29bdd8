//! The header of the PROXY protocol, by which a balancer says whose connection it passes on.
//!
//! Owns where the header ends: not a byte more is read from the socket. Only of peers that the settings name is one read, and of
//! those it has to be there: else whoever reaches the listener could be anybody.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::exchange::hygiene;

/// A balancer sends it at once, in one piece.
const IN_TIME: Duration = Duration::from_secs(5);

/// The first bytes of version 2, and the length of what both versions have at least.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The first bytes of version 1.
const PROXY: &[u8] = b"PROXY ";

/// The longest line of version 1, with its end.
const MAX_LINE: usize = 107;

/// Bytes after the fixed part of version 2: addresses have 36 at most, or 216 of sockets with paths; the rest is for what a balancer adds of TLS.
const MAX_REST: usize = 4096;

/// Whether this peer's connections begin with a header.
pub(super) fn expected(nets: &[IpNet], peer: IpAddr) -> bool {
    hygiene::is_trusted(nets, peer)
}

/// Reads the header. `None` if the balancer speaks for itself, as it does to see whether we live.
///
/// # Errors
/// There is none, or it can't be read, or not in time.
pub(super) async fn read(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let bytes = timeout(IN_TIME, read_bytes(socket)).await??;
    let (header, length) = ProxyHeader::parse(&bytes, ParseConfig::default()).map_err(broken)?;
    if length != bytes.len() {
        return Err(broken("it has no end"));
    }
    match header.proxied_address() {
        None => Ok(None),
        Some(address) if address.protocol == Protocol::Stream => {
            Ok(Some(SocketAddr::new(address.source.ip().to_canonical(), address.source.port())))
        }
        Some(_) => Err(broken("it is of a datagram")),
    }
}

async fn read_bytes(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SIGNATURE.len()];
    socket.read_exact(&mut bytes).await?;
    if bytes == SIGNATURE {
        return read_version_2(socket, bytes).await;
    }
    if bytes.starts_with(PROXY) {
        return read_version_1(socket, bytes).await;
    }
    Err(broken("there is none"))
}

async fn read_version_2(socket: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut fixed = [0; 4];
    socket.read_exact(&mut fixed).await?;
    let rest = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if rest > MAX_REST {
        return Err(broken("it is too long"));
    }
    bytes.extend_from_slice(&fixed);
    let read = bytes.len();
    bytes.resize(read + rest, 0);
    socket.read_exact(&mut bytes[read..]).await?;
    Ok(bytes)
}

/// The line's end is looked for before it is taken: what follows is the visitor's.
async fn read_version_1(socket: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut ahead = [0; MAX_LINE];
    while !bytes.ends_with(b"\n") {
        let room = MAX_LINE - bytes.len();
        if room == 0 {
            return Err(broken("its line has no end"));
        }
        let seen = socket.peek(&mut ahead[..room]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = ahead[..seen].iter().position(|&byte| byte == b'\n').map_or(seen, |end| end + 1);
        let read = bytes.len();
        bytes.resize(read + line, 0);
        socket.read_exact(&mut bytes[read..]).await?;
    }
    Ok(bytes)
}

fn broken(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    /// What is read of these bytes, sent in pieces of this length, and what is left for the visitor's own.
    async fn sent(bytes: &[u8], piece: usize) -> io::Result<(Option<SocketAddr>, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        near.set_nodelay(true).unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let bytes = bytes.to_vec();
        let sending = tokio::spawn(async move {
            for piece in bytes.chunks(piece) {
                // Whoever has read enough may be gone.
                if near.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _ = near.shutdown().await;
        });
        let read = read(&mut far).await?;
        let mut left = Vec::new();
        far.read_to_end(&mut left).await?;
        sending.await.unwrap();
        Ok((read, left))
    }

    fn version_2(rest: &[u8], command: u8, family: u8) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn both_versions_are_read_to_their_end_and_no_further() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0x04, 0xd2, 0x01, 0xbb];
        let mut v6 = [0; 36];
        v6[15] = 7;
        v6[32..34].copy_from_slice(&[0x04, 0xd2]);
        let with_more = [&v4[..], &[0x04, 0, 2, 1, 1]].concat();
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 203, 0, 113, 7]);
        for (header, expected) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 1234 443\r\n".to_vec(), Some("203.0.113.7:1234")),
            (b"PROXY TCP6 2001:db8::7 ::1 1234 443\r\n".to_vec(), Some("[2001:db8::7]:1234")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:f... whatever 1 2\r\n".to_vec(), None),
            (version_2(&v4, 0x21, 0x11), Some("203.0.113.7:1234")),
            (version_2(&with_more, 0x21, 0x11), Some("203.0.113.7:1234")),
            (version_2(&v6, 0x21, 0x21), Some("[::7]:1234")),
            (version_2(&mapped, 0x21, 0x21), Some("203.0.113.7:0")),
            (version_2(&[], 0x20, 0x00), None),
            (version_2(&v4, 0x20, 0x11), None),
        ] {
            let expected = expected.map(|text: &str| text.parse().unwrap());
            for piece in [1, 7, 1000] {
                let bytes = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
                let (read, left) = sent(&bytes, piece).await.unwrap();
                assert_eq!((read, &left[..]), (expected, &b"GET / HTTP/1.1\r\n"[..]), "{header:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_none_is_an_error() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE));
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"",
            b"PROXY TCP4 ",
            b"PROXYXTCP4 203.0.113.7 10.0.0.1 1234 443\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 1234\r\n",
            b"PROXY TCP4 203.0.113.256 10.0.0.1 1234 443\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 1234 443\n",
            b"PROXY TCP5 203.0.113.7 10.0.0.1 1234 443\r\n",
            long.as_bytes(),
            &version_2(&[0; 12], 0x31, 0x11),
            &version_2(&[0; 11], 0x21, 0x11),
            &version_2(&[0; 12], 0x21, 0x12),
            &version_2(&[0; MAX_REST + 1], 0x21, 0x11),
        ] {
            assert!(sent(bytes, 1000).await.is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}

//! Small pieces written as one.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;

/// As long as this, a head and a short body are sooner copied than told to the kernel one by one.
const FEW: usize = 1024;

/// Writes pieces to a socket: a few bytes as one piece, many as they are.
pub fn poll_write_together<T: AsyncWrite + Unpin>(
    io: &mut T,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    if pieces.len() < 2 || length > FEW {
        return Pin::new(io).poll_write_vectored(cx, pieces);
    }
    let mut whole = [0; FEW];
    let mut rest = &mut whole[..length];
    for piece in pieces {
        let (copied, left) = rest.split_at_mut(piece.len());
        copied.copy_from_slice(piece);
        rest = left;
    }
    Pin::new(io).poll_write(cx, &whole[..length])
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes all that it is given, and remembers in which pieces.
    struct Pieces(Vec<Vec<usize>>, Vec<u8>);

    impl AsyncWrite for Pieces {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(vec![buf.len()]);
            self.1.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bufs.iter().map(|buf| buf.len()).collect());
            bufs.iter().for_each(|buf| self.1.extend_from_slice(buf));
            Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn few_bytes_are_one_piece_and_many_are_left_as_they_are() {
        let bytes: Vec<u8> = (0..=255).cycle().take(FEW + 1).collect();
        for (pieces, expected) in [
            (vec![3, 0, 7], vec![10]),
            (vec![FEW - 1, 1], vec![FEW]),
            (vec![FEW, 1], vec![FEW, 1]),
            (vec![5], vec![5]),
        ] {
            let mut io = Pieces(Vec::new(), Vec::new());
            let mut rest = &bytes[..];
            let mut slices = Vec::new();
            for length in pieces {
                let (piece, left) = rest.split_at(length);
                slices.push(IoSlice::new(piece));
                rest = left;
            }
            let length = bytes.len() - rest.len();
            let polled = poll_write_together(&mut io, &mut Context::from_waker(Waker::noop()), &slices);
            assert!(matches!(polled, Poll::Ready(Ok(written)) if written == length));
            assert_eq!((io.0, &io.1[..]), (vec![expected], &bytes[..length]));
        }
    }
}

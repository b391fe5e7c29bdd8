//! The host that the first bytes of a connection ask for, read before anybody answers for it.

/// The value of the first `Host` line, if it is among these bytes of a head. That a request is what it should be is seen to later:
/// whoever uses this may only choose by it where the work is done.
pub(super) fn of(head: &[u8]) -> Option<&str> {
    // The last line may have been cut off.
    let whole = &head[..=head.iter().rposition(|&byte| byte == b'\n')?];
    let lines = whole.split(|&byte| byte == b'\n').skip(1);
    let mut fields = lines.map(<[u8]>::trim_ascii_end).take_while(|line| !line.is_empty());
    let value = fields.find_map(|line| {
        let (name, value) = line.split_at_checked(5)?;
        name.eq_ignore_ascii_case(b"host:").then_some(value)
    })?;
    std::str::from_utf8(value.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_whole_host_line_and_nothing_else() {
        for (head, host) in [
            (&b"GET / HTTP/1.1\r\nHost: a.example\r\n"[..], Some("a.example")),
            (b"GET / HTTP/1.1\r\nAccept: */*\r\nhOST:a:80 \r\nX: y\r\n\r\n", Some("a:80")),
            (b"GET / HTTP/1.1\nHost: a\n\n", Some("a")),
            (b"GET / HTTP/1.1\r\nHost: a.exam", None),
            (b"GET / HTTP/1.1\r\nX: y\r\n\r\nHost: body\r\n", None),
            (b"Host: line\r\n\r\n", None),
            (b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", None),
            (b"", None),
        ] {
            assert_eq!(of(head), host, "{}", head.escape_ascii());
        }
    }
}

//! A message's bytes as they go over the wire.
//!
//! Every line ends with CRLF: servers differ in what a bare CR or LF beside a dot means, and one that takes it for the
//! end of the message would read the rest as commands (SMTP smuggling).

use memchr::memchr2;

/// Appends the message as DATA wants it (RFC 5321, section 4.5.2): leading dots doubled, the final dot at its end.
pub(super) fn put_stuffed(message: &[u8], out: &mut Vec<u8>) {
    put_lines::<true>(message, out);
    out.extend_from_slice(b".\r\n");
}

/// Appends the message as one chunk (RFC 3030, section 2), its length before it.
pub(super) fn put_chunk(message: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    put_lines::<false>(message, out);
    // The length is known only now, and moving two kilobytes costs less than looking for line ends twice.
    let command = format!("BDAT {} LAST\r\n", out.len() - start);
    out.splice(start..start, command.into_bytes());
}

fn put_lines<const STUFF: bool>(message: &[u8], out: &mut Vec<u8>) {
    out.reserve(message.len() + message.len() / 32 + 64);
    let mut rest = message;
    while !rest.is_empty() {
        if STUFF && rest[0] == b'.' {
            out.push(b'.');
        }
        let end = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let ending = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        out.extend_from_slice(&rest[..end]);
        out.extend_from_slice(b"\r\n");
        rest = rest.get(end + ending..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [(&str, &str); 6] = [
        ("a\r\n.b\r\n", "a\r\n.b\r\n"),
        (".a\n.\nb", ".a\r\n.\r\nb\r\n"),
        ("a\r.\r\nb\n\r.c", "a\r\n.\r\nb\r\n\r\n.c\r\n"),
        ("a\n\nb\r\r\n", "a\r\n\r\nb\r\n\r\n"),
        ("a\r", "a\r\n"),
        ("", ""),
    ];

    #[test]
    fn dots_are_doubled_and_lines_end_alike() {
        for (text, lines) in CASES {
            let mut out = b"before".to_vec();
            put_stuffed(text.as_bytes(), &mut out);
            let stuffed: String = lines.split_inclusive('\n').fold(String::new(), |out, line| {
                let dot = if line.starts_with('.') { "." } else { "" };
                out + dot + line
            });
            assert_eq!(String::from_utf8(out).unwrap(), format!("before{stuffed}.\r\n"), "{text:?}");
        }
    }

    #[test]
    fn a_chunk_tells_its_length() {
        for (text, lines) in CASES {
            let mut out = b"before".to_vec();
            put_chunk(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("beforeBDAT {} LAST\r\n{lines}", lines.len()));
        }
    }
}

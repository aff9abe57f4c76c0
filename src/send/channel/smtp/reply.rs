//! A server's reply (RFC 5321, section 4.2): three digits and text, over one line or several.

/// Postfix' own bound; a greeting or an error is far shorter.
const LINE_BYTES_MAX: usize = 4096;
/// EHLO lists a few dozen extensions; more is a server that never stops.
const REPLY_BYTES_MAX: usize = 32 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u16,
    /// The lines' text without their codes.
    pub lines: Vec<String>,
}

/// Not a reply, or one without an end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

impl Reply {
    pub fn is_done(&self) -> bool {
        self.code / 100 == 2
    }

    pub fn is_passing(&self) -> bool {
        self.code / 100 == 4
    }

    pub fn is_final(&self) -> bool {
        self.code / 100 == 5
    }

    /// 421: the server closes the connection (RFC 5321, section 3.8).
    pub fn is_closing(&self) -> bool {
        self.code == 421
    }

    /// As an operator reads it: `550 5.1.1 no such user`.
    pub fn text(&self) -> String {
        format!("{} {}", self.code, self.lines.join(" "))
    }

    /// Takes a whole reply from the front of the buffer. None: more must be read.
    pub fn take(buffer: &mut Vec<u8>) -> Result<Option<Self>, Garbage> {
        let (mut start, mut code, mut lines) = (0, None, vec![]);
        while let Some(length) = buffer[start..].iter().position(|b| *b == b'\n') {
            let line = buffer[start..start + length].trim_ascii_end();
            let (number, is_last, text) = parse_line(line)?;
            // Every line of one reply carries the same code.
            if length > LINE_BYTES_MAX || start > REPLY_BYTES_MAX || code.is_some_and(|code| code != number) {
                return Err(Garbage);
            }
            code = Some(number);
            lines.push(text);
            start += length + 1;
            if is_last {
                buffer.drain(..start);
                return Ok(Some(Self { code: number, lines }));
            }
        }
        let is_endless = buffer.len() - start > LINE_BYTES_MAX || buffer.len() > REPLY_BYTES_MAX;
        if is_endless { Err(Garbage) } else { Ok(None) }
    }
}

fn parse_line(line: &[u8]) -> Result<(u16, bool, String), Garbage> {
    let (code, rest) = line.split_at_checked(3).ok_or(Garbage)?;
    let is_code = matches!(code, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']);
    let (is_last, text) = match rest {
        [] => (true, rest),
        [b' ', text @ ..] => (true, text),
        [b'-', text @ ..] => (false, text),
        _ => return Err(Garbage),
    };
    if !is_code {
        return Err(Garbage);
    }
    let number = code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    Ok((number, is_last, String::from_utf8_lossy(text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<(u16, Vec<String>)>, Garbage> {
        Reply::take(&mut text.as_bytes().to_vec()).map(|reply| reply.map(|r| (r.code, r.lines)))
    }

    #[test]
    fn replies_have_one_line_or_several() {
        assert_eq!(take("250 ok\r\n"), Ok(Some((250, vec!["ok".into()]))));
        assert_eq!(take("250-a\r\n250-b\r\n250\r\n"), Ok(Some((250, vec!["a".into(), "b".into(), String::new()]))));
        assert_eq!(take("250-a\r\n250 b"), Ok(None));
        let mut buffer = b"250 a\r\n354 b\r\n".to_vec();
        Reply::take(&mut buffer).unwrap().unwrap();
        assert_eq!(buffer, b"354 b\r\n");
    }

    #[test]
    fn what_is_no_reply_is_garbage() {
        for text in ["\r\n", "25\r\n", "SSH-2.0\r\n", "650 x\r\n", "250_x\r\n", "250-a\r\n550 b\r\n"] {
            assert_eq!(take(text), Err(Garbage), "{text:?}");
        }
        assert_eq!(take(&"2".repeat(LINE_BYTES_MAX + 1)), Err(Garbage));
        assert_eq!(take(&"250-x\r\n".repeat(REPLY_BYTES_MAX)), Err(Garbage));
    }
}

//! A server's reply (RFC 5321, section 4.2): three digits and text, over one line or several.

use std::borrow::Cow;

/// Postfix' own bound; a greeting or an error is far shorter.
const LINE_BYTES_MAX: usize = 4096;
/// EHLO lists a few dozen extensions; more is a server that never stops.
const REPLY_BYTES_MAX: usize = 32 * 1024;

/// A reply where it was read: most of them are never looked at beyond their code.
#[derive(Clone, Debug)]
pub(super) struct Reply<'a> {
    pub code: u16,
    raw: Cow<'a, [u8]>,
}

/// Not a reply, or one without an end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

impl<'a> Reply<'a> {
    /// The bytes must have been measured.
    pub fn new(code: u16, raw: &'a [u8]) -> Self {
        Self { code, raw: Cow::Borrowed(raw) }
    }

    pub fn into_owned(self) -> Reply<'static> {
        Reply { code: self.code, raw: Cow::Owned(self.raw.into_owned()) }
    }

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

    /// `4.3.x`: the server's own state, whoever the message is for (RFC 3463, section 3.4).
    pub fn is_about_system(&self) -> bool {
        self.lines().next().is_some_and(|line| line.starts_with("4.3."))
    }

    /// 421 and 451: the server asks for less.
    pub fn is_busy(&self) -> bool {
        matches!(self.code, 421 | 451)
    }

    /// The lines' text without their codes.
    pub fn lines(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let lines = self.raw.split_inclusive(|b| *b == b'\n');
        lines.map(|line| String::from_utf8_lossy(line.trim_ascii_end().get(4..).unwrap_or_default()))
    }

    /// As an operator reads it: `550 5.1.1 no such user`.
    pub fn text(&self) -> String {
        let mut text = self.code.to_string();
        for line in self.lines() {
            text.push(' ');
            text.push_str(&line);
        }
        text
    }
}

/// The code and the length of the reply at the front. None: more must be read.
pub(super) fn measure(bytes: &[u8]) -> Result<Option<(u16, usize)>, Garbage> {
    let (mut start, mut code) = (0, None);
    while let Some(length) = memchr::memchr(b'\n', &bytes[start..]) {
        let (number, is_last) = parse_line(bytes[start..start + length].trim_ascii_end())?;
        // Every line of one reply carries the same code.
        if length > LINE_BYTES_MAX || start > REPLY_BYTES_MAX || code.is_some_and(|code| code != number) {
            return Err(Garbage);
        }
        code = Some(number);
        start += length + 1;
        if is_last {
            return Ok(Some((number, start)));
        }
    }
    let is_endless = bytes.len() - start > LINE_BYTES_MAX || bytes.len() > REPLY_BYTES_MAX;
    if is_endless { Err(Garbage) } else { Ok(None) }
}

fn parse_line(line: &[u8]) -> Result<(u16, bool), Garbage> {
    let is_last = match line.get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return Err(Garbage),
    };
    let Some(code @ [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']) = line.get(..3) else { return Err(Garbage) };
    Ok((code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')), is_last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<(u16, Vec<String>)>, Garbage> {
        let found = measure(text.as_bytes())?;
        Ok(found.map(|(code, length)| {
            let reply = Reply::new(code, &text.as_bytes()[..length]);
            (code, reply.lines().map(Cow::into_owned).collect())
        }))
    }

    #[test]
    fn replies_have_one_line_or_several() {
        assert_eq!(take("250 ok\r\n"), Ok(Some((250, vec!["ok".into()]))));
        assert_eq!(take("250-a\r\n250-b\r\n250\r\n"), Ok(Some((250, vec!["a".into(), "b".into(), String::new()]))));
        assert_eq!(take("250-a\r\n250 b"), Ok(None));
        assert_eq!(take("250 a\r\n354 b\r\n"), Ok(Some((250, vec!["a".into()]))));
        assert_eq!(Reply::new(550, b"550-no\r\n550 such\r\n").text(), "550 no such");
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

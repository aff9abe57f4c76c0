//! A part's content: 7bit where it can stand as it is, else quoted-printable or base64 (RFC 2045, section 6).

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memmem};

use super::base64;

/// RFC 5322, section 2.1.1, without CRLF.
pub(super) const LINE_BYTES_MAX: usize = 998;
/// RFC 2045, section 6.7 (5) and 6.8, without CRLF.
const CODED_LINE_BYTES_MAX: usize = 76;
/// Base64 of so many bytes fills a line.
pub const BASE64_LINE_BYTES: usize = 57;

/// How a part is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    SevenBit,
    QuotedPrintable,
    Base64,
}

impl Encoding {
    /// The shortest that carries a text: quoted-printable triples what is not ASCII, base64 makes all a third longer.
    pub fn of(text: &str) -> Self {
        if !text.is_ascii() {
            let foreign = text.bytes().filter(|b| !b.is_ascii()).count();
            return if foreign * 6 > text.len() { Self::Base64 } else { Self::QuotedPrintable };
        }
        let (mut start, mut longest) = (0, 0);
        for end in memchr_iter(b'\n', text.as_bytes()).chain([text.len()]) {
            longest = longest.max(end - start);
            start = end + 1;
        }
        if longest <= LINE_BYTES_MAX { Self::SevenBit } else { Self::QuotedPrintable }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::QuotedPrintable => "quoted-printable",
            Self::Base64 => "base64",
        }
    }

    /// Appends the text, each line with its end.
    pub fn put(self, text: &str, out: &mut Vec<u8>) {
        match self {
            Self::SevenBit => put_lines(text.as_bytes(), out),
            Self::QuotedPrintable => put_quoted(text.as_bytes(), out),
            Self::Base64 => {
                let mut lines = Vec::with_capacity(text.len() + text.len() / 32);
                put_lines(text.as_bytes(), &mut lines);
                for line in lines.chunks(BASE64_LINE_BYTES) {
                    out.extend_from_slice(base64(line).as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
    }
}

/// One kind of line end, and no control character but the tab: a lone CR or a NUL has no place in mail (RFC 5322, 2.3).
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let is_clean = |b: u8| (b >= b' ') & (b != 0x7f) | (b == b'\n') | (b == b'\t');
    // C1 controls are two bytes that begin with 0xC2; most texts have none, and most are clean. Without an early end the
    // compiler looks at many bytes at once.
    if text.bytes().fold(true, |all, b| all & is_clean(b)) && memchr(0xC2, text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    Cow::Owned(text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect())
}

/// Whether a boundary could be taken for one within a text.
pub(super) fn has_boundary(text: &str, boundary: &str) -> bool {
    memmem::find(text.as_bytes(), boundary.as_bytes()).is_some()
}

fn put_lines(text: &[u8], out: &mut Vec<u8>) {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut start = 0;
    for end in memchr_iter(b'\n', text).chain([text.len()]) {
        out.extend_from_slice(&text[start..end]);
        out.extend_from_slice(b"\r\n");
        start = end + 1;
    }
}

fn put_quoted(text: &[u8], out: &mut Vec<u8>) {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut start = 0;
    for end in memchr_iter(b'\n', text).chain([text.len()]) {
        put_quoted_line(&text[start..end], out);
        start = end + 1;
    }
}

fn put_quoted_line(line: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut column = 0;
    for (index, &byte) in line.iter().enumerate() {
        let is_last = index + 1 == line.len();
        // White space at a line's end is lost on the way (rule 3).
        let is_plain = matches!(byte, b'!'..=b'~') && byte != b'=' || matches!(byte, b' ' | b'\t') && !is_last;
        let width = if is_plain { 1 } else { 3 };
        // A line that goes on needs room for its `=`.
        let room = if is_last { CODED_LINE_BYTES_MAX } else { CODED_LINE_BYTES_MAX - 1 };
        if column + width > room {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        if is_plain {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'=', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        column += width;
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> (Encoding, String) {
        let (encoding, mut out) = (Encoding::of(text), vec![]);
        encoding.put(text, &mut out);
        (encoding, String::from_utf8(out).unwrap())
    }

    fn decoded(encoding: Encoding, text: &str) -> String {
        let bytes = match encoding {
            Encoding::SevenBit => text.as_bytes().to_vec(),
            Encoding::QuotedPrintable => {
                let (mut bytes, mut rest) = (vec![], text.replace("=\r\n", ""));
                while let Some(at) = rest.find('=') {
                    bytes.extend_from_slice(&rest.as_bytes()[..at]);
                    bytes.push(u8::from_str_radix(&rest[at + 1..at + 3], 16).unwrap());
                    rest = rest[at + 3..].to_owned();
                }
                bytes.extend_from_slice(rest.as_bytes());
                bytes
            }
            Encoding::Base64 => {
                let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                let six: Vec<usize> = text.chars().filter_map(|c| letters.find(c)).collect();
                let bytes = |four: &[usize]| {
                    let bits = (0..4).fold(0, |bits, n| bits << 6 | four.get(n).copied().unwrap_or(0));
                    [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8][..four.len() * 6 / 8].to_vec()
                };
                six.chunks(4).flat_map(bytes).collect()
            }
        };
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn each_text_has_the_encoding_that_carries_it() {
        assert_eq!(written("a\nb = c\n"), (Encoding::SevenBit, "a\r\nb = c\r\n".to_owned()));
        assert_eq!(written("Many Grüße = to all of you \n").1, "Many Gr=C3=BC=C3=9Fe =3D to all of you=20\r\n");
        assert_eq!(written(&"x".repeat(999)).0, Encoding::QuotedPrintable);
        assert_eq!(written("日本語"), (Encoding::Base64, "5pel5pys6KqeDQo=\r\n".to_owned()));
        assert_eq!(clean("a\r\nb\rc\0\u{85}d\te"), "a\nb\ncd\te");
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read_again(text in "([ -~]{0,90}|[a-zäöü=\t ]{0,90}|\\PC{0,40}|\n){0,8}") {
            let text = clean(&text).into_owned();
            let (encoding, written) = written(&text);
            let longest = written.split("\r\n").map(str::len).max().unwrap();
            let most = if encoding == Encoding::SevenBit { LINE_BYTES_MAX } else { CODED_LINE_BYTES_MAX };
            prop_assert!(longest <= most);
            let whole = if text.ends_with('\n') { text } else { format!("{text}\n") };
            prop_assert_eq!(decoded(encoding, &written).replace("\r\n", "\n"), whole);
        }
    }
}

//! Messages by RFC 5322 and RFC 2045, the same bytes for the same input.
//!
//! lettre encodes headers and bodies. What it leaves open is closed here: its boundary and date are not taken from the
//! air, line ends and control characters are made harmless before it sees them, and long words are folded.

use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart, MultiPartKind, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};
use sha2::{Digest, Sha256};

/// RFC 5321, section 4.5.3.1: a local part of 64, a path of 256 octets with its angle brackets.
const LOCAL_BYTES_MAX: usize = 64;
const ADDRESS_BYTES_MAX: usize = 254;
const LABEL_BYTES_MAX: usize = 63;
/// RFC 5322, section 2.1.1, without CRLF.
const LINE_BYTES_MAX: usize = 998;
/// Longer ones are cut by every mail reader; a template that makes one has a loop in its subject.
const SUBJECT_CHARS_MAX: usize = 998;
/// Of a word in a subject: what is longer is encoded, because an encoded word can be folded and a plain one cannot.
const WORD_BYTES_MAX: usize = 60;

/// What a message is made of.
pub struct Mail<'a> {
    pub from: &'a str,
    pub reply_to: Option<&'a str>,
    pub to: &'a str,
    pub subject: &'a str,
    pub text: Option<&'a str>,
    pub html: Option<&'a str>,
    /// Without the angle brackets.
    pub message_id: &'a str,
    pub date: jiff::Timestamp,
}

/// Why a message cannot be written. It names a header, never what stood in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageProblem {
    #[error("{0} is not an address")]
    NotAnAddress(&'static str),
    #[error("header {0} cannot be written")]
    Header(String),
    #[error("the date is before 1970 or behind 9999")]
    Date,
}

impl From<MessageProblem> for String {
    fn from(problem: MessageProblem) -> Self {
        problem.to_string()
    }
}

/// Whether mail can be sent to an address as it stands: no SMTPUTF8, no quoted local parts, no line breaks.
///
/// A domain in another script must come as its `xn--` form.
pub fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_plain = text.bytes().all(|b| b.is_ascii_graphic() && !br#"<>(),;:"\[]"#.contains(&b));
    let is_label = |label: &str| {
        let has_letters = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && has_letters
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let has_atoms = !local.contains('@') && local.split('.').all(|atom| !atom.is_empty());
    is_plain
        && has_atoms
        && domain.split('.').all(is_label)
        && local.len() <= LOCAL_BYTES_MAX
        && text.len() <= ADDRESS_BYTES_MAX
        && text.parse::<Address>().is_ok()
}

/// The address in `Shop <shop@example.com>`.
pub fn address_of(mailbox: &str) -> Option<String> {
    let mailbox = mailbox.parse::<Mailbox>().ok()?;
    Some(mailbox.email.to_string()).filter(|address| is_address(address))
}

/// The message's bytes.
///
/// # Errors
/// Which header cannot be written, without its value.
pub fn bytes(mail: &Mail<'_>) -> Result<Vec<u8>, MessageProblem> {
    bytes_with(mail, &[])
}

/// The message's bytes with further headers, such as `List-Unsubscribe` (RFC 8058). Values are ASCII, on one line.
///
/// # Errors
/// Which header cannot be written, without its value.
pub fn bytes_with(mail: &Mail<'_>, headers: &[(&str, &str)]) -> Result<Vec<u8>, MessageProblem> {
    let mut builder = Message::builder()
        .from(mailbox("from", mail.from)?)
        .to(mailbox("to", mail.to)?)
        .raw_header(subject(mail.subject))
        .raw_header(header("Message-ID", &format!("<{}>", mail.message_id))?)
        .raw_header(header("Date", &date(mail.date)?)?);
    if let Some(reply_to) = mail.reply_to {
        builder = builder.reply_to(mailbox("replyTo", reply_to)?);
    }
    for (name, value) in headers {
        builder = builder.raw_header(header(name, value)?);
    }
    let text = mail.text.map(|text| single(ContentType::TEXT_PLAIN, text));
    let html = mail.html.map(|html| single(ContentType::TEXT_HTML, html));
    let message = match (text, html) {
        (Some(text), Some(html)) => {
            let alternative = MultiPart::builder().kind(MultiPartKind::Alternative).boundary(boundary(mail));
            builder.multipart(alternative.singlepart(text).singlepart(html))
        }
        (Some(part), None) | (None, Some(part)) => builder.singlepart(part),
        (None, None) => builder.singlepart(single(ContentType::TEXT_PLAIN, "")),
    };
    Ok(message.map_err(|_| MessageProblem::NotAnAddress("from"))?.formatted())
}

fn mailbox(what: &'static str, text: &str) -> Result<Mailbox, MessageProblem> {
    let problem = MessageProblem::NotAnAddress(what);
    if text.chars().any(char::is_control) {
        return Err(problem);
    }
    match text.parse::<Mailbox>() {
        Ok(mailbox) if is_address(mailbox.email.as_ref()) => Ok(mailbox),
        _ => Err(problem),
    }
}

/// RFC 5322, section 3.3, always in UTC.
fn date(at: jiff::Timestamp) -> Result<String, MessageProblem> {
    let zoned = at.to_zoned(jiff::tz::TimeZone::UTC);
    // lettre reads the header back, and puts the present time in place of a year before 1970.
    if !(1970..=9999).contains(&zoned.year()) {
        return Err(MessageProblem::Date);
    }
    jiff::fmt::strtime::format("%a, %d %b %Y %H:%M:%S +0000", &zoned).map_err(|_| MessageProblem::Date)
}

fn subject(text: &str) -> HeaderValue {
    let text: String = one_line(text).chars().take(SUBJECT_CHARS_MAX).collect();
    let name = HeaderName::new_from_ascii_str("Subject");
    let is_plain = |word: &str| word.is_ascii() && word.len() <= WORD_BYTES_MAX && !word.contains("=?");
    if text.split(' ').all(is_plain) {
        return HeaderValue::new(name, text);
    }
    let coded = encoded_words(&text, "Subject: ".len());
    HeaderValue::dangerous_new_pre_encoded(name, text, coded)
}

/// RFC 2047, section 4.1, as base64: words of at most 75 characters, one a line, no character cut in two.
fn encoded_words(text: &str, indent: usize) -> String {
    const FRAME: usize = "=?utf-8?b??=".len();
    let (mut out, mut chunk) = (String::new(), String::new());
    let mut room = 76 - indent;
    for c in text.chars() {
        if (chunk.len() + c.len_utf8()).div_ceil(3) * 4 + FRAME > room {
            out += &format!("=?utf-8?b?{}?=\r\n ", base64(chunk.as_bytes()));
            chunk.clear();
            room = 75;
        }
        chunk.push(c);
    }
    out + &format!("=?utf-8?b?{}?=", base64(chunk.as_bytes()))
}

/// A header of ASCII words, folded between them.
fn header(name: &str, value: &str) -> Result<HeaderValue, MessageProblem> {
    let problem = || MessageProblem::Header(name.chars().filter(char::is_ascii_graphic).take(76).collect());
    let is_name = name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    let is_value = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if !is_name || !is_value || value.trim() != value {
        return Err(problem());
    }
    let header_name = HeaderName::new_from_ascii(name.to_owned()).map_err(|_| problem())?;
    let (mut folded, mut column) = (String::new(), name.len() + 1);
    for word in value.split_ascii_whitespace() {
        if word.len() >= LINE_BYTES_MAX - name.len() - 2 {
            return Err(problem());
        }
        if !folded.is_empty() {
            folded.push_str(if column + 1 + word.len() > 76 { "\r\n " } else { " " });
            column = if folded.ends_with("\r\n ") { 0 } else { column };
        }
        folded.push_str(word);
        column += 1 + word.len();
    }
    Ok(HeaderValue::dangerous_new_pre_encoded(header_name, value.to_owned(), folded))
}

/// Of the content, so that no content can contain it, and the same message has the same bytes.
fn boundary(mail: &Mail<'_>) -> String {
    let mut hash = Sha256::new();
    for part in [mail.message_id, mail.text.unwrap_or_default(), mail.html.unwrap_or_default()] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // `=_` cannot stand in quoted-printable (RFC 2045, section 6.7).
    format!("=_{digits}")
}

fn single(kind: ContentType, body: &str) -> SinglePart {
    SinglePart::builder().header(kind).body(lines(body))
}

/// One kind of line end, and no control character but the tab: a lone CR or a NUL has no place in mail (RFC 5322, 2.3).
fn lines(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Words with single spaces between them: a line break in a header would begin another one.
pub(super) fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// RFC 4648, section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, n| bits << 8 | u32::from(chunk.get(n).copied().unwrap_or(0)));
        for n in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * n) & 63) as usize];
            out.push(if n <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mail<'a>(to: &'a str, subject: &'a str) -> Mail<'a> {
        Mail {
            from: "Shop <shop@example.com>",
            reply_to: None,
            to,
            subject,
            text: Some("Grüße"),
            html: Some("<p>Grüße</p>"),
            message_id: "r1.0.0.5@example.com",
            date: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn text_of(mail: &Mail<'_>) -> String {
        String::from_utf8(bytes(mail).unwrap()).unwrap()
    }

    /// What every message must be, whatever stood in it.
    fn assert_valid(written: &str) {
        assert!(written.is_ascii());
        let without_ends = written.replace("\r\n", "");
        assert!(!without_ends.contains(['\r', '\n', '\0']), "{written:?}");
        assert!(written.split("\r\n").all(|line| line.len() <= LINE_BYTES_MAX), "{written}");
        let (head, _) = written.split_once("\r\n\r\n").unwrap();
        let fields = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
        let mut names: Vec<_> = fields.map(|line| line.split_once(':').expect(line).0.to_owned()).collect();
        names.sort();
        names.retain(|name| !name.starts_with("Content-"));
        assert_eq!(names, ["Date", "From", "MIME-Version", "Message-ID", "Subject", "To"], "{head}");
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let text = text_of(&mail("a@example.com", "Ü"));
        assert_eq!(text, text_of(&mail("a@example.com", "Ü")));
        assert!(text.contains("Message-ID: <r1.0.0.5@example.com>\r\n") && text.contains("=?utf-8?"), "{text}");
        assert!(text.contains("Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"), "{text}");
        assert_valid(&text);
    }

    #[test]
    fn nothing_breaks_out_of_a_header() {
        let long = format!("{}@b.c", "x".repeat(65));
        let longer = format!("a@{}.c", ["x".repeat(63).as_str(); 4].join("."));
        for bad in [
            "a@b.com\r\nBcc: x@y.z",
            "a b@c.d",
            "a@",
            "@b.c",
            "a@b..c",
            "a\0@b.c",
            "ü@b.c",
            "a@bü.c",
            "a@b.c>",
            "a@b@c",
            "a",
            "",
            "a@-b.c",
            "a@b.c\n",
            &long,
            &longer,
        ] {
            assert!(!is_address(bad), "{bad:?}");
            assert!(bytes(&mail(bad, "x")).is_err(), "{bad:?}");
        }
        for good in ["ANDREA.HENDERSON@sakilacustomer.org", "o'brien+tag@xn--bcher-kva.example", "a_b=c@d_e.example"] {
            assert!(is_address(good), "{good}");
        }
        let written = text_of(&mail("a@b.com", "x\r\nBcc: evil@b.com\0\u{85}\u{2028}y"));
        assert!(!written.contains("\r\nBcc:"), "{written}");
        assert_valid(&written);
    }

    #[test]
    fn long_words_and_lines_are_folded() {
        let long = "a".repeat(3000);
        for subject in [long.as_str(), &"ü".repeat(500), &format!("Hello {}", "b".repeat(200)), "=?utf-8?b?aGk=?="] {
            let text = format!("{long}\nshort\r{long}\0");
            let written = text_of(&Mail { text: Some(&text), html: Some(&long), ..mail("a@b.com", subject) });
            assert_valid(&written);
            assert!(written.lines().all(|line| line.len() <= 78), "{written}");
        }
        assert!(text_of(&mail("a@b.com", "Hello plain world")).contains("\r\nSubject: Hello plain world\r\n"));
    }

    #[test]
    fn further_headers_are_passed_on_and_checked() {
        let link = format!("<mailto:u@example.com>, <https://example.com/{}>", "t".repeat(200));
        let given = [("List-Unsubscribe", link.as_str()), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")];
        let written = String::from_utf8(bytes_with(&mail("a@b.com", "x"), &given).unwrap()).unwrap();
        let unfolded = written.replace("\r\n ", " ");
        assert!(unfolded.contains(&format!("\r\nList-Unsubscribe: {link}\r\n")), "{written}");
        assert!(unfolded.contains("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"), "{written}");
        for (name, value) in [
            ("X", "a\r\nBcc: b"),
            ("X", "a\nb"),
            ("X\r\nBcc", "a"),
            ("X:", "a"),
            ("X", "ü"),
            ("X", ""),
            ("", "a"),
            ("X", &"y".repeat(1000)),
        ] {
            let problem = bytes_with(&mail("a@b.com", "x"), &[(name, value)]).unwrap_err();
            assert!(matches!(problem, MessageProblem::Header(_)), "{name:?} {value:?}");
        }
    }

    #[test]
    fn a_content_cannot_close_its_part() {
        let honest = mail("a@b.com", "x");
        let evil = format!("--{}--", boundary(&honest));
        let written = text_of(&Mail { text: Some(&evil), ..mail("a@b.com", "x") });
        let used = boundary(&Mail { text: Some(&evil), ..mail("a@b.com", "x") });
        assert_eq!(written.matches(&format!("--{used}")).count(), 3, "{written}");
    }

    #[test]
    fn one_part_is_no_multipart() {
        let written = text_of(&Mail { html: None, ..mail("a@b.com", "x") });
        assert!(
            written.contains("Content-Type: text/plain; charset=utf-8\r\n") && !written.contains("multipart"),
            "{written}"
        );
        assert_valid(&written);
    }

    #[test]
    fn years_out_of_reach_are_a_problem() {
        for far in ["-000044-03-15T00:00:00Z", "1969-12-31T23:59:59Z"] {
            let date = far.parse().unwrap();
            assert_eq!(bytes(&Mail { date, ..mail("a@b.com", "x") }), Err(MessageProblem::Date));
        }
        let date = "2026-02-28T23:59:59.9Z".parse().unwrap();
        assert!(text_of(&Mail { date, ..mail("a@b.com", "x") }).contains("Date: Sat, 28 Feb 2026 23:59:59 +0000\r\n"));
    }

    /// Base64 read by the letters' own order, apart from the code under test.
    fn decoded(coded: &str) -> Vec<u8> {
        let letters: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
        let bits: Vec<u8> = coded
            .chars()
            .filter_map(|c| letters.iter().position(|l| *l == c))
            .flat_map(|at| (0..6).rev().map(move |bit| u8::try_from(at >> bit & 1).unwrap()))
            .collect();
        bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
    }

    proptest! {
        #[test]
        fn whatever_stands_in_it_a_message_is_valid(subject in any::<String>(), text in any::<String>(), html in "(?s).{0,200}") {
            let written = text_of(&Mail { text: Some(&text), html: Some(&html), ..mail("a@b.com", &subject) });
            assert_valid(&written);
        }

        #[test]
        fn encoded_words_say_what_was_given(text in "\\PC{1,200}") {
            let coded = encoded_words(&text, 9);
            prop_assert!(coded.split("\r\n ").all(|word| word.len() <= 75));
            let bytes = coded.split("\r\n ").flat_map(|word| decoded(word.trim_start_matches("=?utf-8?b?").trim_end_matches("?=")));
            prop_assert_eq!(String::from_utf8(bytes.collect()).unwrap(), text);
        }

        #[test]
        fn no_address_passes_with_a_break_in_it(text in any::<String>()) {
            prop_assert!(!is_address(&text) || text.bytes().all(|b| b.is_ascii_graphic()));
        }
    }
}

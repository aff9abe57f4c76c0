//! Messages by RFC 5322 and RFC 2045, the same bytes for the same input.
//!
//! They are written straight into one buffer: a campaign's worth of them is most of what a sender's processor does.
//! Line ends and control characters are made harmless first, and long words are folded.

mod body;
pub mod dkim;
mod enclosed;

use base64::{Engine, engine::general_purpose::STANDARD};

use self::body::{Encoding, LINE_BYTES_MAX, clean, has_boundary};
pub use self::{
    body::BASE64_LINE_BYTES,
    enclosed::{BASE64_LINE_TRAVELS, Enclosed, base64_lines},
};

/// RFC 5321, section 4.5.3.1: a local part of 64, a path of 256 octets with its angle brackets.
pub const LOCAL_BYTES_MAX: usize = 64;
pub const ADDRESS_BYTES_MAX: usize = 254;
/// What [`is_address`] takes, but for the two lengths above, as both databases read it.
pub const ADDRESS: &str = "^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\
    @[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$";
const LABEL_BYTES_MAX: usize = 63;
/// Longer ones are cut by every mail reader; a template that makes one has a loop in its subject.
const SUBJECT_CHARS_MAX: usize = 998;
/// Of a word in a subject: what is longer is encoded, because an encoded word can be folded and a plain one cannot.
const WORD_BYTES_MAX: usize = 60;
/// In the boundaries of what stands around the words.
const MIXED: &str = ".mixed.";
const RELATED: &str = ".related.";

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

/// Graphic ASCII without RFC 5322's specials, but for the dot and the `@`. A table, because it is asked of every message.
const IN_ADDRESS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] =
            !matches!(byte, b'<' | b'>' | b'(' | b')' | b',' | b';' | b':' | b'"' | b'\\' | b'[' | b']');
        byte += 1;
    }
    table
};

/// Whether mail can be sent to an address as it stands: no SMTPUTF8, no quoted local parts, no line breaks.
///
/// A domain in another script must come as its `xn--` form.
pub fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_plain = text.bytes().all(|b| IN_ADDRESS[usize::from(b)]);
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
}

/// The address in `Shop <shop@example.com>`.
pub fn address_of(mailbox: &str) -> Option<String> {
    parse_mailbox(mailbox).map(|(_, address)| address.to_owned())
}

/// The name and the address of `Shop <shop@example.com>`, `"Shop, the" <shop@example.com>` or `shop@example.com`.
fn parse_mailbox(text: &str) -> Option<(String, &str)> {
    if text.chars().any(char::is_control) {
        return None;
    }
    let text = text.trim();
    let (name, address) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((name, address)) => (name.trim(), address),
        None => ("", text),
    };
    let name = match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\\\"", "\"").replace("\\\\", "\\"),
        None if name.contains(['"', '<', '>']) => return None,
        None => name.to_owned(),
    };
    is_address(address).then_some((name, address))
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
    bytes_enclosing(mail, headers, &[])
}

/// The message's bytes with what travels with it.
///
/// # Errors
/// Which header cannot be written, without its value.
pub fn bytes_enclosing(
    mail: &Mail<'_>,
    headers: &[(&str, &str)],
    files: &[Enclosed<'_>],
) -> Result<Vec<u8>, MessageProblem> {
    let length = |text: Option<&str>| text.map_or(0, |text| text.len() + text.len() / 8);
    let travels: usize = files.iter().map(|file| file.body.len() + 512).sum();
    let mut out = Vec::with_capacity(1_024 + length(mail.text) + length(mail.html) + travels);
    put_mailbox("From", mail.from, &mut out).ok_or(MessageProblem::NotAnAddress("from"))?;
    put_mailbox("To", mail.to, &mut out).ok_or(MessageProblem::NotAnAddress("to"))?;
    if let Some(reply_to) = mail.reply_to {
        put_mailbox("Reply-To", reply_to, &mut out).ok_or(MessageProblem::NotAnAddress("replyTo"))?;
    }
    put_subject(mail.subject, &mut out);
    put_header("Message-ID", &format!("<{}>", mail.message_id), &mut out)?;
    put_header("Date", &date(mail.date)?, &mut out)?;
    for (name, value) in headers {
        put_header(name, value, &mut out)?;
    }
    out.extend_from_slice(b"MIME-Version: 1.0\r\n");
    let (text, html) = (mail.text.map(clean), mail.html.map(clean));
    let words: Vec<&str> = [&text, &html].into_iter().flatten().map(|words| &**words).collect();
    let (shown, saved): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.content_id.is_some());
    let boundary = |kind: &str| boundary(kind, mail.message_id, &words);
    let mixed = (!saved.is_empty()).then(|| boundary(MIXED));
    let related = (!shown.is_empty()).then(|| boundary(RELATED));
    if let Some(mixed) = &mixed {
        put(&mut out, &["Content-Type: multipart/mixed; boundary=\"", mixed, "\"\r\n\r\n--", mixed, "\r\n"]);
    }
    if let Some(related) = &related {
        let kind = if words.len() == 2 { "multipart/alternative" } else { "text/html" };
        put(
            &mut out,
            &["Content-Type: multipart/related; type=\"", kind, "\";\r\n boundary=\"", related, "\"\r\n\r\n"],
        );
        put(&mut out, &["--", related, "\r\n"]);
    }
    match (&text, &html) {
        (Some(text), Some(html)) => {
            let boundary = boundary("");
            put(&mut out, &["Content-Type: multipart/alternative; boundary=\"", &boundary, "\"\r\n\r\n"]);
            for (kind, body) in [("plain", text), ("html", html)] {
                put(&mut out, &["--", &boundary, "\r\n"]);
                put_part(kind, body, &mut out);
            }
            put(&mut out, &["--", &boundary, "--\r\n"]);
        }
        (None, Some(html)) => put_part("html", html, &mut out),
        (text, None) => put_part("plain", text.as_deref().unwrap_or_default(), &mut out),
    }
    for (boundary, files) in [(related, shown), (mixed, saved)] {
        let Some(boundary) = boundary else { continue };
        for file in files {
            put(&mut out, &["--", &boundary, "\r\n"]);
            enclosed::put_enclosed(file, &mut out);
        }
        put(&mut out, &["--", &boundary, "--\r\n"]);
    }
    Ok(out)
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

fn put_part(kind: &str, body: &str, out: &mut Vec<u8>) {
    let encoding = Encoding::of(body);
    put(out, &["Content-Type: text/", kind, "; charset=utf-8\r\nContent-Transfer-Encoding: ", encoding.name()]);
    out.extend_from_slice(b"\r\n\r\n");
    encoding.put(body, out);
}

fn put_mailbox(name: &str, text: &str, out: &mut Vec<u8>) -> Option<()> {
    let (display, address) = parse_mailbox(text)?;
    put(out, &[name, ": "]);
    if display.is_empty() {
        put(out, &[address, "\r\n"]);
        return Some(());
    }
    let is_short = display.len() <= WORD_BYTES_MAX && !display.contains("=?");
    if is_short && display.bytes().all(|b| b.is_ascii_alphanumeric() || b" !#$%&'*+-/=?^_`{|}~".contains(&b)) {
        put(out, &[&display]);
    } else if is_short && display.is_ascii() {
        put(out, &["\"", &display.replace('\\', "\\\\").replace('"', "\\\""), "\""]);
    } else {
        put(out, &[&encoded_words(&display, name.len() + 2)]);
    }
    put(out, &["\r\n <", address, ">\r\n"]);
    Some(())
}

/// RFC 5322, section 3.3, always in UTC.
fn date(at: jiff::Timestamp) -> Result<String, MessageProblem> {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    // Mail systems read years of four digits; before 1970 none was sent.
    if !(1970..=9999).contains(&at.year()) {
        return Err(MessageProblem::Date);
    }
    let index = |n: i8| usize::try_from(n).unwrap_or(0);
    let day = DAYS[index(at.weekday().to_monday_zero_offset()) % 7];
    let month = MONTHS[index(at.month() - 1) % 12];
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    Ok(format!("{day}, {:02} {month} {} {hour:02}:{minute:02}:{second:02} +0000", at.day(), at.year()))
}

fn put_subject(text: &str, out: &mut Vec<u8>) {
    let text = one_line(text);
    let end = text.char_indices().nth(SUBJECT_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    let text = &text[..end];
    let is_plain = |word: &str| word.is_ascii() && word.len() <= WORD_BYTES_MAX && !word.contains("=?");
    if text.split(' ').all(is_plain) {
        put_folded("Subject", text, out);
    } else {
        put(out, &["Subject: ", &encoded_words(text, "Subject: ".len()), "\r\n"]);
    }
}

/// A header of ASCII words, folded between them.
fn put_header(name: &str, value: &str, out: &mut Vec<u8>) -> Result<(), MessageProblem> {
    let problem = || MessageProblem::Header(name.chars().filter(char::is_ascii_graphic).take(76).collect());
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    let is_value = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    let fits = |word: &str| word.len() + name.len() + 2 < LINE_BYTES_MAX;
    if !is_name || !is_value || value.trim() != value || !value.split(' ').all(fits) {
        return Err(problem());
    }
    put_folded(name, value, out);
    Ok(())
}

fn put_folded(name: &str, value: &str, out: &mut Vec<u8>) {
    put(out, &[name, ":"]);
    let mut column = name.len() + 1;
    for (index, word) in value.split_ascii_whitespace().enumerate() {
        if index > 0 && column + 1 + word.len() > 76 {
            out.extend_from_slice(b"\r\n");
            column = 0;
        }
        put(out, &[" ", word]);
        column += 1 + word.len();
    }
    out.extend_from_slice(b"\r\n");
}

/// Of the Message-ID, so that the same message has the same bytes, and never one that a part contains. At most 70
/// characters (RFC 2046, section 5.1.1).
fn boundary(kind: &str, message_id: &str, parts: &[&str]) -> String {
    let letters: String = message_id.bytes().filter(u8::is_ascii_alphanumeric).take(48).map(char::from).collect();
    // `=_` cannot stand in quoted-printable (RFC 2045, section 6.7). None begins as another one does.
    let mut boundary = format!("=_{kind}{letters}");
    // A text has room for only so many of them.
    for attempt in 1.. {
        if !parts.iter().any(|part| has_boundary(part, &boundary)) {
            break;
        }
        boundary = format!("=_{kind}{letters}.{attempt}");
    }
    boundary
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

/// Words with single spaces between them: a line break in a header would begin another one.
pub(super) fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// RFC 4648, section 4.
pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
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
    fn the_databases_are_asked_for_the_same_addresses() {
        let pattern = regex::Regex::new(ADDRESS).unwrap();
        let by_pattern = |text: &str| {
            let at = text.find('@').unwrap_or(0);
            pattern.is_match(text) && at <= LOCAL_BYTES_MAX && text.len() <= ADDRESS_BYTES_MAX
        };
        let parts = ["a", "@", ".", "-", "_", "é", " ", "\n", "\"", "<", "1", "a.b", "x-y", "&&", "[", "|~", "'"];
        // Every text of up to five parts, and some that are long.
        let mut texts = vec![String::new()];
        let mut last = texts.clone();
        for _ in 0..5 {
            last = last.iter().flat_map(|start| parts.map(|part| format!("{start}{part}"))).collect();
            last.retain(|text| text.matches('@').count() <= 2);
            texts.extend(last.iter().filter(|text| text.contains('@')).cloned());
            last.truncate(60_000);
        }
        for n in [62, 63, 64, 65] {
            texts.extend([
                format!("{}@b.c", "x".repeat(n)),
                format!("a@{}.c", "x".repeat(n)),
                format!("a@{}", ["x".repeat(n).as_str(); 4].join(".")),
            ]);
        }
        for text in texts {
            assert_eq!(by_pattern(&text), is_address(&text), "{text:?}");
        }
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
        let written = text_of(&mail("a@b.com", "x"));
        let honest = written.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        let evil = format!("--{honest}--\r\n--{honest}.1--");
        let written = text_of(&Mail { text: Some(&evil), ..mail("a@b.com", "x") });
        let used = written.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(used.starts_with("=_") && used.len() <= 70, "{used}");
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

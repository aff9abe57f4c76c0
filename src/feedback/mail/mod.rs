//! Reads what mail says about mail: bounces, complaints, and what looks like them and is neither.
//!
//! | file | what |
//! | --- | --- |
//! | [`class`] | why a message did not arrive: by enhanced status codes (RFC 3463) and by the words of servers |
//! | [`dsn`] | delivery status notifications (RFC 3464) |
//! | [`arf`] | complaints of mailbox providers (RFC 5965) |
//! | [`plain`] | bounces in the words of a system that writes none of these |
//!
//! Nothing here knows a store, a clock or a network, so that it can be fed anything (`fuzz/`).

pub mod arf;
pub mod class;
pub mod dsn;
pub mod plain;

use std::borrow::Cow;

use mail_parser::{HeaderName, Message, MessageParser, MimeHeaders, PartType};

pub use class::{Class, Status};

/// Parts of parts that are looked into.
const DEPTH_MAX: usize = 6;
/// Of a part: what a bounce has to say stands at its beginning.
const TEXT_BYTES_MAX: usize = 256 * 1_024;
/// Texts that may be a reference to a message of ours; which of them is one is told by its signature.
const REFERENCES_MAX: usize = 16;

/// What a mail tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub what: What,
    /// Texts in it that may name a message of ours, the likeliest first.
    pub references: Vec<String>,
    /// Whom the message was for, as the report says.
    pub recipient: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It did not arrive, and will not.
    Bounced { class: Class, status: Option<Status> },
    /// It is still tried.
    Delayed,
    /// It arrived.
    Delivered,
    /// The person says that it is spam.
    Complained,
    /// The person's mailbox or the person answered; nothing happened to the message.
    Answered,
    /// A report that says nothing of arrival, such as that it was read, or handed on.
    Noted,
    /// Neither.
    Unknown,
}

/// Reads a mail.
pub fn read(raw: &[u8]) -> Told {
    let Some(message) = MessageParser::default().parse(raw) else {
        return Told { what: What::Unknown, references: references(raw), recipient: None };
    };
    let mut found = references(raw);
    let parts = parts_of(&message);
    // Behind an encoding they are not seen in the raw mail.
    for part in &parts {
        found.extend(references(part.text.as_bytes()));
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|reference| seen.insert(reference.clone()));
    found.truncate(REFERENCES_MAX);
    let (what, recipient) = judge(&message, &parts);
    Told { what, references: found, recipient }
}

/// A leaf of a mail.
pub struct Part<'a> {
    /// `message/delivery-status`, in lower case.
    kind: String,
    text: Cow<'a, str>,
}

fn judge(message: &Message<'_>, parts: &[Part<'_>]) -> (What, Option<String>) {
    let part = |kind: &str| parts.iter().find(|part| part.kind == kind).map(|part| &*part.text);
    if let Some(report) = part("message/feedback-report") {
        return arf::read(report);
    }
    if let Some(status) = part("message/delivery-status").or_else(|| part("message/global-delivery-status")) {
        // What a status leaves vague, the words beside it often say.
        let words = part("text/plain").unwrap_or_default();
        return dsn::read(status, words);
    }
    if part("message/disposition-notification").is_some() {
        return (What::Noted, None);
    }
    if let Some(recipient) = arf::of_microsoft(parts) {
        return (What::Complained, Some(recipient));
    }
    // Exim and others call their bounces auto-replied, too.
    match plain::read(message, parts) {
        (What::Unknown, _) if is_answer(message) => (What::Answered, None),
        told => told,
    }
}

/// RFC 3834, section 5, and what was there before it.
fn is_answer(message: &Message<'_>) -> bool {
    let says = |name: &str, words: &[&str]| {
        let value = header(message, name).to_ascii_lowercase();
        words.iter().any(|word| value.trim().starts_with(word))
    };
    let subject = header(message, "Subject").to_ascii_lowercase();
    let subjects = [
        "automatic reply",
        "auto-reply",
        "autoreply",
        "auto reply",
        "out of office",
        "out of the office",
        "abwesenheitsnotiz",
        "automatische antwort",
        "risposta automatica",
        "réponse automatique",
        "respuesta automática",
    ];
    says("Auto-Submitted", &["auto-replied"])
        || says("Precedence", &["auto_reply"])
        || !header(message, "X-Autoreply").is_empty()
        || !header(message, "X-Autorespond").is_empty()
        || subjects.iter().any(|word| subject.starts_with(word))
}

/// A header's value as it stands, without its line ends.
fn header(message: &Message<'_>, name: &str) -> String {
    let raw = message.headers_raw().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let parsed = || message.header(HeaderName::Other(name.to_owned().into())).and_then(|value| value.as_text());
    let subject = || if name == "Subject" { message.subject() } else { None };
    let value = subject().or(raw).or_else(parsed).unwrap_or_default();
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn parts_of<'a>(message: &'a Message<'a>) -> Vec<Part<'a>> {
    let mut parts = vec![];
    collect(message, 0, &mut parts);
    parts
}

fn collect<'a>(message: &'a Message<'a>, depth: usize, parts: &mut Vec<Part<'a>>) {
    for part in message.parts.iter().take(64) {
        let kind = part.content_type().map_or_else(
            || "text/plain".to_owned(),
            |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()).to_ascii_lowercase(),
        );
        match &part.body {
            PartType::Multipart(_) => {}
            PartType::Message(inner) => {
                let text = cut(inner.raw_message());
                parts.push(Part { kind: "message/rfc822".to_owned(), text });
                if depth < DEPTH_MAX {
                    // A forwarded bounce is a bounce of what stands in it; its own text is not one.
                    collect_reports(inner, depth + 1, parts);
                }
            }
            _ => parts.push(Part { kind, text: cut(part.contents()) }),
        }
    }
}

/// Of a mail in a mail only reports count: a person's words in the original are no bounce.
fn collect_reports<'a>(message: &'a Message<'a>, depth: usize, parts: &mut Vec<Part<'a>>) {
    let mut inner = vec![];
    collect(message, depth, &mut inner);
    parts.extend(inner.into_iter().filter(|part| part.kind.starts_with("message/")));
}

fn cut(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)])
}

/// Texts of the form of our references: `STEP.SHARD.SEQ.MARK.SIGNATURE`, the last two of 12 and 16 hexadecimal digits.
/// Lines may be folded within none of them; other systems write them in capitals.
fn references(bytes: &[u8]) -> Vec<String> {
    const TAIL: usize = 12 + 1 + 16;
    let is_hex = |bytes: &[u8]| bytes.iter().all(|b| b.is_ascii_hexdigit());
    let mut found: Vec<String> = vec![];
    for dot in memchr::memchr_iter(b'.', bytes) {
        // The dot before the mark: behind it the two fixed parts, before it three numbers.
        let Some(tail) = bytes.get(dot + 1..dot + 1 + TAIL) else { continue };
        if tail[12] != b'.' || !is_hex(&tail[..12]) || !is_hex(&tail[13..]) {
            continue;
        }
        if bytes.get(dot + 1 + TAIL).is_some_and(u8::is_ascii_hexdigit) {
            continue;
        }
        let head = &bytes[dot.saturating_sub(64)..dot];
        let begin = head.iter().rposition(|b| !b.is_ascii_digit() && *b != b'.').map_or(0, |at| at + 1);
        let numbers = head[begin..].split(|b| *b == b'.');
        if numbers.clone().count() != 3 || numbers.into_iter().any(<[u8]>::is_empty) {
            continue;
        }
        let text = [&head[begin..], b".", tail].concat();
        let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
        if !found.contains(&text) {
            found.push(text);
        }
        if found.len() >= REFERENCES_MAX {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = "1.15.1234567.0123456789ab.0123456789abcdef";

    #[test]
    fn references_are_found_wherever_they_stand() {
        let other = REFERENCE.replace("1.15", "2.0").to_uppercase();
        let text = format!("To: <bounces+{REFERENCE}@example.com>\r\nMessage-ID: <{other}@example.com>\r\n{REFERENCE}");
        assert_eq!(references(text.as_bytes()), [REFERENCE.to_owned(), other.to_lowercase()]);
        for wrong in
            ["1.2.0123456789ab.0123456789abcdef", "..1.0123456789ab.0123456789abcdef", &format!("{REFERENCE}0")]
        {
            assert_eq!(references(wrong.as_bytes()), [""; 0], "{wrong}");
        }
        let many: String = (0..100).map(|n| format!("{n}.0.0.0123456789ab.0123456789abcdef ")).collect();
        assert_eq!(references(many.as_bytes()).len(), REFERENCES_MAX);
    }

    #[test]
    fn what_is_no_mail_is_unknown() {
        for raw in [&b""[..], b"\0", b"\r\n\r\n", b"Hello", &[0xff; 300]] {
            assert_eq!(read(raw).what, What::Unknown);
        }
    }
}

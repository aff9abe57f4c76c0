//! Messages by RFC 5322 and RFC 2045, the same bytes for the same input.

use lettre::{
    Address, Message,
    message::{Mailbox, MultiPart, MultiPartKind, SinglePart, header::ContentType},
};

/// RFC 5321, section 4.5.3.1: a local part of 64, a path of 256 octets with its angle brackets.
const LOCAL_BYTES_MAX: usize = 64;
const ADDRESS_BYTES_MAX: usize = 254;

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

/// Whether mail can be sent to an address as it stands: no SMTPUTF8, no quoted local parts, no line breaks.
pub fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'(' | b')' | b',' | b';' | b':' | b'"' | b'\\' | b'[' | b']'));
    let has_labels = !domain.is_empty() && domain.split('.').all(|l| !l.is_empty() && l.len() <= 63);
    let has_atoms = !local.contains('@') && local.split('.').all(|atom| !atom.is_empty());
    is_plain && has_labels && has_atoms && local.len() <= LOCAL_BYTES_MAX && text.len() <= ADDRESS_BYTES_MAX && text.parse::<Address>().is_ok()
}

/// The address in `Shop <shop@example.com>`.
pub fn address_of(mailbox: &str) -> Option<String> {
    mailbox.parse::<Mailbox>().ok().map(|m| m.email.to_string())
}

/// The message's bytes.
///
/// # Errors
/// Which header cannot be written, without its value.
pub fn bytes(mail: &Mail<'_>) -> Result<Vec<u8>, String> {
    let mailbox = |what: &str, text: &str| text.parse::<Mailbox>().map_err(|_| format!("{what} is not an address"));
    let mut builder = Message::builder()
        .from(mailbox("from", mail.from)?)
        .to(mailbox("to", mail.to)?)
        .subject(mail.subject)
        .message_id(Some(format!("<{}>", mail.message_id)))
        .date(std::time::SystemTime::from(mail.date));
    if let Some(reply_to) = mail.reply_to {
        builder = builder.reply_to(mailbox("replyTo", reply_to)?);
    }
    let text = mail.text.map(|text| single(ContentType::TEXT_PLAIN, text));
    let html = mail.html.map(|html| single(ContentType::TEXT_HTML, html));
    let message = match (text, html) {
        (Some(text), Some(html)) => {
            // The id is unique, so a boundary made of it is, too, and the same message has the same bytes.
            let boundary = format!("=_{}", mail.message_id.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
            let boundary = boundary.chars().take(70).collect::<String>();
            builder.multipart(MultiPart::builder().kind(MultiPartKind::Alternative).boundary(boundary).singlepart(text).singlepart(html))
        }
        (Some(part), None) | (None, Some(part)) => builder.singlepart(part),
        (None, None) => builder.singlepart(single(ContentType::TEXT_PLAIN, "")),
    };
    Ok(message.map_err(|_| "the message has no envelope".to_owned())?.formatted())
}

fn single(kind: ContentType, body: &str) -> SinglePart {
    SinglePart::builder().header(kind).body(body.to_owned())
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let (a, b) = (bytes(&mail("a@example.com", "Ü")).unwrap(), bytes(&mail("a@example.com", "Ü")).unwrap());
        assert_eq!(a, b);
        let text = String::from_utf8(a).unwrap();
        assert!(text.contains("Message-ID: <r1.0.0.5@example.com>\r\n") && text.contains("=?utf-8?"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 998));
    }

    #[test]
    fn nothing_breaks_out_of_a_header() {
        for bad in ["a@b.com\r\nBcc: x@y.z", "a b@c.d", "a@", "@b.c", "a@b..c", "a\0@b.c", "ü@b.c", "a@b.c>", "a@b@c", &format!("{}@b.c", "x".repeat(65))] {
            assert!(!is_address(bad), "{bad:?}");
        }
        assert!(is_address("ANDREA.HENDERSON@sakilacustomer.org"));
        let written = String::from_utf8(bytes(&mail("a@b.com", "x\r\nBcc: evil@b.com")).unwrap()).unwrap();
        assert!(!written.contains("\r\nBcc:"), "{written}");
    }
}

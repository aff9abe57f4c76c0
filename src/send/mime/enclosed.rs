//! What travels with a message: the parts around its words.
//!
//! ```text
//! multipart/mixed                 where there is something to be saved (RFC 2046, section 5.1.3)
//!   multipart/related             where the HTML shows images (RFC 2387)
//!     multipart/alternative       text and HTML
//!     image/png, inline           <cid:…> (RFC 2392)
//!   application/pdf, attachment
//! ```

use std::fmt::Write;

use super::{base64, body::BASE64_LINE_BYTES, put};

/// So many bytes of base64 are a line with its end.
pub const BASE64_LINE_TRAVELS: usize = 78;
/// Of a file's name in one parameter, so that no line is too long (RFC 2231, section 3).
const NAME_PIECE_CHARS: usize = 54;

/// A file that travels with a message.
pub struct Enclosed<'a> {
    pub name: &'a str,
    pub media_type: &'a str,
    /// The whole content id, without brackets, of what the HTML shows.
    pub content_id: Option<String>,
    /// Base64 in lines, each with its end.
    pub body: &'a str,
}

/// Base64 in lines of 76 (RFC 2045, section 6.8), each with its end.
pub fn base64_lines(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() / BASE64_LINE_BYTES * BASE64_LINE_TRAVELS + BASE64_LINE_TRAVELS);
    for line in bytes.chunks(BASE64_LINE_BYTES) {
        out.push_str(&base64(line));
        out.push_str("\r\n");
    }
    out
}

/// Appends one, with its head.
pub(super) fn put_enclosed(file: &Enclosed<'_>, out: &mut Vec<u8>) {
    put(out, &["Content-Type: ", file.media_type, "\r\nContent-Transfer-Encoding: base64\r\n"]);
    let way = if file.content_id.is_some() { "inline" } else { "attachment" };
    put(out, &["Content-Disposition: ", way, &file_name(file.name), "\r\n"]);
    if let Some(id) = &file.content_id {
        put(out, &["Content-ID: <", id, ">\r\n"]);
    }
    put(out, &["\r\n", file.body]);
}

/// The parameter of a Content-Disposition (RFC 2183, section 2.3; RFC 2231 where it is not ASCII or long).
fn file_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii() && !c.is_ascii_control() && c != '"' && c != '\\';
    if name.len() <= NAME_PIECE_CHARS && name.chars().all(is_plain) {
        return format!(";\r\n filename=\"{name}\"");
    }
    let (mut pieces, mut piece) = (vec![], "utf-8''".to_owned());
    for byte in name.bytes() {
        let is_itself = byte.is_ascii_alphanumeric() || b"!#$&+-.^_`{|}~".contains(&byte);
        if piece.len() + 3 > NAME_PIECE_CHARS {
            pieces.push(std::mem::take(&mut piece));
        }
        // Writing to a text cannot fail.
        let _ = if is_itself { write!(piece, "{}", char::from(byte)) } else { write!(piece, "%{byte:02X}") };
    }
    pieces.push(piece);
    match pieces.as_slice() {
        [one] => format!(";\r\n filename*={one}"),
        all => all.iter().enumerate().map(|(index, piece)| format!(";\r\n filename*{index}*={piece}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders, PartType};

    use super::{
        super::{Mail, bytes_enclosing},
        *,
    };

    const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

    fn mail<'a>(text: Option<&'a str>, html: Option<&'a str>) -> Mail<'a> {
        Mail {
            from: "Shop <shop@example.com>",
            reply_to: None,
            to: "ann@example.com",
            subject: "s",
            text,
            html,
            message_id: "r1.0.0.5@example.com",
            date: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    /// The kinds of a message's parts, those within others indented.
    fn shape(bytes: &[u8]) -> String {
        let message = MessageParser::new().parse(bytes).unwrap();
        fn put(message: &mail_parser::Message<'_>, id: u32, depth: usize, out: &mut String) {
            let part = &message.parts[id as usize];
            let kind = part.content_type().unwrap();
            let name = part.attachment_name().map(|name| format!(" {name}")).unwrap_or_default();
            let id = part.content_id().map(|id| format!(" <{id}>")).unwrap_or_default();
            let _ = writeln!(out, "{}{}/{}{name}{id}", "  ".repeat(depth), kind.ctype(), kind.subtype().unwrap());
            if let PartType::Multipart(parts) = &part.body {
                parts.iter().for_each(|part| put(message, *part, depth + 1, out));
            }
        }
        let mut out = String::new();
        put(&message, 0, 0, &mut out);
        out
    }

    #[test]
    fn a_message_is_mixed_of_what_is_related_to_its_alternatives() {
        let body = base64_lines(PIXEL);
        let file = |name, media_type, id: Option<&str>| Enclosed {
            name,
            media_type,
            content_id: id.map(str::to_owned),
            body: &body,
        };
        let logo = || file("logo.png", "image/png", Some("logo@example.com"));
        let terms = || file("Bedingungen für Zoë und alle anderen, die es wissen wollen.pdf", "application/pdf", None);
        let (text, html) = (Some("t"), Some("<img src=\"cid:logo@example.com\">"));
        let written = |mail: Mail<'_>, files: &[Enclosed<'_>]| bytes_enclosing(&mail, &[], files).unwrap();
        let both = written(mail(text, html), &[logo(), terms()]);
        insta::assert_snapshot!(shape(&both), @r"
        multipart/mixed
          multipart/related
            multipart/alternative
              text/plain
              text/html
            image/png logo.png <logo@example.com>
          application/pdf Bedingungen für Zoë und alle anderen, die es wissen wollen.pdf
        ");
        let whole = String::from_utf8(both.clone()).unwrap();
        assert!(whole.contains("multipart/related; type=\"multipart/alternative\";"), "RFC 2387, 3.1: {whole}");
        assert!(whole.is_ascii() && whole.split("\r\n").all(|line| line.len() <= 78), "{whole}");
        let parsed = MessageParser::new().parse(&both).unwrap();
        assert!(parsed.attachments().all(|part| part.contents() == PIXEL));
        insta::assert_snapshot!(shape(&written(mail(text, html), &[logo()])), @r"
        multipart/related
          multipart/alternative
            text/plain
            text/html
          image/png logo.png <logo@example.com>
        ");
        insta::assert_snapshot!(shape(&written(mail(text, None), &[terms()])), @r"
        multipart/mixed
          text/plain
          application/pdf Bedingungen für Zoë und alle anderen, die es wissen wollen.pdf
        ");
        // No part's words can close another part.
        let used = whole.split("boundary=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let evil: String = used.map(|boundary| format!("--{boundary}--\n--{boundary}\n")).collect();
        insta::assert_snapshot!(shape(&written(mail(Some(&evil), html), &[logo(), terms()])), @r"
        multipart/mixed
          multipart/related
            multipart/alternative
              text/plain
              text/html
            image/png logo.png <logo@example.com>
          application/pdf Bedingungen für Zoë und alle anderen, die es wissen wollen.pdf
        ");
    }
}

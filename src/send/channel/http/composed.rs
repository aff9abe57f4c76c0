//! What a template writes, and what the values in it become: none of them ever ends the text in which it stands.
//!
//! The renderer puts each value between two signs that no text has, and says whether it is a text; the words around it are
//! then read as what they are, so that what a value becomes follows from where it really stands, whatever the template
//! did to get there.

use std::borrow::Cow;

use minijinja::{Environment, Error, ErrorKind, Output, State, Value, value::ValueKind};
use serde::de::IgnoredAny;

/// Unicode keeps these for a program's own use: text that is interchanged has none.
const OPENS: char = '\u{fdd0}';
const CLOSES: char = '\u{fdd1}';
const TEXT: char = 't';
const JSON: char = 'j';

/// In what a value is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Url,
    Header,
    Json,
    Xml,
    /// A text of its own: nothing in it means anything.
    Plain,
}

enum Piece<'t> {
    Words(&'t str),
    /// A text, or what stands in JSON as it is.
    Value(String, bool),
}

/// Whether a text has signs that are ours.
pub(super) fn has_signs(text: &str) -> bool {
    text.contains([OPENS, CLOSES])
}

/// A value that holds none of them, whatever it came with.
pub(super) fn without_signs(text: &str) -> Cow<'_, str> {
    if has_signs(text) { Cow::Owned(text.replace([OPENS, CLOSES], "")) } else { Cow::Borrowed(text) }
}

/// Puts signs around each value that is printed.
pub(super) fn mark(environment: &mut Environment<'static>) {
    environment.set_formatter(|out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value| {
        let (kind, text) = match value.kind() {
            ValueKind::Undefined | ValueKind::None => (JSON, "null".to_owned()),
            ValueKind::String => (TEXT, value.to_string()),
            _ => (JSON, json_of(value)?),
        };
        write!(out, "{OPENS}{kind}{text}{CLOSES}").map_err(|_| Error::new(ErrorKind::WriteFailure, "out of room"))
    });
}

fn json_of(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|_| Error::new(ErrorKind::BadSerialization, "it cannot stand in JSON"))
}

/// What is written, in pieces. A value that a template kept and printed again is one value.
fn pieces(rendered: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (vec![], rendered);
    while let Some(start) = rest.find(OPENS) {
        pieces.push(Piece::Words(&rest[..start]));
        let (mut depth, mut end) = (0_usize, rest.len());
        for (at, c) in rest[start..].char_indices().filter(|(_, c)| [OPENS, CLOSES].contains(c)) {
            depth = if c == OPENS { depth + 1 } else { depth.saturating_sub(1) };
            if depth == 0 {
                end = start + at + c.len_utf8();
                break;
            }
        }
        let whole = rest[start..end].trim_start_matches(OPENS).trim_end_matches(CLOSES);
        let is_text = whole.starts_with(TEXT);
        let mut inner = String::with_capacity(whole.len());
        let mut chars = whole.chars().skip(1);
        while let Some(c) = chars.next() {
            match c {
                OPENS => drop(chars.next()),
                CLOSES => {}
                other => inner.push(other),
            }
        }
        pieces.push(Piece::Value(inner, is_text));
        rest = &rest[end..];
    }
    pieces.push(Piece::Words(rest));
    pieces
}

/// What was written, with its values in the form of the place in which they stand.
///
/// # Errors
/// Why it is not of that form.
pub(super) fn composed(rendered: &str, form: Form) -> Result<String, &'static str> {
    if form == Form::Json {
        return json(rendered);
    }
    let mut out = String::with_capacity(rendered.len());
    for piece in pieces(rendered) {
        match piece {
            Piece::Words(words) => out.push_str(words),
            Piece::Value(text, is_text) => {
                let text = if is_text || text != "null" { text.as_str() } else { "" };
                match form {
                    Form::Url => encode(text, &mut out),
                    Form::Header => out.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c })),
                    Form::Xml => text.chars().for_each(|c| escape_xml(c, &mut out)),
                    Form::Json | Form::Plain => out.push_str(text),
                }
            }
        }
    }
    Ok(out)
}

fn json(rendered: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(rendered.len());
    let (mut is_inside, mut is_escaped) = (false, false);
    for piece in pieces(rendered) {
        match piece {
            Piece::Words(words) => {
                for c in words.chars() {
                    match c {
                        _ if is_escaped => is_escaped = false,
                        '\\' => is_escaped = is_inside,
                        '"' => is_inside = !is_inside,
                        _ => {}
                    }
                }
                out.push_str(words);
            }
            Piece::Value(..) if is_escaped => return Err("a backslash stands before a value"),
            Piece::Value(text, is_text) if is_inside => {
                let text = if is_text || text != "null" { text.as_str() } else { "" };
                let quoted = serde_json::Value::from(text).to_string();
                out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
            }
            Piece::Value(text, true) => out.push_str(&serde_json::Value::from(text).to_string()),
            Piece::Value(text, false) => out.push_str(&text),
        }
    }
    // Words that open a text in one branch and close it in none would leave a value outside of its quotes.
    serde_json::from_str::<IgnoredAny>(&out).map_err(|_| "the body is no JSON")?;
    Ok(out)
}

/// What RFC 3986 calls unreserved stays as it is.
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// XML 1.0 has no place for most control characters.
fn escape_xml(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&apos;"),
        '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(c))),
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
        c => out.push(c),
    }
}

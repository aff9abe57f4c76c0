//! A request as the events that it holds: the three content modes of CloudEvents' HTTP binding.

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCHED: &str = "application/cloudevents-batch+json";
/// The specification asks to take URIs of 8,000; nobody's are so long.
const ATTRIBUTE_CHARS_MAX: usize = 1_024;

/// One event, as far as it can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub source: String,
    pub id: String,
    /// Why the rest is not read, or what is.
    pub said: Result<Said, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub kind: String,
    pub time: Option<Timestamp>,
    pub data: Value,
}

/// The events of a request, and whether it is a batch.
///
/// # Errors
/// A status and why the request is none, in words.
pub fn read(headers: &HeaderMap, body: &[u8]) -> Result<(Vec<Event>, bool), (StatusCode, String)> {
    let bad = |why: &str| (StatusCode::BAD_REQUEST, why.to_owned());
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let kind =
        text("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = || serde_json::from_slice::<Value>(body).map_err(|_| bad("the body is not JSON"));
    match kind.as_str() {
        STRUCTURED => Ok((vec![event(&json()?)], false)),
        BATCHED => match json()? {
            Value::Array(events) => Ok((events.iter().map(event).collect(), true)),
            _ => Err(bad("a batch is a JSON array of events")),
        },
        "application/json" if text("ce-id").is_some() => {
            let mut whole = serde_json::Map::new();
            for name in ["specversion", "id", "source", "type", "time"] {
                if let Some(value) = text(&format!("ce-{name}")) {
                    whole.insert(name.to_owned(), unescaped(value).into());
                }
            }
            whole.insert("data".to_owned(), json()?);
            Ok((vec![event(&Value::Object(whole))], false))
        }
        _ => {
            let why = format!("send {STRUCTURED}, {BATCHED}, or application/json with ce- headers");
            Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, why))
        }
    }
}

/// A header's text: what is not plain ASCII comes percent-encoded (HTTP binding, 3.1.3.2).
fn unescaped(text: &str) -> String {
    let pair = format!("v={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn event(whole: &Value) -> Event {
    let attribute = |name: &str| whole[name].as_str().unwrap_or_default().to_owned();
    let (source, id) = (attribute("source"), attribute("id"));
    let said = said(whole, [&source, &id]);
    // What was not bounded is not echoed.
    let cut = |text: String| text.chars().take(ATTRIBUTE_CHARS_MAX).collect();
    Event { source: cut(source), id: cut(id), said }
}

fn said(whole: &Value, identity: [&str; 2]) -> Result<Said, String> {
    if !whole.is_object() {
        return Err("an event is a JSON object".to_owned());
    }
    if whole["specversion"] != "1.0" {
        return Err("`specversion` must be 1.0".to_owned());
    }
    let kind = whole["type"].as_str().unwrap_or_default();
    for (name, text) in ["source", "id", "type"].into_iter().zip(identity.into_iter().chain([kind])) {
        if text.is_empty() || text.chars().count() > ATTRIBUTE_CHARS_MAX || text.contains('\0') {
            return Err(format!("`{name}` must be a text of 1 to {ATTRIBUTE_CHARS_MAX} characters"));
        }
    }
    let time = match &whole["time"] {
        Value::Null => None,
        time => {
            let read = time.as_str().and_then(|text| text.parse::<Timestamp>().ok());
            Some(read.ok_or("`time` must be an RFC 3339 timestamp")?)
        }
    };
    if !whole["data_base64"].is_null() {
        return Err("`data` must be JSON, not `data_base64`".to_owned());
    }
    if !whole["data"].is_object() {
        return Err("`data` must be a JSON object".to_owned());
    }
    Ok(Said { kind: kind.to_owned(), time, data: whole["data"].clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_three_modes_say_the_same() {
        let structured = br#"{"specversion": "1.0", "id": "7", "source": "/crm/\u00e4", "type": "t", "time": "2026-03-01T10:00:00Z", "data": {"a": 1}}"#;
        let (one, _) =
            read(&headers(&[("content-type", "application/cloudevents+json; charset=utf-8")]), structured).unwrap();
        let batch = [b"[".as_slice(), structured, b"]"].concat();
        let (many, is_batch) = read(&headers(&[("content-type", BATCHED)]), &batch).unwrap();
        assert!(is_batch && many == one);
        let binary = headers(&[
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-source", "/crm/%C3%A4"),
            ("ce-type", "t"),
            ("ce-time", "2026-03-01T10:00:00Z"),
        ]);
        assert_eq!(read(&binary, br#"{"a": 1}"#).unwrap().0, one);
        assert_eq!(one[0].said.as_ref().unwrap().data["a"], 1);
    }

    #[test]
    fn what_is_no_event_says_why() {
        let kind = headers(&[("content-type", STRUCTURED)]);
        let why = |body: &str| read(&kind, body.as_bytes()).unwrap().0[0].said.clone().unwrap_err();
        insta::assert_debug_snapshot!([
            why("7"),
            why(r#"{"specversion": "0.3", "id": "1"}"#),
            why(r#"{"specversion": "1.0", "id": "", "source": "s", "type": "t"}"#),
            why(r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": "soon"}"#),
            why(r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "AA=="}"#),
            why(r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": 7}"#),
        ]);
        assert_eq!(read(&kind, b"{").unwrap_err().0, StatusCode::BAD_REQUEST);
        assert_eq!(
            read(&headers(&[("content-type", "text/plain")]), b"").unwrap_err().0,
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        );
    }
}

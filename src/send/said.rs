//! What was said to whom: the fields that a message was written from, kept with its attempt.
//!
//! ```yaml
//! email: {channel: newsletter, template: pre-trip, record: Fields}    # Fields (default) | Hash | None
//! ```
//! One text for each group of attempts, in their own row: `{"template": …, "messages": [[seq, to, locale, [fields]]]}`;
//! behind the fields `true` for whom links tell apart.
//! With the pinned revision it gives the message again, byte for byte. `Hash` keeps no personal value: a keyed hash over
//! the same, by which fields that somebody shows can be checked.

use minijinja::Value;
use ring::hmac;
use serde::{Deserialize, Serialize, Serializer};

use super::template;
use crate::api::step::Record;

/// One message's own part of what it is written from.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The address that it goes to: at `redirect` delivery not the person's own.
    pub to: String,
    pub locale: Option<String>,
    /// The values of what the template reads, in the order of the plan.
    pub fields: Vec<Value>,
    /// The person has agreed to be told apart by her opens and clicks.
    pub is_tracked: bool,
}

#[derive(Serialize)]
struct Kept<'a, M> {
    template: &'a str,
    messages: Vec<M>,
}

/// One message: its number, address, locale, fields, and whether its links tell the person apart.
struct Row<'a>(i64, &'a str, &'a Option<String>, &'a [Value], Option<bool>);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(seq, to, locale, fields, tracked) = self;
        match tracked {
            Some(tracked) => (seq, to, locale, fields, tracked).serialize(serializer),
            None => (seq, to, locale, fields).serialize(serializer),
        }
    }
}

#[derive(Deserialize)]
struct Found {
    messages: Vec<Vec<serde_json::Value>>,
}

/// What is kept of a group of messages; `of` is the template's hash. None: nothing is.
///
/// # Errors
/// If a value cannot be written as JSON, which would be a fault of ours.
pub fn keep<'a>(
    record: Record,
    of: &str,
    key: &hmac::Key,
    messages: impl Iterator<Item = (i64, &'a Said)>,
) -> Result<Option<String>, serde_json::Error> {
    // Nearly nobody is, so what is kept of the others says nothing of it.
    let tracked = |said: &Said| said.is_tracked.then_some(true);
    let whole = |said: &'a Said| (&said.to, &said.locale, &said.fields);
    let text = match record {
        Record::None => return Ok(None),
        Record::Fields => {
            let row = |(seq, said)| {
                let (to, locale, fields) = whole(said);
                Row(seq, to, locale, fields, tracked(said))
            };
            serde_json::to_string(&Kept { template: of, messages: messages.map(row).collect() })?
        }
        Record::Hash => {
            let row = |(seq, said): (i64, &'a Said)| {
                let (to, locale, fields) = whole(said);
                Ok((seq, hash(key, &serde_json::to_string(&(to, locale, fields))?)))
            };
            let messages = messages.map(row).collect::<Result<Vec<_>, serde_json::Error>>()?;
            serde_json::to_string(&Kept { template: of, messages })?
        }
    };
    Ok(Some(text))
}

fn hash(key: &hmac::Key, text: &str) -> String {
    hmac::sign(key, text.as_bytes()).as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What is kept of a group, with no more than the hash of one of its messages. None: there is no more of it.
pub fn unsay(kept: &str, seq: i64, key: &hmac::Key) -> Option<String> {
    let mut kept: serde_json::Value = serde_json::from_str(kept).ok()?;
    let mut rows = kept.get_mut("messages")?.as_array_mut()?.iter_mut();
    let row = rows.find(|row| row.get(0).and_then(serde_json::Value::as_i64) == Some(seq))?;
    let [_, to, locale, fields @ serde_json::Value::Array(_), ..] = row.as_array()?.as_slice() else { return None };
    let text = serde_json::to_string(&(to, locale, fields)).ok()?;
    *row = serde_json::json!([seq, hash(key, &text)]);
    serde_json::to_string(&kept).ok()
}

/// What is kept of one message. None: nothing, or only a hash.
pub fn find(kept: &str, seq: i64) -> Option<Said> {
    let found: Found = serde_json::from_str(kept).ok()?;
    let row = found.messages.into_iter().find(|row| row.first().and_then(serde_json::Value::as_i64) == Some(seq))?;
    let [_, to, locale, serde_json::Value::Array(fields), rest @ ..] = row.as_slice() else { return None };
    Some(Said {
        to: to.as_str()?.to_owned(),
        locale: locale.as_str().map(str::to_owned),
        fields: fields.iter().map(template::value).collect(),
        is_tracked: rest.first() == Some(&serde_json::Value::Bool(true)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        let fields = vec!["Ann".into(), Value::UNDEFINED, 7.into(), 2.0.into(), true.into(), vec!["a", "b"].into()];
        Said { to: "ann@example.com".into(), locale: Some("it".into()), fields, is_tracked: false }
    }

    fn kept(record: Record) -> Option<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        keep(record, "t1", &key, [(4, &said())].into_iter()).unwrap()
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let text = kept(Record::Fields).unwrap();
        let found = find(&text, 4).unwrap();
        assert_eq!(found, said());
        assert!(found.fields[1].is_undefined());
        assert_eq!(found.fields[3].to_string(), "2.0", "a double stays one");
        assert_eq!(find(&text, 5), None);
        let tracked = Said { is_tracked: true, ..said() };
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let text = keep(Record::Fields, "t1", &key, [(4, &tracked)].into_iter()).unwrap().unwrap();
        assert_eq!(find(&text, 4).unwrap(), tracked);
    }

    #[test]
    fn the_rows_of_a_list_are_rows_again() {
        let rows = template::value(&serde_json::json!([{"film": {"title": "Alien"}, "late": null}]));
        let said = Said { fields: vec![rows], ..said() };
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let text = keep(Record::Fields, "t1", &key, [(4, &said)].into_iter()).unwrap().unwrap();
        let rows = find(&text, 4).unwrap().fields.remove(0);
        let shown = |text: &str| minijinja::Environment::new().render_str(text, minijinja::context!(rows)).unwrap();
        assert_eq!(shown("{% for r in rows %}{{ r.film.title }}{{ r.late|default('!') }}{% endfor %}"), "Alien!");
    }

    #[test]
    fn of_who_is_erased_the_hash_stays_and_of_the_others_all() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let of = |record| keep(record, "t1", &key, [(4, &said()), (5, &said())].into_iter()).unwrap().unwrap();
        let left = unsay(&of(Record::Fields), 4, &key).unwrap();
        assert_eq!((find(&left, 4), find(&left, 5)), (None, Some(said())));
        let rows = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["messages"].clone();
        assert_eq!(rows(&left)[0], rows(&of(Record::Hash))[0], "as if it had been kept so from the start");
        assert_eq!(unsay(&left, 4, &key), None);
        assert_eq!(unsay(&left, 6, &key), None);
    }

    #[test]
    fn a_hash_holds_no_personal_value() {
        let text = kept(Record::Hash).unwrap();
        assert!(!text.to_lowercase().contains("ann"), "{text}");
        assert_eq!(find(&text, 4), None);
        assert_eq!(kept(Record::None), None);
    }
}

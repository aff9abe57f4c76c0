//! The history of messages as others read it: CloudEvents for a webhook, rows for files.
//!
//! ```json
//! {"specversion": "1.0", "id": "pre-trip-1/mail/3-17/Sent", "source": "/campanile/production/shop/travel",
//!  "type": "dev.campanile.message.sent", "subject": "pre-trip-1/mail/3-17", "time": "2026-03-01T09:00:04Z",
//!  "datacontenttype": "application/json", "data": {"campaign": "pre-trip", "step": "mail", "item": "1457", "profile": "23", …}}
//! ```
//!
//! `source` and `id` name a line for good: what is told twice has the same ones. There are keys of persons and items in it,
//! and no address; of a link that was followed only what stands before its query.

pub mod webhook;

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use crate::{files::table::Column, rule::schema::FieldType, store::history::Line};

/// The columns of a file, which are named as CloudEvents' attributes are.
const COLUMNS: [(&str, FieldType); 18] = [
    ("id", FieldType::String),
    ("source", FieldType::String),
    ("type", FieldType::String),
    ("time", FieldType::Timestamp),
    ("namespace", FieldType::String),
    ("dataset", FieldType::String),
    ("campaign", FieldType::String),
    ("run", FieldType::String),
    ("step", FieldType::String),
    ("channel", FieldType::String),
    ("topic", FieldType::String),
    ("item", FieldType::String),
    ("profile", FieldType::String),
    ("plannedat", FieldType::Timestamp),
    ("what", FieldType::String),
    ("reason", FieldType::String),
    ("url", FieldType::String),
    ("machine", FieldType::Boolean),
];

/// Where a dataset's history comes from, as its lines say it.
pub fn source(environment: &str, namespace: &str, dataset: &str) -> String {
    format!("/campanile/{environment}/{namespace}/{dataset}")
}

/// The message that a line is about.
fn subject(line: &Line) -> String {
    format!("{}/{}/{}-{}", line.run, line.step, line.shard, line.seq)
}

/// What tells a line from all others of its source, and stays the same.
pub fn id(line: &Line) -> String {
    let of_event = line.event.as_ref().map_or_else(String::new, |event| format!("/{}", hash(event.as_bytes())));
    format!("{}/{}{of_event}", subject(line), line.what)
}

/// Of what others named, which may name a person.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn kind(line: &Line) -> String {
    format!("dev.campanile.message.{}", line.what.to_ascii_lowercase())
}

fn url(line: &Line) -> Option<&str> {
    line.url.as_deref().and_then(|url| url.split(['?', '#']).next())
}

pub fn cloud_event(line: &Line, source: &str) -> Json {
    let data = [
        ("campaign", Json::from(line.campaign.as_str())),
        ("run", line.run.as_str().into()),
        ("step", line.step.as_str().into()),
        ("channel", line.channel.as_str().into()),
        ("topic", line.topic.as_deref().into()),
        ("item", line.item.as_str().into()),
        ("profile", line.profile.as_deref().into()),
        ("plannedAt", line.planned_at.map(|at| at.to_string()).into()),
        ("what", line.what.as_str().into()),
        ("reason", line.reason.as_deref().into()),
        ("url", url(line).into()),
    ];
    let mut data: Map<String, Json> =
        data.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect();
    if line.event.is_some() {
        data.insert("machine".to_owned(), line.is_machine.into());
    }
    json!({
        "specversion": "1.0",
        "id": id(line),
        "source": source,
        "type": kind(line),
        "subject": subject(line),
        "time": line.at.to_string(),
        "datacontenttype": "application/json",
        "data": data,
    })
}

pub fn columns() -> Vec<Column> {
    COLUMNS.into_iter().map(|(name, ty)| Column { name: name.to_owned(), ty }).collect()
}

pub fn row(line: &Line, source: &str) -> Vec<Json> {
    vec![
        id(line).into(),
        source.into(),
        kind(line).into(),
        line.at.to_string().into(),
        line.namespace.as_str().into(),
        line.dataset.as_str().into(),
        line.campaign.as_str().into(),
        line.run.as_str().into(),
        line.step.as_str().into(),
        line.channel.as_str().into(),
        line.topic.as_deref().into(),
        line.item.as_str().into(),
        line.profile.as_deref().into(),
        line.planned_at.map(|at| at.to_string()).into(),
        line.what.as_str().into(),
        line.reason.as_deref().into(),
        url(line).into(),
        line.is_machine.into(),
    ]
}

/// The name of a file with these lines, the same for the same ones: told again, they are written over themselves.
pub fn file_name(lines: &[Line]) -> String {
    let mut digest = Sha256::new();
    lines.iter().for_each(|line| digest.update(format!("{}\n", id(line))));
    let first = lines.iter().map(|line| line.at).min().unwrap_or_default();
    let hash: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}", first.strftime("%H%M%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(what: &str, event: Option<&str>) -> Line {
        Line {
            namespace: "shop".into(),
            dataset: "travel".into(),
            campaign: "pre-trip".into(),
            run: "pre-trip-1".into(),
            step: "mail".into(),
            channel: "news".into(),
            topic: None,
            shard: 3,
            seq: 17,
            item: "1457".into(),
            profile: Some("23".into()),
            planned_at: None,
            what: what.into(),
            event: event.map(str::to_owned),
            at: "2026-03-01T09:00:04Z".parse().unwrap(),
            reason: None,
            url: Some("https://example.com/a?who=ada@example.com#x".into()),
            is_machine: false,
        }
    }

    #[test]
    fn a_line_has_its_name_for_good_and_no_address() {
        let event = cloud_event(&line("Clicked", Some("ada@example.com 17")), &source("test", "shop", "travel"));
        assert!(!event.to_string().contains("ada@"), "{event}");
        assert_eq!(
            (&event["data"]["url"], &event["data"]["machine"]),
            (&"https://example.com/a".into(), &false.into())
        );
        assert_eq!(
            (&event["type"], &event["subject"]),
            (&"dev.campanile.message.clicked".into(), &"pre-trip-1/mail/3-17".into())
        );
        assert_eq!(id(&line("Sent", None)), "pre-trip-1/mail/3-17/Sent");
        assert_ne!(id(&line("Clicked", Some("a"))), id(&line("Clicked", Some("b"))));
        assert_eq!(row(&line("Sent", None), "x").len(), columns().len());
        let name = file_name(&[line("Sent", None)]);
        assert!(name.starts_with("090004-") && name == file_name(&[line("Sent", None)]), "{name}");
    }
}

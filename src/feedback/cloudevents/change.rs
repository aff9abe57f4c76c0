//! What an event says of a person, and how it enters the profile.
//!
//! ```json
//! {"type": "dev.campanile.consent.changed.v1", "data": {"profile": 7, "consents": [
//!   {"topic": "offers", "channel": "email", "state": "Granted", "at": "2026-03-01T10:00:00Z", "text": "Yes, send me offers"}]}}
//! {"type": "dev.campanile.address.changed.v1", "data": {"profile": 7, "addresses": {"email": "ann@example.com"}, "version": "…"}}
//! ```
//! A consent stands with its own time, so that an event that comes late does not undo what was said since. An address is
//! stamped with the entity's `version` (the event's time, where that is a Timestamp and the event gives no other), so that
//! an older row of a file does not undo it, nor it a newer row.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Answer, Taken,
    message::{Event, Said},
};
use crate::{
    api::{
        DatasetSpec,
        dataset::{Category, Entity, FieldKind, Requires},
        medium::Medium,
    },
    feedback::{Desk, confirm},
    ingest::cell,
    review::person::key::canonical,
    store::{
        self, Tx,
        change::Changed,
        consent::{ALL, Entry, State as Consent},
        declared::Declared,
        entity::Place,
        keyed::{Keyed, Label},
        ledger::Topic,
        rows::{self, Change, Rows, Target},
    },
};

const CONSENT: &str = "dev.campanile.consent.changed.v1";
const ADDRESS: &str = "dev.campanile.address.changed.v1";
/// Of one event.
const CONSENTS_MAX: usize = 256;
const TEXT_CHARS_MAX: usize = 4_096;
/// How far another system's clock may be ahead; a time that is still to come would outlast whatever is said in between.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConsentData {
    profile: Value,
    consents: Vec<ConsentSaid>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConsentSaid {
    topic: String,
    channel: String,
    state: String,
    #[serde(default)]
    at: Option<Timestamp>,
    #[serde(default)]
    text: Option<String>,
    /// The person has confirmed it there, where the topic asks for that.
    #[serde(default)]
    confirmed: bool,
    /// Where she withdrew from; only a keyed hash of it is kept.
    #[serde(default)]
    address: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddressData {
    profile: Value,
    addresses: serde_json::Map<String, Value>,
    #[serde(default)]
    version: Option<Value>,
}

/// What an event asks for.
enum Wanted {
    /// Entries, each with the keyed hash of an address, and whether it is confirmed.
    Consent(Vec<(Entry, Option<String>, bool)>),
    /// The fields that change, as text, with the version's last.
    Address(Vec<(String, String)>),
}

/// Applies events in their order, all in one transaction; what became of each.
///
/// # Errors
/// Of the store; then nothing of them stands.
pub async fn apply(desk: &Desk, declared: &Declared, events: &[Event]) -> store::Result<Vec<Answer>> {
    let now = desk.clock.now();
    let of = (declared.namespace.as_str(), declared.name.as_str());
    let hashes =
        Hashes { keys: Keyed::new(&desk.secret, Label::Key), addresses: Keyed::new(&desk.secret, Label::Address) };
    let (mut answers, mut is_pending) = (Vec::with_capacity(events.len()), false);
    let mut tx = desk.store.begin().await?;
    for event in events {
        let read = event.said.clone().and_then(|said| understand(&said, event, declared, &hashes, now));
        let (result, reason) = match read {
            Err(reason) => (Taken::Refused, Some(reason)),
            Ok((profile, wanted)) => {
                let entity = &declared.spec.profile.entity;
                if tx.is_erased(of, entity, &hashes.keys.hash(&profile)).await? {
                    (Taken::Erased, None)
                } else {
                    take(&mut tx, event, declared, (&profile, wanted), &mut is_pending, now).await?
                }
            }
        };
        answers.push(Answer { source: event.source.clone(), id: event.id.clone(), result, reason });
    }
    tx.commit().await?;
    if is_pending {
        confirm::ask_for(&desk.store, of, now).await?;
    }
    Ok(answers)
}

struct Hashes {
    keys: Keyed,
    addresses: Keyed,
}

async fn take(
    tx: &mut Tx,
    event: &Event,
    declared: &Declared,
    (profile, wanted): (&str, Wanted),
    is_pending: &mut bool,
    now: Timestamp,
) -> store::Result<(Taken, Option<String>)> {
    let of = (declared.namespace.as_str(), declared.name.as_str());
    match wanted {
        Wanted::Consent(said) => {
            if !tx.take_event(of, (&event.source, &event.id), now).await? {
                return Ok((Taken::Duplicate, None));
            }
            for (mut entry, address, is_confirmed) in said {
                if entry.state == Consent::Granted && !is_confirmed && must_confirm(&declared.spec, &entry.topic) {
                    let topic = Topic { namespace: of.0, dataset: of.1, topic: &entry.topic, channel: &entry.channel };
                    let newest = tx.newest_consent(topic, profile).await?;
                    if newest.is_some_and(|newest| newest.state == Consent::Granted) {
                        continue;
                    }
                    entry.state = Consent::Pending;
                    *is_pending = true;
                }
                tx.put_consent(of, std::slice::from_ref(&entry), now).await?;
                if let Some(address) = address.filter(|_| entry.state == Consent::Withdrawn) {
                    tx.put_opt_out(of, &address, &entry, now).await?;
                }
            }
            Ok((Taken::Accepted, None))
        }
        Wanted::Address(fields) => {
            let place = Place { namespace: of.0, dataset: of.1, dialect: tx.dialect() };
            let Some(entity) = declared.spec.entity(&declared.spec.profile.entity) else {
                return Ok((Taken::Refused, Some("the dataset has no profile".to_owned())));
            };
            let part = part_of(entity, &fields);
            let batch = match row(&part, profile, &fields, place) {
                Ok(batch) => batch,
                Err(reason) => return Ok((Taken::Refused, Some(reason))),
            };
            let named = |name: &str| part.fields.iter().any(|field| *field.name == *name);
            let may_insert = entity.fields.iter().all(|field| !field.required || named(&field.name));
            if !tx.take_event(of, (&event.source, &event.id), now).await? {
                return Ok((Taken::Duplicate, None));
            }
            Ok(match tx.change_rows(place, (&part, may_insert), batch).await?.first() {
                Some(Changed::Applied) => (Taken::Accepted, None),
                Some(Changed::Older) => (Taken::Older, None),
                _ => {
                    // It may come before the person does, and is not lost then: it may be sent again.
                    tx.forget_event(of, (&event.source, &event.id)).await?;
                    (Taken::Refused, Some("there is no such profile yet, and it has required fields".to_owned()))
                }
            })
        }
    }
}

fn must_confirm(spec: &DatasetSpec, topic: &str) -> bool {
    spec.topics.iter().any(|known| *known.name == *topic && known.requires == Some(Requires::Confirmed))
}

/// The person's key and what is asked for, or why that cannot be.
fn understand(
    said: &Said,
    event: &Event,
    declared: &Declared,
    hashes: &Hashes,
    now: Timestamp,
) -> Result<(String, Wanted), String> {
    let spec = &declared.spec;
    match said.kind.as_str() {
        CONSENT => {
            let data: ConsentData = read(&said.data)?;
            let profile = key_of(&data.profile, spec)?;
            if data.consents.is_empty() || data.consents.len() > CONSENTS_MAX {
                return Err(format!("`consents` has 1 to {CONSENTS_MAX} entries"));
            }
            let source = format!("event:{}", event.source);
            let entries = data.consents.into_iter().map(|one| {
                let address = one.address.as_deref().map(|address| hashes.addresses.of_address(address));
                let is_confirmed = one.confirmed;
                let entry = entry(one, spec, (&profile, &source), (said.time, now))?;
                Ok((entry, address, is_confirmed))
            });
            let entries = entries.collect::<Result<_, String>>()?;
            Ok((profile, Wanted::Consent(entries)))
        }
        ADDRESS => {
            let data: AddressData = read(&said.data)?;
            let profile = key_of(&data.profile, spec)?;
            Ok((profile, Wanted::Address(addresses(&data, spec, said.time, now)?)))
        }
        _ => Err(format!("`type` is none of {CONSENT}, {ADDRESS}")),
    }
}

/// serde's own words name what stood there.
fn read<T: serde::de::DeserializeOwned>(data: &Value) -> Result<T, String> {
    serde_json::from_value(data.clone()).map_err(|_| "`data` is not as the type says; see docs/feedback.md".to_owned())
}

fn key_of(profile: &Value, spec: &DatasetSpec) -> Result<String, String> {
    let entity = spec.entity(&spec.profile.entity).ok_or("the dataset has no profile")?;
    let text = profile.as_str().map_or_else(|| profile.to_string(), str::to_owned);
    let is_key = matches!(profile, Value::String(_) | Value::Number(_) | Value::Array(_)) && !text.is_empty();
    if !is_key {
        return Err(format!("`profile` is the key of {}", entity.name));
    }
    canonical(&text, entity).map_err(|why| format!("`profile` is no key of {}: {why}", entity.name))
}

fn entry(
    one: ConsentSaid,
    spec: &DatasetSpec,
    (profile, source): (&str, &str),
    (time, now): (Option<Timestamp>, Timestamp),
) -> Result<Entry, String> {
    let state = Consent::named(&one.state).ok_or("`state` is Granted, Pending, Withdrawn or Unknown")?;
    if one.topic == ALL || one.channel == ALL {
        if state != Consent::Withdrawn {
            return Err(format!("`{ALL}` is for what is Withdrawn only"));
        }
        if one.topic != ALL && !spec.topics.iter().any(|topic| *topic.name == *one.topic) {
            return Err("there is no such topic".to_owned());
        }
    } else {
        let topic = spec.topics.iter().find(|topic| *topic.name == *one.topic).ok_or("there is no such topic")?;
        if topic.category == Category::Transactional {
            return Err(format!("topic {} is Transactional and needs no consent", topic.name));
        }
        let media: BTreeSet<&str> =
            topic.consent.iter().flat_map(|consent| consent.all()).map(|(medium, _)| medium.word()).collect();
        if !media.contains(one.channel.as_str()) {
            let known = media.into_iter().collect::<Vec<_>>().join(", ");
            return Err(format!("consent to topic {} is for {known}", topic.name));
        }
    }
    let at = one.at.or(time).unwrap_or(now);
    if at.duration_since(now) > AHEAD_MAX {
        return Err("`at` is still to come".to_owned());
    }
    if one.text.as_ref().is_some_and(|text| text.chars().count() > TEXT_CHARS_MAX || text.contains('\0')) {
        return Err(format!("`text` has at most {TEXT_CHARS_MAX} characters"));
    }
    Ok(Entry {
        profile: profile.to_owned(),
        topic: one.topic,
        channel: one.channel,
        state,
        at: at.min(now),
        source: source.to_owned(),
        text: one.text,
    })
}

/// The fields of the profile that change, as text, and the version.
fn addresses(
    data: &AddressData,
    spec: &DatasetSpec,
    time: Option<Timestamp>,
    now: Timestamp,
) -> Result<Vec<(String, String)>, String> {
    let entity = spec.entity(&spec.profile.entity).ok_or("the dataset has no profile")?;
    if entity.source.as_ref().is_some_and(|source| source.table.is_some()) {
        return Err(format!("{} is another system's table; change it there", entity.name));
    }
    let version = entity.version.as_ref();
    let version = version.ok_or_else(|| format!("{} has no `version`, so the next file would undo it", entity.name))?;
    if data.addresses.is_empty() {
        return Err("`addresses` has an entry for each address that changes".to_owned());
    }
    let mut fields = vec![];
    for (medium, value) in &data.addresses {
        let path = Medium::ALL.into_iter().find(|known| known.word() == medium.as_str());
        let path = path.and_then(|medium| spec.profile.addresses.of(medium));
        let path = path.ok_or("the profile has no address for that channel")?;
        if !entity.fields.iter().any(|field| *field.name == *path) {
            return Err(format!("the {medium} address is not a field of {}", entity.name));
        }
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            _ => return Err("an address is a text, or null where there is none any more".to_owned()),
        };
        fields.push((path.to_owned(), text));
    }
    let kind = entity.fields.iter().find(|field| field.name == *version).map(|field| field.kind);
    let stamp = match (&data.version, kind) {
        (Some(Value::String(text)), _) => text.clone(),
        (Some(Value::Number(number)), _) => number.to_string(),
        (None, Some(FieldKind::Timestamp)) => time.unwrap_or(now).to_string(),
        _ => return Err(format!("`version` is the value of {}.{version}", entity.name)),
    };
    fields.push((version.to_string(), stamp));
    Ok(fields)
}

/// The entity with the fields that are given: its key, what changes, and the version.
fn part_of(entity: &Entity, fields: &[(String, String)]) -> Entity {
    let mut part = entity.clone();
    part.fields
        .retain(|field| entity.key.contains(&field.name) || fields.iter().any(|(name, _)| **name == *field.name));
    part
}

/// The one row of a change, typed.
fn row(part: &Entity, profile: &str, fields: &[(String, String)], place: Place<'_>) -> Result<rows::Batch, String> {
    let key: Vec<String> = match part.key.len() {
        1 => vec![profile.to_owned()],
        _ => {
            let parts: Vec<Value> = serde_json::from_str(profile).unwrap_or_default();
            parts.into_iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect()
        }
    };
    let mut rows = Rows::new(place.dialect, part, Target::Stage, None);
    rows.begin(Change::Upsert);
    for field in &part.fields {
        let of_key = part.key.iter().position(|name| *name == field.name).and_then(|index| key.get(index));
        let given = fields.iter().find(|(name, _)| **name == *field.name).map(|(_, text)| text);
        let text = of_key.or(given).map_or("", String::as_str);
        let value = cell::parse(text.as_bytes(), field, &TimeZone::UTC);
        let value = value.map_err(|why| format!("{}.{}: {why}", part.name, field.name))?;
        if part.version.as_ref() == Some(&field.name) && value == rows::Value::Missing {
            return Err(format!("{}.{} is missing", part.name, field.name));
        }
        rows.push(value);
    }
    rows.end();
    Ok(rows.take())
}

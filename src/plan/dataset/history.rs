//! The entities that the store adds: `message`, linked to the profile as `messages`, and its `events`.

use url::Url;

use crate::{
    api::dataset::DatasetSpec,
    files::address,
    plan::{Finding, Ref},
    rule::{
        Schema,
        schema::{Entity, Field, FieldType, KEY_TEXT, Link},
    },
    store::{entity::Place, own_table},
};

const MESSAGE: &str = "message";
const EVENT: &str = "event";
/// The profile's link to its messages.
const MESSAGES: &str = "messages";
/// What identifies a message in the ledger; rules do not see it.
const LEDGER_KEY: [&str; 5] = ["run_day", "run_no", "step_no", "shard", "seq"];

/// Adds the history of a dataset's messages to its schema.
pub(super) fn add(schema: &mut Schema, spec: &DatasetSpec, place: Place<'_>) {
    let profile = spec.profile.entity.to_string();
    let is_taken = schema.entities.contains_key(MESSAGE) || schema.entities.contains_key(EVENT);
    let Some(owner) = schema.entities.get_mut(&profile).filter(|_| !is_taken) else { return };
    if owner.field(MESSAGES).is_none() && owner.link(MESSAGES).is_none() {
        owner.links.push(link(MESSAGES, MESSAGE, vec![(KEY_TEXT.to_owned(), "profile".to_owned())], true));
    }
    let text = |name: &str, is_required| Field { name: name.to_owned(), ty: FieldType::String, is_required };
    let time = |name: &str, is_required| Field { name: name.to_owned(), ty: FieldType::Timestamp, is_required };
    let key: Vec<(String, String)> = LEDGER_KEY.map(|k| (k.to_owned(), k.to_owned())).to_vec();
    let message = Entity {
        name: MESSAGE.to_owned(),
        key: LEDGER_KEY.map(str::to_owned).to_vec(),
        fields: vec![
            text("campaign", true),
            text("run", true),
            text("step", true),
            text("channel", true),
            text("topic", false),
            text("variant", false),
            text("item", true),
            time("plannedAt", false),
            time("sentAt", false),
            text("outcome", true),
            text("reason", false),
        ],
        links: vec![link("events", EVENT, key, true)],
        table: own_table(MESSAGE, place.dialect),
        only: vec![
            ("namespace".to_owned(), place.namespace.to_owned()),
            ("dataset".to_owned(), place.dataset.to_owned()),
        ],
        is_history: true,
        ..Entity::default()
    };
    let event = Entity {
        name: EVENT.to_owned(),
        key: LEDGER_KEY.map(str::to_owned).to_vec(),
        fields: vec![text("type", true), time("at", true), text("url", false), text("reason", false)],
        table: own_table("event_of_message", place.dialect),
        is_history: true,
        ..Entity::default()
    };
    schema.entities.extend([message, event].map(|entity| (entity.name.clone(), entity)));
}

fn link(name: &str, to: &str, keys: Vec<(String, String)>, is_many: bool) -> Link {
    Link { name: name.to_owned(), to: to.to_owned(), keys, is_many }
}

/// The names are the store's.
pub(super) fn check(this: &Ref, spec: &DatasetSpec, found: &mut Vec<Finding>) {
    for (index, entity) in spec.entities.iter().enumerate() {
        let at = |rest: String| format!("spec.entities[{index}].{rest}");
        let is_own = |name: &str| {
            Finding::new(
                this,
                at(name.to_owned()),
                format!("`{MESSAGES}` is the link to what was sent; the store adds it"),
            )
        };
        if *entity.name == *MESSAGE || *entity.name == *EVENT {
            let message = format!("`{}` is the history of what was sent; the store adds it", entity.name);
            found.push(Finding::new(this, at("name".to_owned()), message).hint("choose another name"));
        }
        if entity.name != spec.profile.entity {
            for (l, link) in entity.links.iter().enumerate() {
                if link.to == spec.profile.entity && link.inverse.as_ref().is_some_and(|i| **i == *MESSAGES) {
                    found.push(is_own(&format!("links[{l}].inverse")));
                }
            }
            continue;
        }
        found.extend(
            entity.fields.iter().position(|f| *f.name == *MESSAGES).map(|f| is_own(&format!("fields[{f}].name"))),
        );
        found.extend(
            entity.links.iter().position(|l| *l.name == *MESSAGES).map(|l| is_own(&format!("links[{l}].name"))),
        );
    }
}

/// Who is told of it can be told.
pub(super) fn check_exports(this: &Ref, spec: &DatasetSpec, found: &mut Vec<Finding>) {
    let exports = spec.history.iter().flat_map(|history| &history.exports);
    for (index, export) in exports.clone().enumerate() {
        let at = |field: &str| format!("spec.history.exports[{index}]{field}");
        if exports.clone().take(index).any(|other| other.name == export.name) {
            found.push(Finding::new(this, at(".name"), format!("there are two exports `{}`", export.name)));
        }
        if export.files.is_some() == export.webhook.is_some() {
            found.push(Finding::new(this, at(""), "an export is exactly one of files, webhook"));
        }
        if let Some(files) = &export.files {
            // The files below it are what is written.
            let file = format!("{}/file", files.url.trim_end_matches('/'));
            let wrong = address::check_target(&files.url, &files.access)
                .and_then(|()| address::check_target(&file, &files.access));
            if let Err(wrong) = wrong {
                found.push(Finding::new(this, at(&format!(".files.{}", wrong.field)), wrong.message));
            }
        }
        if let Some(Err(error)) = export.webhook.as_ref().map(|webhook| Url::parse(&webhook.url)) {
            found.push(Finding::new(this, at(".webhook.url"), format!("this is not a URL: {error}")));
        }
    }
}

//! What is known of one person. What is personal is masked, as in every preview.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value as Json;

use super::Person;
use crate::{
    api::medium::Medium,
    plan::message::portable,
    review::mask::{MASKED, Mask},
    rule::{Query, check_path},
    store::{
        self, Sql, Store,
        consent::Entry,
        entity::{Place, keys_given},
        person::{History, Message, Suppression, Whose},
        suppression::WHOLE_STORE,
    },
};

/// Entries of her consent that are told; more were not made by a person.
const ENTRIES_MAX: i64 = 10_000;

/// A field of her row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldView {
    pub name: String,
    /// Null: it is missing.
    pub value: Json,
}

/// Where she is reached, and what holds that back.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressView {
    pub medium: &'static str,
    pub address: String,
    pub suppressions: Vec<SuppressionView>,
    /// What was withdrawn under the address, by whomever had it.
    pub withdrawn: Vec<ConsentView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SuppressionView {
    pub cause: String,
    pub is_whole_store: bool,
    pub since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Its time is over.
    pub is_over: bool,
}

/// What she said of a topic and a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsentView {
    pub topic: String,
    pub channel: String,
    pub state: &'static str,
    pub at: Timestamp,
    pub source: String,
    /// The words, which may be hers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptView {
    pub no: i64,
    pub at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What came back about a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    #[serde(rename = "type")]
    pub ty: String,
    pub at: Timestamp,
    /// No person did it.
    pub machine: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    pub campaign: String,
    pub run: String,
    /// Of a run that is not live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    pub step: String,
    pub channel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The key of the row that it is about.
    pub item: String,
    /// `Waiting`, or how it ended.
    pub outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the provider answered, in its words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    pub attempts: Vec<AttemptView>,
    pub events: Vec<EventView>,
}

/// Everything about one person; lists begin with the newest.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PersonView {
    pub namespace: String,
    pub dataset: String,
    pub entity: String,
    pub key: String,
    /// Whether her row is there.
    pub is_there: bool,
    /// When she was erased on request. What follows is kept under a keyed hash then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    pub fields: Vec<FieldView>,
    pub addresses: Vec<AddressView>,
    pub consent: Vec<ConsentView>,
    pub messages: Vec<MessageView>,
    /// There are older messages, which were not asked for.
    pub has_more_messages: bool,
}

/// Her row: its fields, and where she is reached. None: there is none.
struct Row {
    fields: Vec<(String, Json)>,
    addresses: Vec<(Medium, String)>,
}

impl Person {
    /// All that the store keeps of her, and no more than so many of her messages.
    ///
    /// # Errors
    /// Of the store.
    pub async fn view(
        &self,
        store: &Store,
        mask: &Mask,
        messages_max: i64,
        now: Timestamp,
    ) -> store::Result<PersonView> {
        let row = self.row(store).await?;
        let mut hashes = vec![];
        for (medium, address) in row.iter().flat_map(|row| &row.addresses) {
            if let Some(hash) = store.address_hash(address).await? {
                hashes.push((medium.word().to_owned(), hash));
            }
        }
        let (namespace, dataset) = self.of();
        let whose = Whose { namespace, dataset, key: &self.key, erased: &self.erased, addresses: &hashes };
        let mut known = store.history(whose, (messages_max.saturating_add(1), ENTRIES_MAX)).await?;
        let most = usize::try_from(messages_max).unwrap_or(usize::MAX);
        let has_more_messages = known.messages.len() > most;
        known.messages.truncate(most);
        let profile = &self.entity()?.name;
        let hides_key = self.entity()?.key.iter().any(|field| mask.hides(profile, field));
        let field = |(name, value): (String, Json)| {
            let is_hidden = !value.is_null() && mask.hides(profile, &name);
            FieldView { value: if is_hidden { MASKED.into() } else { value }, name }
        };
        let is_there = row.is_some();
        let (fields, addresses) = row.map_or_else(Default::default, |row| (row.fields, row.addresses));
        let address = |(at, (medium, address)): (usize, (Medium, String))| {
            let hash = hashes.get(at).map(|(_, hash)| hash.as_str());
            address_view(medium, mask.text(&address), &known, (hash, mask), now)
        };
        Ok(PersonView {
            namespace: namespace.to_owned(),
            dataset: dataset.to_owned(),
            entity: profile.to_string(),
            key: if hides_key { MASKED.to_owned() } else { self.key.clone() },
            is_there,
            erased_at: known.erased,
            fields: fields.into_iter().map(field).collect(),
            addresses: addresses.into_iter().enumerate().map(address).collect(),
            consent: known.consent.iter().map(|entry| consent_view(entry, mask)).collect(),
            messages: known.messages.iter().map(|message| message_view(message, mask)).collect(),
            has_more_messages,
        })
    }

    /// Whether anything is kept of her.
    ///
    /// # Errors
    /// Of the store.
    pub async fn is_known(&self, store: &Store) -> store::Result<bool> {
        let (namespace, dataset) = self.of();
        let whose = Whose { namespace, dataset, key: &self.key, erased: &self.erased, addresses: &[] };
        let known = store.history(whose, (1, 1)).await?;
        let has_history = known.erased.is_some() || !known.messages.is_empty() || !known.consent.is_empty();
        Ok(has_history || self.row(store).await?.is_some())
    }

    async fn row(&self, store: &Store) -> store::Result<Option<Row>> {
        let ((namespace, dataset), dialect, declared) = (self.of(), store.dialect(), self.entity()?);
        let there = store.entities_there(Place { namespace, dataset, dialect }).await?;
        let Some(entity) = self.schema.entity(&declared.name).filter(|_| there.contains(&*declared.name)) else {
            return Ok(None);
        };
        let given = keys_given(dialect, declared, std::slice::from_ref(&self.key));
        let mut query = Query::over_set(&self.schema, entity, dialect, given);
        for field in &entity.fields {
            let path = check_path(&field.name, &self.schema, &entity.name);
            let path = path.map_err(|problem| store::Error::Internal(problem.message))?;
            let value = query.path(&path);
            let value = portable(&query, value, field.ty);
            query.column(value, &format!("f_{}", field.name));
        }
        let mut media = vec![];
        for medium in Medium::ALL {
            let path = self.declared.spec.profile.addresses.of(medium);
            let path = path.and_then(|text| check_path(text, &self.schema, &entity.name).ok());
            // What lies behind another entity's table that was not read yet cannot be asked for.
            if let Some(path) = path.filter(|path| !path.is_many && there.contains(&path.entity)) {
                let value = query.path(&path);
                query.column(value, &format!("a_{}", medium.word()));
                media.push(medium);
            }
        }
        let Some(row) = store.fetch_one(Sql::query(&query.finish(), dialect)?).await? else { return Ok(None) };
        let mut fields = vec![];
        for (index, field) in entity.fields.iter().enumerate() {
            fields.push((field.name.clone(), row.shown(index, field.ty)?.unwrap_or(Json::Null)));
        }
        let mut addresses = vec![];
        for (index, medium) in media.into_iter().enumerate() {
            let text: Option<String> = row.get(entity.fields.len() + index)?;
            addresses.extend(text.filter(|text| !text.trim().is_empty()).map(|text| (medium, text)));
        }
        Ok(Some(Row { fields, addresses }))
    }
}

fn address_view(
    medium: Medium,
    address: String,
    known: &History,
    (hash, mask): (Option<&str>, &Mask),
    now: Timestamp,
) -> AddressView {
    let view = |held: &Suppression| SuppressionView {
        cause: held.cause.clone(),
        is_whole_store: held.namespace == WHOLE_STORE,
        since: held.since,
        until: held.until,
        is_over: held.until.is_some_and(|until| until <= now),
    };
    let medium = medium.word();
    let is_hers = |held: &&Suppression| held.medium == medium && Some(held.address.as_str()) == hash;
    let withdrawn = known.opt_outs.iter().filter(|entry| Some(entry.profile.as_str()) == hash);
    AddressView {
        medium,
        address,
        suppressions: known.suppressions.iter().filter(is_hers).map(view).collect(),
        withdrawn: withdrawn.map(|entry| consent_view(entry, mask)).collect(),
    }
}

fn consent_view(entry: &Entry, mask: &Mask) -> ConsentView {
    ConsentView {
        topic: entry.topic.clone(),
        channel: entry.channel.clone(),
        state: entry.state.as_str(),
        at: entry.at,
        source: entry.source.clone(),
        text: entry.text.as_deref().map(|text| mask.text(text)),
    }
}

fn message_view(message: &Message, mask: &Mask) -> MessageView {
    let attempt = |of: &store::person::Attempt| AttemptView { no: of.no, at: of.at, failure: of.failure.clone() };
    let event = |of: &store::person::Answer| EventView {
        ty: of.ty.clone(),
        at: of.at,
        machine: of.is_machine,
        reason: of.reason.clone(),
        url: of.url.as_deref().map(|url| mask.text(url)),
    };
    MessageView {
        campaign: message.campaign.clone(),
        run: message.run.clone(),
        mode: Some(message.mode.clone()).filter(|mode| mode != "Live"),
        step: message.step.clone(),
        channel: message.channel.clone(),
        topic: message.topic.clone(),
        item: mask.text(&message.item),
        outcome: message.outcome.clone().unwrap_or_else(|| "Waiting".to_owned()),
        reason: message.reason.clone(),
        detail: message.detail.as_deref().map(|detail| mask.text(detail)),
        planned_at: message.planned,
        at: message.at,
        due_at: message.due,
        attempts: message.attempts.iter().map(attempt).collect(),
        events: message.answers.iter().map(event).collect(),
    }
}

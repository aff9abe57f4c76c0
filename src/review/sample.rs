//! A message of one channel step as a declared persona, or a real person, would get it: written by the code of a live send.
//!
//! What is personal is masked before the template gets it (see [`Mask`]). A template that computes with a key cannot do so
//! with dots; it gets a plain value of the key's type then.

use std::{borrow::Cow, sync::Arc};

use minijinja::Value;
use sea_query::SelectStatement;
use serde::Serialize;

use super::{mask::Mask, persona};
use crate::{
    api::template::Persona,
    plan::{
        Bundle, Plan,
        activity::Compiled,
        message::{Held, MessagePlan, canonical},
    },
    rule::{FieldType, Inputs, Query},
    run::schedule::Timetable,
    send::{
        address,
        job::fields_of,
        letter::{Letter, Occasion, Purpose},
        mime::dkim::Signer,
        said::Said,
        segments::Extent,
        template,
    },
    store::{self, Sql, Store, ledger::DEVICE},
};

/// Before the columns that the template reads: item, profile, address, locale.
const CARRIED: usize = 4;

/// A message as somebody would get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    pub step: String,
    pub channel: String,
    /// The persona's name, or the key of the row; masked as that is.
    pub who: String,
    pub is_persona: bool,
    /// The variant of the template; empty for its base.
    pub locale: String,
    pub subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// The names of what travels with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<String>,
    /// Of the whole message as it leaves, without a signature.
    pub size_bytes: usize,
    /// Of a text: its alphabet and its segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extent: Option<Extent>,
    #[serde(skip)]
    pub file: Vec<u8>,
    /// What such files are called behind their dot.
    #[serde(skip)]
    pub extension: &'static str,
}

/// A row that a message would be about, with what the template reads of it, unmasked.
#[derive(Clone, Debug)]
pub struct About {
    /// The key of the row, in its canonical text.
    pub item: String,
    /// The key of the person.
    pub profile: Option<String>,
    /// As it stands in the store; may be missing, or no address.
    pub address: Option<String>,
    pub locale: Option<String>,
    fields: Vec<Value>,
}

impl About {
    /// What is said to an address.
    pub fn said_to(&self, address: &str) -> Said {
        Said { to: address.to_owned(), locale: self.locale.clone(), fields: self.fields.clone(), is_tracked: false }
    }
}

/// Writes samples of one campaign.
pub struct Sampler {
    pinned: Arc<(Bundle, Plan)>,
    inputs: Inputs,
    mask: Mask,
}

impl Sampler {
    /// `inputs.now` is when the run would start that the messages are of.
    pub fn new(pinned: Arc<(Bundle, Plan)>, inputs: Inputs, mask: Mask) -> Self {
        Self { pinned, inputs, mask }
    }

    fn plan(&self) -> &Plan {
        &self.pinned.1
    }

    fn message(&self, step: &str) -> store::Result<(i64, &MessagePlan)> {
        self.plan().message_named(step).ok_or_else(|| store::Error::Internal(format!("`{step}` is no channel step")))
    }

    /// The letter of a step, for looking at it or as a proof.
    ///
    /// # Errors
    /// [`store::Error::Internal`] when the plan lacks the step or its channel.
    pub fn letter(&self, step: &str, purpose: Purpose, signer: Option<Signer>) -> store::Result<Letter> {
        let (no, _) = self.message(step)?;
        let campaign = &self.pinned.0.name;
        let table = self.pinned.0.campaign.schedule.as_ref().and_then(|schedule| Timetable::of(schedule).ok());
        let at = self.inputs.now;
        let run = table.map_or_else(|| campaign.clone(), |table| table.run_name(campaign, at));
        let occasion = Occasion { run, scheduled: at, purpose, expires: None };
        // No link of it is signed, and nothing is kept of it: it needs no secret.
        Letter::new(&occasion, self.pinned.clone(), no, signer, &[])
    }

    /// The message for a persona, in a locale of the caller's or in its own.
    ///
    /// # Errors
    /// A sentence for the template's author.
    pub fn persona(&self, step: &str, persona: &Persona, locale: Option<&str>) -> Result<Sample, String> {
        let (_, message) = self.message(step).map_err(|e| e.to_string())?;
        let said = persona::said(&self.pinned.0, message, persona, locale)?;
        let letter = self.letter(step, Purpose::Preview, None).map_err(|e| e.to_string())?;
        let sample = self.write(&letter, message, &said)?;
        Ok(Sample { who: persona.name.to_string(), is_persona: true, ..sample })
    }

    /// The rows of a set of the step's entity (the SELECT of their keys), in the order of their keys; of several devices
    /// the first.
    ///
    /// # Errors
    /// Of the store.
    pub async fn read(&self, store: &Store, step: &str, set: SelectStatement) -> store::Result<Vec<About>> {
        let mut found = self.read_each(store, step, set).await?;
        found.dedup_by(|about, before| about.item == before.item);
        Ok(found)
    }

    /// The rows of a set, once for each device.
    ///
    /// # Errors
    /// Of the store.
    pub async fn read_each(&self, store: &Store, step: &str, set: SelectStatement) -> store::Result<Vec<About>> {
        let (_, message) = self.message(step)?;
        let lost = || store::Error::Internal(format!("{} is not in the dataset", message.entity));
        let select = self.skinny(message, set).ok_or_else(lost)?;
        let rows = store.fetch(Sql::query(&select, self.plan().dialect)?).await?;
        let about = |row: &store::Row| {
            Ok(About {
                item: row.get(0)?,
                profile: row.get(1)?,
                address: row.get(2)?,
                locale: row.get(3)?,
                fields: fields_of(message, row, CARRIED)?,
            })
        };
        rows.iter().map(about).collect()
    }

    fn skinny(&self, message: &MessagePlan, set: SelectStatement) -> Option<SelectStatement> {
        let plan = self.plan();
        let entity = plan.schema.entity(&message.entity)?;
        let person = plan.schema.entity(&self.pinned.0.dataset.profile.entity)?;
        let mut query = Query::over_set(&plan.schema, entity, plan.dialect, set.clone());
        let item = canonical(&mut query, entity, &[]);
        let profile = canonical(&mut query, person, &message.recipient.hops);
        let device = match message.devices() {
            Some(to) => canonical(&mut query, plan.schema.entity(&to.entity)?, &to.hops),
            None => query.custom("CAST(NULL AS TEXT)", []),
        };
        query.column(item, "item");
        query.column(profile, "profile");
        let order = query.key().into_iter().chain([device.clone()]).collect::<Vec<_>>();
        let marks = vec!["?"; order.len()].join(", ");
        let seq = query.custom(&format!("row_number() OVER (ORDER BY {marks})"), order);
        query.column(device, DEVICE);
        query.column(seq, "seq");
        let rows = query.keys();
        let none = |_: &str| SelectStatement::new();
        let ground = plan.ground(&self.inputs, self.inputs.now, &none);
        let enriched = |output: &str| {
            let step = plan.steps.iter().find(|step| step.name == output)?;
            let Compiled::Enrich(enrich) = &step.compiled else { return None };
            enrich.select_over(&ground, &set)
        };
        message.skinny(&plan.schema, plan.dialect, rows, &["item", "profile"], &enriched, None)
    }

    /// The message about a row, masked as the sampler is told.
    ///
    /// # Errors
    /// Why it cannot be written, without a personal value.
    pub fn about(&self, step: &str, about: &About, locale: Option<&str>) -> Result<Sample, String> {
        let (_, message) = self.message(step).map_err(|e| e.to_string())?;
        let letter = self.letter(step, Purpose::Preview, None).map_err(|e| e.to_string())?;
        let locale = locale.map(str::to_owned).or_else(|| about.locale.clone());
        let sample = if self.mask.is_lifted() {
            let to = about.address.as_deref().map(str::trim).filter(|to| address::is_fit(message.medium, to));
            let said = Said { locale: locale.clone(), ..about.said_to(to.unwrap_or(address::nobodys(message.medium))) };
            self.write(&letter, message, &said)
        } else {
            let veiled = |veil| Said {
                is_tracked: false,
                to: address::nobodys(message.medium).to_owned(),
                locale: locale.clone(),
                fields: self.veiled(message, &about.fields, veil),
            };
            self.write(&letter, message, &veiled(Veil::Dots))
                .or_else(|_| self.write(&letter, message, &veiled(Veil::Plain)))
        };
        let sample = sample?;
        // What stands in the place of a person's values is not what decides for an alphabet. They do, and none of them is told.
        let extent = match (&sample.extent, self.mask.is_lifted()) {
            (Some(_), false) => {
                let said = Said { locale, ..about.said_to(address::nobodys(message.medium)) };
                let written = self.write(&letter, message, &said);
                written.ok().and_then(|sample| sample.extent).map(|extent| Extent { decided_by: None, ..extent })
            }
            (extent, _) => extent.clone(),
        };
        Ok(Sample { who: self.mask.text(&about.item), extent, ..sample })
    }

    fn write(&self, letter: &Letter, message: &MessagePlan, said: &Said) -> Result<Sample, String> {
        // The person only tells that there is a link; which one, the purpose does.
        let written = letter.written((0, 0), Some(""), said, self.inputs.now)?;
        let (extension, file) = written.content.file();
        Ok(Sample {
            step: letter.step.clone(),
            channel: message.channel.clone(),
            who: String::new(),
            is_persona: false,
            locale: message.template.variant(said.locale.as_deref()),
            subject: written.words.subject().to_owned(),
            text: written.words.text().map(Cow::into_owned),
            html: written.words.html().map(str::to_owned),
            attachments: message.template.attached(said.locale.as_deref()).iter().map(|a| a.name.clone()).collect(),
            size_bytes: file.len(),
            extent: match &written.words {
                template::Words::Text(text) => Some(Extent::of(text)),
                _ => None,
            },
            file: file.into_owned(),
            extension,
        })
    }

    /// What the template reads, with what is personal masked.
    fn veiled(&self, message: &MessagePlan, fields: &[Value], veil: Veil) -> Vec<Value> {
        let (own, extras) = fields.split_at(message.reads.len().min(fields.len()));
        let own = message.reads.iter().zip(own).map(|(column, value)| {
            if self.mask.hides_path(&column.path) { veil.over(value, column.ty) } else { value.clone() }
        });
        let extras = message.extras.iter().zip(extras).map(|(extra, value)| match &extra.held {
            Held::Value(ty) => match self.is_open(&extra.output, &extra.column) {
                true => value.clone(),
                false => veil.over(value, *ty),
            },
            Held::List(elements) | Held::Row(_, elements) => {
                let mut json = serde_json::to_value(value).unwrap_or_default();
                let rows = match &mut json {
                    serde_json::Value::Array(rows) => rows.iter_mut().collect(),
                    row => vec![row],
                };
                for row in rows {
                    for element in elements.iter().filter(|element| self.mask.hides_path(&element.path)) {
                        if let Some(at) = row.pointer_mut(&persona::pointer(&element.names)) {
                            veil.over_json(at, element.ty);
                        }
                    }
                }
                template::value(&json)
            }
        });
        own.chain(extras).collect()
    }

    /// Whether a value that an `enrich` step added is shown.
    fn is_open(&self, output: &str, column: &str) -> bool {
        let step = self.plan().steps.iter().find(|step| step.name == output);
        match step.map(|step| &step.compiled) {
            Some(Compiled::Enrich(enrich)) => {
                let carried = enrich.carried(column, &self.plan().schema);
                !carried.iter().any(|(entity, field)| self.mask.hides(entity, field))
            }
            _ => false,
        }
    }
}

/// What stands in the place of a personal value.
#[derive(Clone, Copy)]
enum Veil {
    Dots,
    /// A value of the field's own type, the same for everybody.
    Plain,
}

impl Veil {
    /// A missing value stays missing.
    fn over(self, value: &Value, ty: FieldType) -> Value {
        if value.is_undefined() || value.is_none() { Value::UNDEFINED } else { template::value(&self.stand_in(ty)) }
    }

    fn over_json(self, value: &mut serde_json::Value, ty: FieldType) {
        if !value.is_null() {
            *value = self.stand_in(ty);
        }
    }

    fn stand_in(self, ty: FieldType) -> serde_json::Value {
        match (self, ty) {
            (Self::Plain, FieldType::Integer | FieldType::Double) => 0.into(),
            (Self::Plain, FieldType::Decimal { .. }) => "0".into(),
            (Self::Plain, FieldType::Boolean) => false.into(),
            (Self::Plain, FieldType::Date) => "2000-01-01".into(),
            (Self::Plain, FieldType::Timestamp) => "2000-01-01T00:00:00Z".into(),
            _ => super::mask::MASKED.into(),
        }
    }
}

#[cfg(test)]
mod tests;

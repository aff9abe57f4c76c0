//! Somebody whom nobody named: with the longest name, or without a language. Such people show what a template forgets.
//!
//! ```text
//! longest:customer.first_name      missing:language
//! ```

use sea_query::ExprTrait;

use super::Walker;
use crate::{
    plan::message::MessagePlan,
    review::sample::About,
    rule::{Path, Problem, Query, check_path},
    store,
};

/// Who is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    Longest,
    Missing,
}

impl Walker<'_> {
    /// The row of a channel step's set whose field is as asked; the lowest key of several.
    ///
    /// # Errors
    /// The store's; within, what is wrong with the field.
    pub async fn pick(&self, step: &str, pick: Pick, field: &str) -> store::Result<Result<Option<About>, Problem>> {
        let Some((_, message)) = self.plan().message_named(step) else { return Ok(Ok(None)) };
        let path = match self.field(message, field) {
            Ok(path) => path,
            Err(problem) => return Ok(Err(problem)),
        };
        let entity = self.entity(&message.entity)?;
        let set = self.sets.get(&message.input).cloned().unwrap_or_default();
        let mut query = Query::over_set(self.schema(), entity, self.plan().dialect, set);
        let value = query.path(&path);
        match pick {
            Pick::Longest => {
                let length = query.custom("-length(CAST(? AS TEXT))", [value.clone()]);
                query.order_by(length);
                query.filter(value.is_not_null());
            }
            Pick::Missing => query.filter(value.is_null()),
        }
        query.key().into_iter().for_each(|part| query.order_by(part));
        let select = query.keys().limit(1).to_owned();
        let found = self.sampler.read(self.store, step, self.whole(&message.entity, select)?).await?;
        Ok(Ok(found.into_iter().next()))
    }

    /// A field as the template names it: of the item, or of the person; of the person where neither is named.
    fn field(&self, message: &MessagePlan, text: &str) -> Result<Path, Problem> {
        let profile = &*self.bundle().dataset.profile.entity;
        let first = text.split('.').next().unwrap_or(text);
        let path = if first == message.entity && first != profile {
            check_path(text, self.schema(), &message.entity)?
        } else {
            message.recipient.join(&check_path(text, self.schema(), profile)?)
        };
        match path.field {
            Some(_) if !path.is_many => Ok(path),
            _ => Err(Problem::new(format!("`{text}` is not a field that each row has one of"), 0..text.len())),
        }
    }
}

//! One person, or one row, through each step of a campaign: in or out, by which clause with which of her values, and where
//! she left.
//!
//! ```text
//! campanile why overdue-reminders 23
//! campanile why overdue-reminders rental=1457
//! ```
//!
//! Each step is asked by the SELECT that a run evaluates, restricted to her rows; each clause by what the rule is lowered
//! to. Nothing is written. What is personal is masked, keys among it: rows are told apart by their numbers then.
//!
//! | file | what |
//! | --- | --- |
//! | [`key`] | whose key was given |
//! | `trace` | which rows of other entities are hers |
//! | `clauses` | the truth of each clause |
//! | `steps` | the walk |
//! | `explain` | why a row goes on, or does not |
//! | `channel` | what holds a message back |
//! | [`pick`] | somebody whom nobody named, such as with the longest name |
//! | [`words`] | all of it for a person to read |

mod channel;
mod clauses;
mod explain;
pub mod key;
pub mod pick;
mod steps;
mod trace;
pub mod words;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use sea_query::SelectStatement;
use serde::Serialize;
use serde_json::Value as Json;

pub use self::key::Subject;
use super::{mask::Mask, sample::Sampler};
use crate::{
    plan::{Bundle, Plan},
    rule::{Inputs, Query, Schema, schema::Entity},
    store::{self, Sql, Store, campaign::Run},
};

/// More of somebody's rows are not listed, only said to be there.
const ROWS_MAX: usize = 20;
/// Runs of the past whose ledger is asked.
const RUNS_MAX: i64 = 3;
/// Messages listed of them.
const FATES_MAX: i64 = 50;

/// What a rule's clause came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Truth {
    True,
    False,
    /// It does not hold, and something that it reads is missing.
    Missing,
    /// What stands before it decides.
    NotAsked,
    /// It overflows or divides by zero.
    Faults,
}

/// A clause with the values of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClauseView {
    /// As its author wrote it.
    pub text: String,
    pub truth: Truth,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueView>,
    /// What it reads and is missing: also of a clause that holds, perhaps only because of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ClauseView>,
}

/// What a clause reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueView {
    pub name: String,
    /// Masked, if it is personal. Null: it is missing.
    pub value: Json,
}

/// A rule that was asked, and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleView {
    /// Such as `where`, `branch gold` or `audience vip`.
    pub of: String,
    pub is_in: bool,
    /// The rule, where the audience or the branch has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clause: Option<ClauseView>,
    /// The audiences that it is made of, or asks about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<RuleView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A row at a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowView {
    /// Its key, or its number among the rows, where keys are masked.
    pub row: String,
    pub is_in: bool,
    /// The outputs that it goes on in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleView>,
    /// Why it gets no message: one of the reasons that a run counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it leaves here, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    pub step: String,
    /// The word of its activity.
    pub activity: String,
    pub entity: String,
    pub rows: Vec<RowView>,
    /// How many rows come to the step; no more than some are listed, those that go on first.
    pub total: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How it ends at a channel step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndView {
    pub step: String,
    /// Messages that would go.
    pub messages: usize,
    /// Where she left, if none of her rows comes to the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_at: Option<String>,
    /// Why the step itself is not come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why her messages do not go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// What became of a message in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FateView {
    pub run: String,
    pub step: String,
    pub row: String,
    /// `Waiting`, or how it ended.
    pub outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    pub attempts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
}

/// Everything about one subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    pub campaign: String,
    pub entity: String,
    pub key: String,
    /// Whether there is such a row.
    pub is_there: bool,
    /// `now` of the rules.
    pub now: Timestamp,
    /// The run that is explained; absent where it is one that would start now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Why nothing is sent now, whoever it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    pub steps: Vec<StepView>,
    pub ends: Vec<EndView>,
    /// What became of her in runs that were.
    pub fates: Vec<FateView>,
}

/// Walks subjects through one campaign.
pub struct Walker<'a> {
    store: &'a Store,
    pinned: Arc<(Bundle, Plan)>,
    inputs: Inputs,
    /// The running clock, for windows.
    clock: Timestamp,
    mask: Mask,
    sampler: Sampler,
    /// The SELECT of the keys of each output: chained, or of the work tables of a run.
    sets: BTreeMap<String, SelectStatement>,
    run: Option<Run>,
    /// By entity and key, the number that a row has in all steps.
    numbers: Mutex<BTreeMap<(String, String), usize>>,
}

impl<'a> Walker<'a> {
    /// A run that would start at `inputs.now`.
    pub fn new(store: &'a Store, pinned: Arc<(Bundle, Plan)>, inputs: Inputs, clock: Timestamp, mask: Mask) -> Self {
        let sets = pinned.1.chained(&inputs, clock);
        let sampler = Sampler::new(pinned.clone(), inputs.clone(), mask.clone());
        Self { store, pinned, inputs, clock, mask, sampler, sets, run: None, numbers: Mutex::default() }
    }

    /// A run that was: its steps are read from its work tables.
    ///
    /// # Errors
    /// Of the store.
    pub async fn of_run(
        store: &'a Store,
        pinned: Arc<(Bundle, Plan)>,
        inputs: Inputs,
        run: Run,
        mask: Mask,
    ) -> store::Result<Self> {
        let mut sets = BTreeMap::new();
        for step in store.run_steps(run.no).await? {
            let output = pinned.1.output(&step.name);
            let entity = output.and_then(|output| pinned.1.schema.entity(&output.entity));
            if let (Some(table), Some(entity)) = (step.table, entity) {
                let mut select = SelectStatement::new();
                entity.key.iter().for_each(|name| {
                    select.column(sea_query::Alias::new(name));
                });
                sets.insert(step.name, select.from(sea_query::Alias::new(table)).to_owned());
            }
        }
        let clock = run.planned.unwrap_or(run.created);
        let sampler = Sampler::new(pinned.clone(), inputs.clone(), mask.clone());
        Ok(Self { store, pinned, inputs, clock, mask, sampler, sets, run: Some(run), numbers: Mutex::default() })
    }

    /// Writes the messages that the walker finds.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// The SELECT of the keys of an output, if it is known.
    pub fn set(&self, output: &str) -> Option<&SelectStatement> {
        self.sets.get(output)
    }

    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    fn bundle(&self) -> &Bundle {
        &self.pinned.0
    }

    fn plan(&self) -> &Plan {
        &self.pinned.1
    }

    fn schema(&self) -> &Schema {
        &self.pinned.1.schema
    }

    fn entity(&self, name: &str) -> store::Result<&Entity> {
        let lost = || store::Error::Internal(format!("there is no entity {name}"));
        self.schema().entity(name).ok_or_else(lost)
    }

    /// How many rows a set has.
    async fn count(&self, set: SelectStatement) -> store::Result<i64> {
        let mut count = SelectStatement::new();
        count.expr(sea_query::Expr::cust("count(*)")).from_subquery(set, sea_query::Alias::new("c"));
        let row = self.store.fetch_one(Sql::query(&count, self.plan().dialect)?).await?;
        row.map_or(Ok(0), |row| row.get(0))
    }

    /// A row by its key; where keys are masked, by the number that it has in all steps.
    fn called(&self, entity: &str, item: &str) -> String {
        if self.mask.is_lifted() {
            return format!("{entity} {item}");
        }
        let Ok(mut numbers) = self.numbers.lock() else { return entity.to_owned() };
        let next = numbers.keys().filter(|(known, _)| known == entity).count() + 1;
        let number = numbers.entry((entity.to_owned(), item.to_owned())).or_insert(next);
        format!("{entity} {number}")
    }

    /// The rows of a set that exist, by key; no more than are listed.
    async fn rows(&self, entity: &str, set: SelectStatement) -> store::Result<Vec<Row>> {
        let entity = self.entity(entity)?;
        let mut query = Query::over_set(self.schema(), entity, self.plan().dialect, set);
        let item = crate::plan::message::canonical(&mut query, entity, &[]);
        query.column(item, "item");
        for (index, part) in query.key().into_iter().enumerate() {
            let text = query.custom("CAST(? AS TEXT)", [part.clone()]);
            query.column(text, &format!("k{index}"));
            query.order_by(part);
        }
        let select = query.finish().limit(ROWS_MAX as u64).to_owned();
        let found = self.store.fetch(Sql::query(&select, self.plan().dialect)?).await?;
        let row = |row: &store::Row| {
            let key = (1..=entity.key.len()).map(|at| row.get(at)).collect::<store::Result<_>>()?;
            Ok(Row { item: row.get(0)?, key })
        };
        found.iter().map(row).collect()
    }
}

/// A row of somebody's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    /// The canonical text of its key.
    item: String,
    /// Each part of it.
    key: Vec<String>,
}

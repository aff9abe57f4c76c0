//! `incremental`: only rows that no earlier run of the campaign took at this step.
//!
//! ```yaml
//! incremental: {by: Key, window: 90d, rest: known}
//! incremental: {by: Field, field: updated_at}
//! ```
//!
//! The rows are reserved in the transaction that evaluates the step (see [`crate::store::progress`]). By key, a row comes
//! again when the window is over; by field, when its value has risen, and a value older than the window or missing is not
//! taken.

use jiff::Timestamp;
use sea_query::{Alias, Expr, ExprTrait, SelectStatement};

use super::{Compiled, Ground, Output, Place, Selects, keys_of};
use crate::{
    api::{
        duration::Duration,
        step::{self, Progress},
    },
    plan::{Finding, message::canonical},
    rule::{Dialect, FieldType, Path, Query, nearest, schema::Entity},
    store::{campaign::Owner, progress},
};

pub struct Incremental {
    input: String,
    entity: String,
    /// What the state is kept under.
    namespace: String,
    campaigns: Vec<String>,
    step: String,
    field: Option<(Path, FieldType)>,
    window: Option<Duration>,
    has_rest: bool,
}

pub fn compile(step: &step::Incremental, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let wrong = |field: &str, message: String| place.finding("incremental", field, message);
    let field = match (step.by, &step.field) {
        (Progress::Key, None) => None,
        (Progress::Field, Some(name)) => {
            let Some(field) = entity.field(name) else {
                let mut finding = wrong("field", format!("{} has no field `{name}`", entity.name));
                finding.hint = nearest(name, entity.fields.iter().map(|f| f.name.as_str()))
                    .map(|near| format!("did you mean `{near}`?"));
                return Err(vec![finding]);
            };
            let rises = matches!(field.ty, FieldType::Timestamp | FieldType::Date | FieldType::Integer);
            if !rises {
                let message = format!("`{name}` must be a Timestamp, a Date or an Integer");
                return Err(vec![wrong("field", message)]);
            }
            if field.ty == FieldType::Integer && step.window.is_some() {
                let message = format!("a window is a length of time, and `{name}` is an Integer");
                return Err(vec![wrong("window", message)]);
            }
            Some((Path::own(&entity.name, name), field.ty))
        }
        _ => return Err(vec![wrong("field", "`by: Field` names its `field`, and only that does".to_owned())]),
    };
    let outputs = Output::with_rest(place, &entity.name, step.rest.as_ref(), "incremental", &entity.name);
    let (input, entity) = (input.to_owned(), entity.name.clone());
    let compiled = Incremental {
        input,
        entity,
        namespace: place.bundle.namespace.clone(),
        campaigns: place.bundle.names(),
        step: place.step.to_owned(),
        field,
        window: step.window,
        has_rest: step.rest.is_some(),
    };
    Ok((Compiled::Incremental(compiled), outputs))
}

impl Incremental {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects::default() };
        let rows = self.items(ground, entity, (ground.input)(&self.input));
        let since = self.window.map(|window| since(ground.now, window));
        let column = |name: &str| Expr::col((Alias::new("q"), Alias::new(name)));
        let owner = Owner { namespace: &self.namespace, campaigns: &self.campaigns, step: &self.step };
        let is_new = match (self.field.is_some(), since) {
            (false, since) => Expr::not(progress::is_taken(owner, since, false)),
            (true, None) => column("mark").is_not_null().and(Expr::not(progress::is_taken(owner, None, true))),
            (true, Some(since)) => column("mark").gte(since).and(Expr::not(progress::is_taken(owner, None, true))),
        };
        let fresh = keys_of(entity, rows.clone()).and_where(is_new.clone()).to_owned();
        // A missing mark makes the condition neither true nor false.
        let other = Query::over(ground.schema, entity, ground.dialect).custom("(?) IS NOT TRUE", [is_new]);
        let known = keys_of(entity, rows).and_where(other).to_owned();
        Selects::with_rest(vec![fresh], known, self.has_rest)
    }

    /// What is remembered of the rows that the step gave, the SELECT of whose keys is `given`: `item` and `mark`.
    pub fn reserved(&self, ground: &Ground<'_>, given: SelectStatement) -> Option<SelectStatement> {
        ground.schema.entity(&self.entity).map(|entity| self.items(ground, entity, given))
    }

    fn items(&self, ground: &Ground<'_>, entity: &Entity, set: SelectStatement) -> SelectStatement {
        let mut query = Query::over_set(ground.schema, entity, ground.dialect, set);
        let item = canonical(&mut query, entity, &[]);
        query.column(item, "item");
        let mark = match &self.field {
            None => query.custom("CAST(NULL AS BIGINT)", []),
            Some((path, ty)) => {
                let value = query.path(path);
                match (ty, ground.dialect) {
                    (FieldType::Timestamp, Dialect::Postgres) => {
                        query.custom("CAST(extract(epoch FROM ?) * 1000000 AS BIGINT)", [value])
                    }
                    (FieldType::Date, Dialect::Postgres) => {
                        query.custom("CAST(? - DATE '1970-01-01' AS BIGINT) * 86400000000", [value])
                    }
                    (FieldType::Date, Dialect::Sqlite) => {
                        query.custom("CAST(strftime('%s', ?) AS BIGINT) * 1000000", [value])
                    }
                    _ => value,
                }
            }
        };
        query.column(mark, "mark");
        query.keys()
    }
}

/// Microseconds since the epoch.
fn since(now: Timestamp, window: Duration) -> i64 {
    now.checked_sub(window.as_signed()).unwrap_or(Timestamp::MIN).as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden, said};

    #[test]
    fn becomes_sql() {
        let key = "- {name: it, unused: true, incremental: {by: Key, window: 90d}}";
        insta::assert_snapshot!("incremental_by_key", golden("order", key));
        let field = "- {name: it, unused: true, incremental: {by: Field, field: updated_at, window: 90d, rest: known}}";
        insta::assert_snapshot!("incremental_by_field", golden("order", field));
    }

    #[test]
    fn says_what_is_wrong() {
        let kinds = [
            ("{by: Field, field: updated}", "order"),
            ("{by: Field, field: total}", "order"),
            ("{by: Field, field: no, window: 1d}", "order"),
        ];
        let words: Vec<String> = kinds
            .iter()
            .map(|(step, entity)| said(entity, &format!("- {{name: it, unused: true, incremental: {step}}}")))
            .collect();
        insta::assert_snapshot!("incremental_wrong", words.join("\n"));
    }
}

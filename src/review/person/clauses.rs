//! The truth of each clause of a rule for some rows, and the values behind it, in one SELECT.

use sea_query::{Expr, SelectStatement};
use serde_json::Value as Json;

use super::{ClauseView, Row, Truth, ValueView, Walker};
use crate::{
    plan::message::portable,
    review::mask::MASKED,
    rule::{
        FieldType, Inputs, Path, Query, Rule,
        clause::{Clause, Form},
    },
    store::{self, Sql, entity::keys_given},
};

/// A rule that is read by people has far fewer; the columns of a SELECT are bounded.
const CLAUSES_MAX: usize = 200;

/// What is asked of a row about one clause.
#[derive(Clone, Debug, Default)]
struct Answer {
    truth: Option<Truth>,
    values: Vec<ValueView>,
    missing: Vec<String>,
}

impl Walker<'_> {
    /// The clauses of a rule for each of the rows.
    pub(super) async fn clauses(
        &self,
        entity: &str,
        rows: &[Row],
        rule: &Rule,
        inputs: &Inputs,
    ) -> store::Result<Vec<ClauseView>> {
        let tree = rule.clauses(self.schema(), entity);
        let mut all = vec![];
        flatten(&tree, &mut all);
        all.truncate(CLAUSES_MAX);
        let answers = match self.ask(entity, rows, &all, inputs).await {
            Err(error) if error.is_fault() => {
                // Each by itself: what faults is told, and what does not is answered.
                let mut answers = vec![vec![]; rows.len()];
                for clause in &all {
                    match self.ask(entity, rows, &[clause], inputs).await {
                        Ok(found) => answers.iter_mut().zip(found).for_each(|(row, mut one)| row.append(&mut one)),
                        Err(error) if error.is_fault() => {
                            let faulty = Answer { truth: Some(Truth::Faults), ..Answer::default() };
                            answers.iter_mut().for_each(|row| row.push(faulty.clone()));
                        }
                        Err(error) => return Err(error),
                    }
                }
                answers
            }
            other => other?,
        };
        Ok(answers.into_iter().map(|row| view(&tree, &mut row.into_iter())).collect())
    }

    async fn ask(
        &self,
        entity: &str,
        rows: &[Row],
        clauses: &[&Clause],
        inputs: &Inputs,
    ) -> store::Result<Vec<Vec<Answer>>> {
        let (select, reads) = self.question(entity, rows, clauses, inputs)?;
        let found = self.store.fetch(Sql::query(&select, self.plan().dialect)?).await?;
        let mut answers = vec![vec![Answer::default(); clauses.len()]; rows.len()];
        for row in &found {
            let item: String = row.get(0)?;
            let Some(place) = rows.iter().position(|known| known.item == item) else { continue };
            answers[place] = self.answers(entity, row, clauses, &reads)?;
        }
        Ok(answers)
    }

    /// Columns: the key, each field that is read, then of each clause whether it is asked, its truth and its values.
    fn question(
        &self,
        entity: &str,
        rows: &[Row],
        clauses: &[&Clause],
        inputs: &Inputs,
    ) -> store::Result<(SelectStatement, Vec<(Path, FieldType)>)> {
        let dialect = self.plan().dialect;
        let lost = || store::Error::Internal(format!("{entity} is not in the dataset"));
        let declared = self.bundle().dataset.entity(entity).ok_or_else(lost)?;
        let items: Vec<String> = rows.iter().map(|row| row.item.clone()).collect();
        let keys: Vec<Vec<String>> = rows.iter().map(|row| row.key.clone()).collect();
        let entity = self.entity(entity)?;
        let mut query = Query::over_set(self.schema(), entity, dialect, keys_given(dialect, declared, &items));
        let item = crate::plan::message::canonical(&mut query, entity, &[]);
        query.column(item, "item");
        let mut reads = vec![];
        for path in clauses.iter().flat_map(|clause| &clause.reads) {
            let Some(ty) = path.field_type(self.schema()) else { continue };
            if reads.iter().any(|(known, _)| known == path) {
                continue;
            }
            let value = query.path(path);
            let value = portable(&query, value, ty);
            query.column(value, &format!("r{}", reads.len()));
            reads.push((path.clone(), ty));
        }
        let among = |rule: &Rule| rule.among(entity, &keys);
        for (index, clause) in clauses.iter().enumerate() {
            let guard = clause.guard.as_ref().map(|guard| query.condition(&among(guard), inputs));
            let asked = match &guard {
                Some(guard) => number(&query, guard.clone()),
                None => query.custom("CAST(1 AS BIGINT)", []),
            };
            query.column(asked, &format!("g{index}"));
            let truth = query.condition(&among(&clause.condition), inputs);
            let truth = number(&query, truth);
            query.column(truth, &format!("b{index}"));
            for (n, (_, rule)) in clause.values.iter().enumerate() {
                let mut value = query.value(rule, inputs);
                if let Some(guard) = &guard {
                    value = query.custom("CASE WHEN ? THEN ? END", [guard.clone(), value]);
                }
                let value = portable(&query, value, rule.field_type().unwrap_or(FieldType::Integer));
                query.column(value, &format!("v{index}_{n}"));
            }
        }
        Ok((query.finish(), reads))
    }

    fn answers(
        &self,
        entity: &str,
        row: &store::Row,
        clauses: &[&Clause],
        reads: &[(Path, FieldType)],
    ) -> store::Result<Vec<Answer>> {
        let mut column = 1;
        let mut next = || {
            column += 1;
            column - 1
        };
        let mut read = vec![];
        for (path, ty) in reads {
            let value: Option<Json> = row.shown(next(), *ty)?;
            read.push((path, value));
        }
        let mut answers = vec![];
        for clause in clauses {
            let is_asked = row.get::<i64>(next())? == 1;
            let holds = row.get::<i64>(next())? == 1;
            let mut answer = Answer::default();
            for path in &clause.reads {
                let Some((_, value)) = read.iter().find(|(known, _)| *known == path) else { continue };
                let name = named(entity, path);
                if value.is_none() && !clause.asks_presence {
                    answer.missing.push(name.clone());
                }
                let value = match value {
                    Some(_) if self.mask.hides_path(path) => MASKED.into(),
                    Some(value) => value.clone(),
                    None => Json::Null,
                };
                answer.values.push(ValueView { name, value });
            }
            for (text, rule) in &clause.values {
                let value: Option<Json> = row.shown(next(), rule.field_type().unwrap_or(FieldType::Integer))?;
                let value = match value {
                    Some(_) if self.mask.hides_rule(rule, self.schema(), entity) => MASKED.into(),
                    value => value.unwrap_or_default(),
                };
                answer.values.push(ValueView { name: text.clone(), value });
            }
            answer.truth = Some(match (is_asked, holds) {
                (false, _) => Truth::NotAsked,
                (true, true) => Truth::True,
                (true, false) if answer.missing.is_empty() => Truth::False,
                (true, false) => Truth::Missing,
            });
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// A condition in a form that both databases hand over alike.
fn number(query: &Query<'_>, condition: Expr) -> Expr {
    query.custom("CAST(CASE WHEN ? THEN 1 ELSE 0 END AS BIGINT)", [condition])
}

/// `rental.customer.email`
fn named(entity: &str, path: &Path) -> String {
    let names = std::iter::once(entity).chain(path.hops.iter().map(String::as_str)).chain(path.field.as_deref());
    names.collect::<Vec<_>>().join(".")
}

fn flatten<'c>(clause: &'c Clause, all: &mut Vec<&'c Clause>) {
    all.push(clause);
    clause.parts.iter().for_each(|part| flatten(part, all));
}

fn view(clause: &Clause, answers: &mut impl Iterator<Item = Answer>) -> ClauseView {
    let Answer { truth, values, mut missing } = answers.next().unwrap_or_default();
    let parts: Vec<ClauseView> = clause.parts.iter().map(|part| view(part, answers)).collect();
    let mut truth = truth.unwrap_or(Truth::NotAsked);
    if clause.form == Form::Not {
        for name in parts.iter().flat_map(|part| &part.missing) {
            if !missing.contains(name) {
                missing.push(name.clone());
            }
        }
    }
    // Of several that must hold, one that is plainly false tells more than one that is missing.
    let decides = |truth: Truth| parts.iter().any(|part| part.truth == truth);
    if truth == Truth::False && clause.form == Form::All && decides(Truth::Missing) && !decides(Truth::False) {
        truth = Truth::Missing;
    }
    ClauseView { text: clause.text.clone(), truth, values, missing, parts }
}

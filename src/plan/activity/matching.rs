//! `match`: from each row to the rows of an entity that have the same values, where no link says so.
//!
//! ```yaml
//! match: {to: customer, by: {email: email, "shop.country": country}, rest: strangers}
//! ```
//!
//! All that match are in, each once. A missing value matches nothing; what matched nothing is counted.

use sea_query::{Alias, Expr, ExprTrait, SelectStatement};

use super::{Compiled, Ground, Output, Place, Selects, order::words};
use crate::{
    api::step,
    plan::Finding,
    rule::{Path, Query, nearest},
};

pub struct Match {
    input: String,
    pub entity: String,
    pub to: String,
    by: Vec<(Path, String)>,
    has_rest: bool,
}

pub fn compile(step: &step::Match, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let Some(to) = place.schema.entity(&step.to).filter(|to| !to.is_history) else {
        let mut finding = place.finding("match", "to", format!("there is no entity `{}`", step.to));
        finding.hint = nearest(&step.to, place.schema.entities.keys().map(String::as_str))
            .map(|near| format!("did you mean `{near}`?"));
        return Err(vec![finding]);
    };
    let (mut by, mut found) = (vec![], vec![]);
    for (here, there) in &step.by {
        let field = format!("by.{here}");
        let own = place.one_field(here, &entity.name, "match", &field);
        let theirs = to.field(there).ok_or_else(|| {
            let mut finding = place.finding("match", &field, format!("{} has no field `{there}`", to.name));
            finding.hint =
                nearest(there, to.fields.iter().map(|f| f.name.as_str())).map(|near| format!("did you mean `{near}`?"));
            finding
        });
        match (own, theirs) {
            (Ok((_, ty)), Ok(theirs)) if ty != theirs.ty => {
                let message = format!("`{here}` is {} and `{there}` of {} {}", words(ty), to.name, words(theirs.ty));
                found.push(place.finding("match", &field, message));
            }
            (Ok((path, _)), Ok(_)) => by.push((path, there.to_string())),
            (own, theirs) => found.extend(own.err().into_iter().chain(theirs.err())),
        }
    }
    if !found.is_empty() {
        return Err(found);
    }
    let outputs = Output::with_rest(place, &to.name, step.rest.as_ref(), "match", &entity.name);
    let compiled = Match {
        input: input.to_owned(),
        entity: entity.name.clone(),
        to: to.name.clone(),
        by,
        has_rest: step.rest.is_some(),
    };
    Ok((Compiled::Match(compiled), outputs))
}

impl Match {
    /// The rows that match one of the rows of `to`: the way back.
    pub fn matching(&self, ground: &Ground<'_>, to: SelectStatement) -> Option<SelectStatement> {
        let (entity, other) = (ground.schema.entity(&self.entity)?, ground.schema.entity(&self.to)?);
        let mut theirs = Query::over_set(ground.schema, other, ground.dialect, to);
        for (index, (_, there)) in self.by.iter().enumerate() {
            let value = theirs.path(&Path::own(&self.to, there));
            theirs.column(value, &format!("m{index}"));
        }
        let mut own = Query::over(ground.schema, entity, ground.dialect);
        let values: Vec<Expr> = self.by.iter().map(|(path, _)| own.path(path)).collect();
        own.filter(Expr::tuple(values).in_subquery(theirs.finish()));
        Some(own.keys())
    }

    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let (Some(entity), Some(to)) = (ground.schema.entity(&self.entity), ground.schema.entity(&self.to)) else {
            return Selects::default();
        };
        let over_input = || Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
        let mut values = over_input();
        for (index, (path, _)) in self.by.iter().enumerate() {
            let value = values.path(path);
            values.column(value, &format!("m{index}"));
        }
        let mut matched = Query::over(ground.schema, to, ground.dialect);
        let fields: Vec<Expr> = self.by.iter().map(|(_, there)| matched.path(&Path::own(&self.to, there))).collect();
        matched.filter(Expr::tuple(fields).in_subquery(values.finish()));
        let mut unmatched = over_input();
        let on: Vec<(Expr, String)> =
            self.by.iter().enumerate().map(|(index, (path, _))| (unmatched.path(path), format!("m{index}"))).collect();
        let mut theirs = Query::over(ground.schema, to, ground.dialect);
        for (index, (_, there)) in self.by.iter().enumerate() {
            let value = theirs.path(&Path::own(&self.to, there));
            theirs.column(value, &format!("m{index}"));
        }
        unmatched.join_left(theirs.finish(), "m", on);
        unmatched.filter(Expr::col((Alias::new("m"), Alias::new("m0"))).is_null());
        Selects::with_rest(vec![matched.keys()], unmatched.keys(), self.has_rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden_with, said_with};

    fn steps(by: &str) -> String {
        format!(
            "- {{name: all, audience: {{entity: lead, where: \"true\"}}}}\n\
             - {{name: it, unused: true, match: {{to: customer, by: {by}, rest: strangers}}}}\n\
             - {{name: mail, from: it, email: {{channel: out, template: hello}}}}"
        )
    }

    #[test]
    fn becomes_sql() {
        insta::assert_snapshot!("match", golden_with(&steps("{mail: email}"), ""));
    }

    #[test]
    fn says_what_is_wrong() {
        insta::assert_snapshot!("match_wrong", said_with(&steps("{mail: emial, id: tier}"), ""));
    }
}

//! `join`: goes on with the first set once all of them are there.
//!
//! ```yaml
//! join: {of: [reminded, week-later]}
//! ```
//!
//! The others are only waited for, and may be of other entities; `union` would combine the rows.

use super::{Compiled, Ground, Output, Place, Selects};
use crate::plan::Finding;

pub struct Join {
    first: String,
}

pub fn compile(place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (first, entity) = place.input()?;
    let output = Output::of(place.step, &entity.name);
    Ok((Compiled::Join(Join { first: first.to_owned() }), vec![output]))
}

impl Join {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        Selects::one((ground.input)(&self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden, said};

    #[test]
    fn becomes_sql() {
        let step = "- {name: other, unused: true, audience: {entity: order, where: \"false\"}}\n- {name: it, unused: true, join: {of: [all, other]}}";
        insta::assert_snapshot!("join", golden("customer", step));
    }

    #[test]
    fn says_what_is_wrong() {
        insta::assert_snapshot!("join_wrong", said("customer", "- {name: it, unused: true, join: {of: [all, othr]}}"));
    }
}

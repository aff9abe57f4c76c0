//! `saveAudience`: fills a declared audience with the set, as a whole; the set goes on.
//!
//! ```yaml
//! saveAudience: {ref: winter-trips}
//! ```
//!
//! A run writes rows, never a spec: the Audience says `saved: {}`.

use super::{Compiled, Ground, Output, Place, Selects};
use crate::{
    api::{audience::Form, step},
    plan::Finding,
};

pub struct SaveAudience {
    input: String,
    pub reference: String,
}

pub fn compile(step: &step::SaveAudience, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let (name, wrong) = (&step.reference, |message: String| vec![place.finding("saveAudience", "ref", message)]);
    let spec =
        place.bundle.saved.get(&**name).ok_or_else(|| vec![place.lost("saveAudience", "ref", "Audience", name)])?;
    if spec.form() != Some(Form::Saved) {
        let mut found = wrong(format!("audience `{name}` is not filled by campaigns"));
        found.iter_mut().for_each(|finding| finding.hint = Some("the Audience says `saved: {}`".to_owned()));
        return Err(found);
    }
    let (dataset, own) = (&spec.dataset, &place.bundle.campaign.dataset);
    if dataset != own || *spec.entity != *entity.name {
        let kind = format!("rows of {} of dataset `{dataset}`", spec.entity);
        return Err(wrong(format!("audience `{name}` holds {kind}, and this is a set of {} of `{own}`", entity.name)));
    }
    let output = Output { is_unused: true, ..Output::of(place.step, &entity.name) };
    let compiled = SaveAudience { input: input.to_owned(), reference: step.reference.to_string() };
    Ok((Compiled::SaveAudience(compiled), vec![output]))
}

impl SaveAudience {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        Selects::one((ground.input)(&self.input))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden, said};

    #[test]
    fn becomes_sql() {
        insta::assert_snapshot!("save_audience", golden("customer", "- {name: it, saveAudience: {ref: kept}}"));
    }

    #[test]
    fn says_what_is_wrong() {
        let steps = ["{ref: gold}", "{ref: orders}"]
            .map(|step| said("customer", &format!("- {{name: it, saveAudience: {step}}}")));
        insta::assert_snapshot!("save_audience_wrong", steps.join("\n"));
    }
}

//! Whether a campaign would have as many recipients as it says.

use super::{Counted, Moment, said};
use crate::{
    api::expect::Weighed,
    plan::Bundle,
    run::{expect::outside, hold::Hold},
    store::Store,
};

/// What comes of `expect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The campaign does not say how many it expects, or has nobody to expect.
    #[default]
    NotDeclared,
    Inside,
    Outside(Hold),
    /// The reason.
    Unknown(String),
}

/// Weighs what was counted as a run weighs what it plans. `accepted` is the number that a person let pass.
pub async fn weigh(
    store: &Store,
    bundle: &Bundle,
    counted: &Counted,
    accepted: Option<i64>,
    moment: Moment,
) -> Result<Verdict, String> {
    let Some(expect) = &bundle.campaign.expect else { return Ok(Verdict::NotDeclared) };
    if moment.sample_percent.is_some() {
        return Ok(Verdict::Unknown("only a sample was counted".to_owned()));
    }
    let recipients = counted.channels.values().map(|messages| messages.sent).sum();
    let known_as = store.known_as(&bundle.namespace, &bundle.names()).await.map_err(|e| said(&e))?;
    let before = store.last_recipients(&bundle.namespace, &known_as).await.map_err(|e| said(&e))?;
    let objection = expect.objection(Weighed { recipients, is_whole: true, before, accepted });
    Ok(objection.map_or(Verdict::Inside, |why| Verdict::Outside(outside(&why, &bundle.name, recipients))))
}

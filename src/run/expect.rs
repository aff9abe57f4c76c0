//! `expect`: whether a run that is planned has as many recipients as its campaign says a run has.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sea_query::{Alias, Expr, ExprTrait, Query};

use crate::{
    api::{audience::ACCEPT_SIZE, expect::Weighed},
    plan::{Bundle, Plan},
    run::hold::Hold,
    store::{self, Tx, campaign::Run, expect::waiting_at},
};

/// Why the run is held, if what is planned of it now is not what is expected. `entered` are the channel steps that were
/// planned before this transaction; `is_whole` says that none is still to come.
pub async fn weigh(
    tx: &mut Tx,
    (bundle, plan): (&Bundle, &Plan),
    run: &Run,
    entered: &BTreeSet<String>,
    (is_whole, now): (bool, Timestamp),
) -> store::Result<Option<String>> {
    let expected = tx.expected(&run.namespace, &run.campaign).await?;
    let Some(expect) = &expected.expect else { return Ok(None) };
    let mut recipients = tx.recipients_so_far(run).await?;
    for (_, step, message) in plan.messages().filter(|(_, step, _)| !entered.contains(*step)) {
        let Some(entity) = bundle.dataset.entity(&message.entity) else { continue };
        let waiting = waiting_at(run, step, entity, message.asks(bundle), plan.dialect);
        let asked = message.asked(bundle, now);
        let Some(refusals) = message.refusals(&plan.schema, plan.dialect, waiting, &[], asked) else { continue };
        let mut refused = Query::select();
        refused.expr(Expr::cust("1")).from_subquery(refusals, Alias::new("w"));
        refused.and_where(Expr::col((Alias::new("w"), Alias::new("refusal"))).is_not_null());
        recipients -= tx.count(&refused).await?;
    }
    let before = tx.last_recipients(&run.namespace, &run.campaign).await?;
    let weighed = Weighed { recipients, is_whole, before, accepted: expected.accepted };
    Ok(expect.objection(weighed).map(|why| outside(&why, &run.campaign, recipients).to_string()))
}

/// Why a run does not begin, in words, and how it is let pass.
pub fn outside(why: &str, campaign: &str, recipients: i64) -> Hold {
    let let_pass = format!("to let it pass, set annotation {ACCEPT_SIZE}: \"{recipients}\" on campaign `{campaign}`");
    Hold::with("it is not what `expect` says", format!("{why}; {let_pass}"))
}

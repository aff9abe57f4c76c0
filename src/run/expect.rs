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

/// What a run had when its transaction began.
pub struct Before {
    recipients: i64,
    entered: BTreeSet<String>,
}

impl Before {
    pub async fn of(tx: &mut Tx, run: &Run) -> store::Result<Self> {
        let entered = tx.run_channels(run.no).await?.into_iter().collect();
        Ok(Self { recipients: tx.recipients_so_far(run).await?, entered })
    }

    /// Why the run is held, if what this transaction has planned is not what is expected. `is_whole` says that no channel
    /// step is still to come.
    pub async fn weigh(
        &self,
        tx: &mut Tx,
        (bundle, plan): (&Bundle, &Plan),
        run: &Run,
        (is_whole, now): (bool, Timestamp),
    ) -> store::Result<Option<String>> {
        let expected = tx.expected(&run.namespace, &run.campaign).await?;
        let Some(expect) = &expected.expect else { return Ok(None) };
        let mut recipients = self.recipients;
        for (_, step, message) in plan.messages().filter(|(_, step, _)| !self.entered.contains(*step)) {
            let Some(entity) = bundle.dataset.entity(&message.entity) else { continue };
            let waiting = waiting_at(run, step, entity, message.asks(bundle), plan.dialect);
            let asked = message.asked(bundle, now);
            let Some(refusals) = message.refusals(&plan.schema, plan.dialect, waiting, asked) else { continue };
            let mut gets = Query::select();
            gets.expr(Expr::cust("1")).from_subquery(refusals, Alias::new("w"));
            gets.and_where(Expr::col((Alias::new("w"), Alias::new("refusal"))).is_null());
            recipients += tx.count(&gets).await?;
        }
        let before = tx.last_recipients(&run.namespace, &run.campaign).await?;
        let weighed = Weighed { recipients, is_whole, before, accepted: expected.accepted };
        Ok(expect.objection(weighed).map(|why| outside(&why, &run.campaign, recipients).to_string()))
    }
}

/// Why a run does not begin, in words, and how it is let pass.
pub fn outside(why: &str, campaign: &str, recipients: i64) -> Hold {
    let let_pass = format!("to let it pass, set annotation {ACCEPT_SIZE}: \"{recipients}\" on campaign `{campaign}`");
    Hold::with("it is not what `expect` says", format!("{why}; {let_pass}"))
}

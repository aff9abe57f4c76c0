//! The successor of a run: it goes, as declared now, to exactly those whom the run had not reached.

use super::{Error, World};
use crate::{
    api::{
        campaign_run::Mode,
        condition::{Reason, Standing},
    },
    plan::{Bundle, Plan, activity::Compiled},
    send::dispatch::load_pinned,
    source::{Key, Kind},
    store::campaign::{NewRun, Run, State},
};

/// Makes the successor of the run `of`, and lets that run end.
pub async fn create(
    (of, mode): (&str, Mode),
    bundle: &Bundle,
    new: NewRun<'_>,
    world: &World,
) -> Result<Result<Run, Standing>, Error> {
    let invalid = |message: String| Ok(Err(Standing::Stalled(Reason::Invalid, message)));
    let Some(run) = world.store.run(new.namespace, of).await? else {
        let message = format!("there is no run `{of}` in namespace {}", new.namespace);
        return Ok(Err(Standing::Stalled(Reason::NotFound, message)));
    };
    let left: i64 = world.store.counts(&run).await?.iter().map(|(_, c)| c.totals.waiting + c.totals.cancelled).sum();
    if let Some(message) = refusal(&run, mode, new.campaign, left) {
        return invalid(message);
    }
    let (pinned, old) = load_pinned(&world.store, &run).await?;
    if pinned.campaign.dataset != bundle.campaign.dataset {
        return invalid(format!("run `{of}` is of dataset `{}`", pinned.campaign.dataset));
    }
    if let Some(message) =
        bundle.compile(world.store.dialect()).ok().and_then(|plan| lost_step(&old, &plan, run.resume.is_some()))
    {
        return invalid(message);
    }
    let new = NewRun { origin: run.origin, scheduled: run.scheduled, ..new };
    match world.store.supersede(&run, &new, world.clock.now()).await? {
        Some(successor) => {
            world.queue.wake([Key::new(Kind::CampaignRun, &run.namespace, &run.name)]);
            world.sends.notify_one();
            Ok(Ok(successor))
        }
        None => invalid(format!("the remainder of `{of}` was taken by another run")),
    }
}

/// Why a run has no remainder to give.
fn refusal(run: &Run, mode: Mode, campaign: &str, left: i64) -> Option<String> {
    let name = &run.name;
    if run.campaign != campaign {
        Some(format!("run `{name}` belongs to campaign `{}`", run.campaign))
    } else if mode != Mode::Live || run.mode != "Live" {
        Some("a remainder is sent: both runs must be Live".to_owned())
    } else if run.state == State::Pending {
        Some(format!("run `{name}` has reached nobody yet: cancel it and trigger the campaign"))
    } else if let Some(message) = run.retirement() {
        Some(format!("{message} (`retention.messages` of its Dataset)"))
    } else if left == 0 && run.resume.is_none() {
        Some(format!("nobody waits in run `{name}`, and nobody was left out when it ended"))
    } else {
        None
    }
}

/// A step that people may wait in and that the campaign no longer has.
fn lost_step(old: &Plan, new: &Plan, is_waiting: bool) -> Option<String> {
    let is_kept =
        |step: &str, entity: &str| new.messages().any(|(_, name, message)| name == step && message.entity == entity);
    let mails = old.messages().map(|(_, step, message)| (step, message.entity.as_str()));
    if let Some((step, entity)) = mails.into_iter().find(|(step, entity)| !is_kept(step, entity)) {
        return Some(format!("people wait in step `{step}` (of {entity}), which the campaign no longer has"));
    }
    let waits = |plan: &Plan| -> Vec<(String, String)> {
        let steps = plan.steps.iter().filter(|step| matches!(step.compiled, Compiled::Wait(_)));
        steps.flat_map(|step| &step.outputs).map(|output| (output.name.clone(), output.entity.clone())).collect()
    };
    let kept = waits(new);
    let (step, entity) = waits(old).into_iter().find(|wait| is_waiting && !kept.contains(wait))?;
    Some(format!("the run waits in step `{step}` (of {entity}), which the campaign no longer has"))
}

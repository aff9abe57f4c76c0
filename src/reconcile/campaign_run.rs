//! CampaignRun: one execution, from made to done. Each step forward is one transaction in the store; any process of
//! the home may take the next one.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Action, Error, World, lawful, remainder, sentence, stand};
use crate::{
    api::{
        CampaignRunSpec, CampaignRunStatus, CampaignSpec, CampaignStatus,
        campaign_run::{ChannelStepStatus, Mode, StepPhase, StepStatus, Totals},
        condition::{self, Reason, Standing, whole_seconds},
    },
    plan::{Finding, check},
    run::advance::{self, Progress},
    source::{Key, Kind, catalog::Object, mark_of},
    store::campaign::{NewRun, Origin, Run, State, StepCount, StepState},
};

const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    let spec: CampaignRunSpec = match object.spec() {
        Ok(spec) => spec,
        Err(message) => return refuse(object, world, Standing::Stalled(Reason::Invalid, message)).await,
    };
    if let Some(owner) = &world.not_mine {
        return refuse(object, world, Standing::Stalled(Reason::StoreNotMine, owner.clone())).await;
    }
    let found = world.store.run(&object.key.namespace, &object.key.name).await?;
    if object.is_deleting {
        return clean_up(object, found, world).await;
    }
    if let Some(mark) = mark_of(&object.key, &object.spec, &object.status)
        && let behind = world.store.behind(vec![mark]).await?
        && !behind.is_empty()
    {
        world.store.hold_regressed(&behind, world.clock.now()).await?;
        let message = "the store went back in time; nothing is sent until `campanile store recover`".to_owned();
        refuse(object, world, Standing::Stalled(Reason::StoreRegressed, message)).await?;
        return Ok(Action::Later(WORKERS_LOOK));
    }
    let run = match found {
        Some(run) if run.campaign != *spec.campaign => {
            let message = format!("a run of this name belongs to campaign `{}`", run.campaign);
            return refuse(object, world, Standing::Stalled(Reason::Invalid, message)).await;
        }
        Some(run) => run,
        None => match create(object, &spec, world).await? {
            Ok(run) => run,
            Err(standing) => {
                let is_passing = matches!(standing, Standing::Working(..));
                refuse(object, world, standing).await?;
                return Ok(if is_passing { Action::Soon(LOOK_AGAIN) } else { Action::Await });
            }
        },
    };
    if !object.is_held && run.state != State::Done {
        world.source.hold(&object.key, true).await?;
    }
    if spec.cancel {
        cancel(&run, "cancelled by a person", world).await?;
    }
    let action = advance(object, world).await?;
    let Some(run) = world.store.run(&object.key.namespace, &object.key.name).await? else { return Ok(Action::Await) };
    update_status(object, &run, world).await?;
    if run.state == State::Done {
        world.source.hold(&object.key, false).await?;
        world.queue.wake([Key::new(Kind::Campaign, &run.namespace, &run.campaign)]);
    }
    Ok(action)
}

/// A run made by hand: it pins what is declared now.
async fn create(object: &Object, spec: &CampaignRunSpec, world: &World) -> Result<Result<Run, Standing>, Error> {
    let key = Key::new(Kind::Campaign, &object.key.namespace, &spec.campaign);
    let Some(campaign) = world.catalog.get(&key).filter(|c| !c.is_deleting) else {
        let message = format!("there is no Campaign `{}` in namespace {}", spec.campaign, object.key.namespace);
        return Ok(Err(Standing::Stalled(Reason::NotFound, message)));
    };
    let declared: CampaignSpec = match campaign.spec() {
        Ok(declared) => declared,
        Err(message) => return Ok(Err(Standing::Stalled(Reason::Invalid, message))),
    };
    let library = world.catalog.library(&object.key.namespace);
    let invalid = |found: Vec<Finding>| Standing::Stalled(Reason::Invalid, sentence(&found, &object.key));
    let named = (object.key.namespace.as_str(), &*spec.campaign);
    let bundle = match check::campaign(named, &declared, &library, world.store.dialect()) {
        Ok(checked) => checked.bundle,
        Err(found) => return Ok(Err(invalid(found))),
    };
    if !campaign.is_ready() || !world.loaded.contains(&object.key.namespace, &declared.dataset) {
        let message = format!("campaign `{}` is not ready", spec.campaign);
        return Ok(Err(Standing::Working(Reason::DependencyNotReady, message)));
    }
    let (hash, text) = bundle.revision().map_err(|e| Error::Internal(e.to_string()))?;
    let new = NewRun {
        namespace: &object.key.namespace,
        name: &object.key.name,
        campaign: &spec.campaign,
        dataset: &declared.dataset,
        mode: if spec.mode == Mode::DryRun { "DryRun" } else { "Live" },
        origin: Origin::Hand,
        scheduled: spec.scheduled_time.as_ref().map_or(object.created, |t| t.0),
        predecessor: None,
        revision: (&hash, &text),
    };
    if let Some(of) = &spec.remainder_of {
        return remainder::create((of, spec.mode), &bundle, new, world).await;
    }
    let (run, _) = world.store.create_run(&new, world.clock.now()).await?;
    Ok(Ok(run))
}

/// Asks an open run to end; what waits becomes `Cancelled` once no worker holds a part of it.
pub async fn cancel(run: &Run, why: &str, world: &World) -> Result<(), Error> {
    if matches!(run.state, State::Pending | State::Sending) {
        world.store.move_run(run.no, run.state, State::Cancelling, "Cancelled", why, world.clock.now()).await?;
    }
    world.sends.notify_one();
    world.queue.wake([Key::new(Kind::CampaignRun, &run.namespace, &run.name)]);
    let Some(run) = world.store.run_by_no(run.no).await? else { return Ok(()) };
    if run.state == State::Cancelling {
        world.store.cancel_waiting(&run, world.clock.now()).await?;
    }
    Ok(())
}

/// Takes the run one step further, and says when to look at it again.
async fn advance(object: &Object, world: &World) -> Result<Action, Error> {
    let Some(run) = world.store.run(&object.key.namespace, &object.key.name).await? else { return Ok(Action::Await) };
    if is_behind(&run, world) {
        return Ok(Action::Soon(LOOK_AGAIN));
    }
    if !is_paused(&run, world).await?
        && let Some(why) = lawful::hold(&run, world).await?
    {
        if run.message != why {
            world.store.note_held(run.no, &why).await?;
            // It says what its run is held by.
            world.queue.wake([Key::new(Kind::Campaign, &run.namespace, &run.campaign)]);
        }
        return Ok(Action::Later(HELD_LOOK));
    }
    // It may have taken another revision.
    let Some(run) = world.store.run_by_no(run.no).await? else { return Ok(Action::Await) };
    Ok(match advance::advance(&world.store, &run, world.clock.now()).await? {
        Progress::Planned(audiences) => {
            world.queue.wake(audiences.iter().map(|a| Key::new(Kind::Audience, &run.namespace, a)));
            world.sends.notify_one();
            Action::Soon(LOOK_AGAIN)
        }
        Progress::Held(audiences) => {
            world.queue.wake(audiences.iter().map(|a| Key::new(Kind::Audience, &run.namespace, a)));
            // It says what its run is held by.
            world.queue.wake([Key::new(Kind::Campaign, &run.namespace, &run.campaign)]);
            Action::Later(HELD_LOOK)
        }
        Progress::Waits | Progress::Cancels => Action::Soon(LOOK_AGAIN),
        Progress::Paused if run.state == State::Pending || run.resume.is_some() => {
            Action::Later(Duration::from_secs(5))
        }
        Progress::Rests(at) => {
            let wait = at.duration_since(world.clock.now()).max(jiff::SignedDuration::ZERO);
            Action::Later(wait.unsigned_abs().min(LOOK_AHEAD_MAX))
        }
        // Workers of other processes send, too; nobody here hears of it.
        Progress::Sends => Action::Later(WORKERS_LOOK),
        Progress::Paused | Progress::Ended => Action::Await,
    })
}

/// How often the audiences of a run that is held are weighed again; it is woken when one of them changes.
const HELD_LOOK: Duration = Duration::from_secs(60);

/// Whether the campaign was edited and nobody has looked at it since: it may be suspended now, and then nothing more may
/// be planned. What is planned already is sent, or not, by what the store knows.
fn is_behind(run: &Run, world: &World) -> bool {
    let is_planning = run.state == State::Pending || run.resume.is_some_and(|at| at <= world.clock.now());
    let campaign = world.catalog.get(&Key::new(Kind::Campaign, &run.namespace, &run.campaign));
    is_planning && campaign.is_some_and(|c| c.status::<CampaignStatus>().observed_generation < c.generation)
}

/// The longest a timer is set for: a machine that slept looks again soon after.
const LOOK_AHEAD_MAX: Duration = Duration::from_secs(3_600);

/// How often a run is looked at that other processes may be sending.
const WORKERS_LOOK: Duration = Duration::from_secs(2);

async fn is_paused(run: &Run, world: &World) -> Result<bool, Error> {
    Ok(advance::is_paused(&world.store, run, world.clock.now()).await?)
}

async fn refuse(object: &Object, world: &World, standing: Standing) -> Result<Action, Error> {
    let mut status: CampaignRunStatus = object.status();
    status.observed_generation = object.generation;
    stand(&mut status.conditions, &standing, object, world.clock.now());
    if matches!(standing, Standing::Stalled(..)) {
        let (reason, message) = (standing.reason(), standing.message());
        condition::set(
            &mut status.conditions,
            "Succeeded",
            false,
            reason,
            message,
            object.generation,
            world.clock.now(),
        );
    }
    world.write(object, status).await?;
    Ok(Action::Await)
}

async fn update_status(object: &Object, run: &Run, world: &World) -> Result<(), Error> {
    let now = world.clock.now();
    let counts = world.store.counts(run).await?;
    let steps = world.store.run_steps(run.no).await?;
    let mut totals = Totals::default();
    counts.iter().for_each(|(_, c)| totals += c.totals);
    let mut status: CampaignRunStatus = object.status();
    status.observed_generation = object.generation;
    status.scheduled_time = Some(Time(whole_seconds(run.scheduled)));
    status.started_at = Some(Time(whole_seconds(run.created)));
    status.completed_at = run.completed.map(|at| Time(whole_seconds(at)));
    status.data_as_of = world.store.data_as_of(run.no).await?.map(|at| Time(whole_seconds(at)));
    status.revision = Some(run.revision.clone());
    status.delivers = Some(world.gate.word().to_owned());
    status.totals = totals;
    status.high_water =
        if run.planned.is_some() || run.state == State::Done { Some(world.store.high_water(run).await?) } else { None };
    status.steps = steps.into_iter().map(|step| step_status(step, run.state)).collect();
    status.channels = counts
        .into_iter()
        .map(|(step, c)| ChannelStepStatus { step, totals: c.totals, reasons: c.reasons, resent: c.resent })
        .collect();
    let standing = standing(run, &totals, world).await?;
    stand(&mut status.conditions, &standing, object, now);
    // Left behind by a refusal that is over.
    status.conditions.retain(|c| c.type_ != "Succeeded" || run.state == State::Done);
    if run.state == State::Done {
        let (reason, message) = (standing.reason(), standing.message());
        condition::set(
            &mut status.conditions,
            "Succeeded",
            standing.is_ready(),
            reason,
            message,
            object.generation,
            now,
        );
    }
    world.write(object, status).await
}

fn step_status(step: StepCount, run: State) -> StepStatus {
    let (state, until) = match step.state {
        StepState::Done => (StepPhase::Done, None),
        _ if matches!(run, State::Cancelling | State::Done) => (StepPhase::Cancelled, None),
        StepState::Waiting(due) => (StepPhase::Waiting, Some(Time(whole_seconds(due)))),
        StepState::Pending => (StepPhase::Pending, None),
    };
    StepStatus { name: step.name, out: step.out, left: step.left, table: step.table, state, until }
}

async fn standing(run: &Run, totals: &Totals, world: &World) -> Result<Standing, Error> {
    let sent = format!(
        "{} sent, {} excluded, {} failed, {} waiting",
        totals.sent, totals.excluded, totals.failed, totals.waiting
    );
    Ok(match run.state {
        State::Done if run.reason.starts_with("Completed") => {
            let reason = if run.reason == "Completed" { Reason::Completed } else { Reason::CompletedWithDoubt };
            Standing::Ready(reason, if run.message.is_empty() { sent } else { format!("{sent}; {}", run.message) })
        }
        State::Done => {
            let reason = match run.reason.as_str() {
                "Cancelled" => Reason::Cancelled,
                "Superseded" => Reason::Superseded,
                "StoreRegressed" => Reason::StoreRegressed,
                _ => Reason::StepFailed,
            };
            Standing::Stalled(reason, run.message.clone())
        }
        State::Pending | State::Sending if is_paused(run, world).await? => {
            Standing::Working(Reason::Held, format!("the campaign is suspended, stopped or deleted; {sent}"))
        }
        State::Pending if run.reason == "Held" => Standing::Working(Reason::Held, run.message.clone()),
        State::Pending => Standing::Working(Reason::Planning, "the steps are being evaluated".to_owned()),
        State::Sending if run.reason == "Held" => Standing::Working(Reason::Held, format!("{}; {sent}", run.message)),
        State::Sending => match run.resume {
            Some(at) if totals.waiting == 0 => {
                Standing::Working(Reason::Waiting, format!("goes on at {}; {sent}", whole_seconds(at)))
            }
            _ => match world.store.mailing_problem(run.no).await? {
                Some((step, problem)) => Standing::Working(
                    Reason::Sending,
                    format!("{sent}; the file of `{step}` is not written: {problem}"),
                ),
                None => Standing::Working(Reason::Sending, sent),
            },
        },
        State::Cancelling => Standing::Working(Reason::Cancelled, "what waits is being cancelled".to_owned()),
    })
}

/// The object is being deleted: an open run is cancelled first, unless its campaign's deletion holds it.
async fn clean_up(object: &Object, run: Option<Run>, world: &World) -> Result<Action, Error> {
    if let Some(run) = run.filter(|r| r.state != State::Done) {
        let memory = world.store.remember(&run.namespace, &run.campaign, world.clock.now()).await?;
        let campaign = world.catalog.get(&Key::new(Kind::Campaign, &run.namespace, &run.campaign));
        let is_orphan = memory.is_held || campaign.is_none_or(|c| c.is_deleting);
        if !is_orphan {
            cancel(&run, "its object was deleted", world).await?;
            if world.store.run_by_no(run.no).await?.is_some_and(|r| r.state != State::Done) {
                return Ok(Action::Soon(LOOK_AGAIN));
            }
        }
    }
    world.source.hold(&object.key, false).await?;
    Ok(Action::Await)
}

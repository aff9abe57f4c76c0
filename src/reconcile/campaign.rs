//! Campaign: does it compile, when does it start next, and is a start due now?
//!
//! Starts are kept under the campaign's name in the store: deleting and restoring the object, or a rebuilt cluster,
//! finds them again and sends nothing twice.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Action, Error, LOOK_AHEAD_MAX, World, sentence, stand};
use crate::{
    api::{
        CampaignRunSpec, CampaignSpec, CampaignStatus,
        campaign::{OnDelete, Overlap},
        campaign_run::Mode,
        condition::{self, Reason, Standing, whole_seconds},
    },
    plan::{Bundle, Finding, Ref, audience::accepted, check},
    run::schedule::Timetable,
    send::gate::Gate,
    source::{Key, Kind, Weight, catalog::Object},
    store::{
        campaign::{Memory, NewRun, Origin, Run, State},
        expect::Expected,
        home::Scope,
    },
};

const ACTIVE_SHOWN: usize = 10;
/// How often it is looked whether a campaign of an earlier name is gone: while it goes, and while it stands.
const FORMER_GOES: Duration = Duration::from_millis(200);
const FORMER_STANDS: Duration = Duration::from_secs(2);

/// A campaign that could start.
struct Valid {
    bundle: Bundle,
    revision: (String, String),
    timetable: Option<Timetable>,
}

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    if object.is_deleting {
        return clean_up(object, world).await;
    }
    let spec: CampaignSpec = match object.spec() {
        Ok(spec) => spec,
        Err(message) => return refuse(object, world, Standing::Stalled(Reason::Invalid, message)).await,
    };
    if let Some(owner) = &world.not_mine {
        return refuse(object, world, Standing::Stalled(Reason::StoreNotMine, owner.clone())).await;
    }
    if !object.is_held {
        world.source.hold(&object.key, true).await?;
    }
    if let Some((standing, action)) = take_over(object, &spec, world).await? {
        refuse(object, world, standing).await?;
        return Ok(action);
    }
    let mut memory = world.store.remember(&object.key.namespace, &object.key.name, world.clock.now()).await?;
    let before = memory.clone();
    // The name is back: what was held goes on. `suspend` holds also where the rest of the spec is wrong.
    (memory.is_held, memory.is_suspended) = (false, spec.suspend);
    if memory != before {
        save(object, world, &memory).await?;
        world.sends.notify_one();
    }
    let valid = match validate(object, &spec, world) {
        Ok(valid) => valid,
        Err(standing) => return refuse(object, world, standing).await,
    };
    let accepted = match accepted(&object.annotations) {
        Ok(accepted) => accepted,
        Err(message) => return refuse(object, world, Standing::Stalled(Reason::Invalid, message)).await,
    };
    let expected = Expected { expect: spec.expect.clone(), accepted };
    if world.store.declare_expected(&object.key.namespace, &object.key.name, &expected).await? {
        // A run that was held may be what is expected now.
        world
            .queue
            .wake(world.catalog.runs_of(&object.key.namespace, &object.key.name).into_iter().map(|r| r.key.clone()));
    }
    if let Some(standing) = depends(object, &spec, &valid.bundle, world) {
        let is_settling = standing.message().starts_with("waits for");
        update_status(object, &valid, &memory, None, &standing, world).await?;
        return Ok(if is_settling { Action::Soon(Duration::from_millis(200)) } else { Action::Await });
    }
    adopt_runs(object, world).await?;
    follow_stop_annotation(object, world).await?;
    let stopped = world.store.stopped(&object.key.namespace, &object.key.name).await?;
    let next = start_due(object, &spec, &valid, &mut memory, stopped.as_deref(), world).await?;
    let standing = standing(object, &spec, &valid, next.as_ref().ok().copied().flatten(), stopped, world).await?;
    prune(object, &spec, world).await?;
    update_status(object, &valid, &memory, next.as_ref().ok().copied().flatten(), &standing, world).await?;
    Ok(match next {
        Err(wait) => Action::Later(wait),
        Ok(None) => Action::Await,
        Ok(Some(at)) => {
            let wait = at.duration_since(world.clock.now()).max(jiff::SignedDuration::ZERO);
            Action::Later(wait.unsigned_abs().min(LOOK_AHEAD_MAX))
        }
    })
}

/// Takes over from the names that the campaign had before, once nothing of them is there any more: what is left of a run's
/// object would end the run, which goes on under the new name. Says what it waits for.
async fn take_over(object: &Object, spec: &CampaignSpec, world: &World) -> Result<Option<(Standing, Action)>, Error> {
    let (namespace, name) = (&object.key.namespace, &object.key.name);
    for former in spec.formerly.iter().filter(|former| ***former != **name) {
        let campaign = world.catalog.get(&Key::new(Kind::Campaign, namespace, former));
        if let Some(left) = campaign.into_iter().chain(world.catalog.runs_of(namespace, former)).next() {
            let message = format!("takes over from `{former}` once {} `{}` is deleted", left.key.kind, left.key.name);
            let standing = Standing::Working(Reason::DependencyNotReady, message);
            let action = if left.is_deleting { Action::Soon(FORMER_GOES) } else { Action::Later(FORMER_STANDS) };
            return Ok(Some((standing, action)));
        }
        if world.store.take_over(namespace, former, name).await? {
            let message = format!("took over the history and the fences of `{former}`");
            world.source.event(&object.key, Weight::Normal, Reason::Renamed, &message).await;
        }
    }
    Ok(None)
}

fn validate(object: &Object, spec: &CampaignSpec, world: &World) -> Result<Valid, Standing> {
    let invalid = |found: Vec<Finding>| {
        let is_missing = found.iter().all(|f| f.is_missing_reference);
        let reason = if is_missing { Reason::NotFound } else { Reason::Invalid };
        Standing::Stalled(reason, sentence(&found, &object.key))
    };
    let (namespace, name) = (&object.key.namespace, &object.key.name);
    let library = world.catalog.library(namespace);
    let checked = check::campaign((namespace, name), spec, &library, world.store.dialect());
    let check::Campaign { bundle, timetable, .. } = checked.map_err(invalid)?;
    if world.gate == Gate::Live && timetable.as_ref().is_some_and(|t| t.not_after() == Some(None)) {
        let message =
            "an immediate schedule needs `notAfter` at live delivery, so that a restored cluster sends nothing old";
        let this = Ref::new("Campaign", name);
        return Err(invalid(vec![Finding::new(&this, "spec.schedule.immediate", message)]));
    }
    let revision = bundle.revision().map_err(|e| Standing::Stalled(Reason::Invalid, e.to_string()))?;
    Ok(Valid { bundle, revision, timetable })
}

/// What the campaign waits for: each object it uses must be ready at its newest generation, and settled.
fn depends(object: &Object, spec: &CampaignSpec, bundle: &Bundle, world: &World) -> Option<Standing> {
    let mut keys = vec![Key::new(Kind::Dataset, &object.key.namespace, &spec.dataset)];
    keys.extend(bundle.audiences.keys().map(|name| Key::new(Kind::Audience, &object.key.namespace, name)));
    keys.extend(bundle.channels.keys().map(|name| Key::new(Kind::Channel, &object.key.namespace, name)));
    keys.extend(bundle.templates.keys().map(|name| Key::new(Kind::MessageTemplate, &object.key.namespace, name)));
    keys.extend(bundle.policies.keys().map(|name| Key::new(Kind::ContactPolicy, &object.key.namespace, name)));
    let used: Vec<_> = keys.iter().filter_map(|key| world.catalog.get(key)).collect();
    if let Some(other) = used.iter().find(|other| !other.is_ready()) {
        let message = format!("{} `{}` is not ready", other.key.kind, other.key.name);
        return Some(Standing::Working(Reason::DependencyNotReady, message));
    }
    if !world.loaded.contains(&object.key.namespace, &spec.dataset) {
        return Some(Standing::Working(
            Reason::DependencyNotReady,
            format!("Dataset `{}` is being read", spec.dataset),
        ));
    }
    let newest = used.iter().map(|o| o.seen).chain([object.seen]).max()?;
    let is_settling = newest.elapsed() < world.settle;
    is_settling
        .then(|| Standing::Working(Reason::DependencyNotReady, "waits for the rest of the change to arrive".to_owned()))
}

async fn refuse(object: &Object, world: &World, standing: Standing) -> Result<Action, Error> {
    let mut status: CampaignStatus = object.status();
    status.observed_generation = object.generation;
    stand(&mut status.conditions, &standing, object, world.clock.now());
    world.write(object, status).await?;
    Ok(Action::Await)
}

async fn save(object: &Object, world: &World, memory: &Memory) -> Result<(), Error> {
    world.store.memorize(&object.key.namespace, &object.key.name, memory).await?;
    Ok(())
}

/// Makes the objects of runs that the store has and the home does not: after a crash between the two, or a rebuilt cluster.
async fn adopt_runs(object: &Object, world: &World) -> Result<(), Error> {
    for run in world.store.open_runs(&object.key.namespace, &object.key.name).await? {
        let key = Key::new(Kind::CampaignRun, &run.namespace, &run.name);
        if world.catalog.get(&key).is_none() {
            make_object(&run, world).await?;
        }
    }
    Ok(())
}

async fn make_object(run: &Run, world: &World) -> Result<(), Error> {
    let mode = if run.mode == "DryRun" { Mode::DryRun } else { Mode::Live };
    let predecessor = match run.predecessor {
        Some(no) => world.store.run_by_no(no).await?,
        None => None,
    };
    let spec = CampaignRunSpec {
        campaign: run.campaign.as_str().into(),
        mode,
        scheduled_time: Some(Time(whole_seconds(run.scheduled))),
        remainder_of: predecessor.map(|p| p.name.as_str().into()),
        cancel: false,
    };
    world.source.create_run(&run.namespace, &run.name, &spec).await?;
    Ok(())
}

/// `campanile.dev/stop: REASON` on the object is the emergency stop from kubectl; taking it off starts again.
async fn follow_stop_annotation(object: &Object, world: &World) -> Result<(), Error> {
    const ANNOTATION: &str = "campanile.dev/stop";
    let scope = Scope::Campaign(object.key.namespace.clone(), object.key.name.clone());
    let prefix = format!("{ANNOTATION}: ");
    match object.annotations.get(ANNOTATION) {
        Some(reason) => world.store.stop(&scope, &format!("{prefix}{reason}"), world.clock.now()).await?,
        None => {
            let by_annotation = world
                .store
                .stopped(&object.key.namespace, &object.key.name)
                .await?
                .is_some_and(|r| r.starts_with(&prefix));
            if by_annotation {
                world.store.start(&scope).await?;
                world.sends.notify_one();
            }
        }
    }
    Ok(())
}

/// Starts what is due and counts what is not made up; when the next start is. `Err` is the time to wait for an earlier run.
async fn start_due(
    object: &Object,
    spec: &CampaignSpec,
    valid: &Valid,
    memory: &mut Memory,
    stopped: Option<&str>,
    world: &World,
) -> Result<Result<Option<Timestamp>, Duration>, Error> {
    let Some(timetable) = &valid.timetable else { return Ok(Ok(None)) };
    let now = world.clock.now();
    let (namespace, name) = (&object.key.namespace, &object.key.name);
    let has_run = timetable.is_once() && world.store.has_run_by_schedule(namespace, name).await?;
    let look = timetable.look(memory.looked, now, has_run);
    for at in &look.missed {
        skip(
            object,
            memory,
            Reason::MissedDeadline,
            &format!("the start of {} was missed", timetable.in_zone(*at)),
            world,
        )
        .await;
        memory.looked = *at;
    }
    for at in look.due {
        let words = timetable.in_zone(at);
        if spec.suspend || stopped.is_some() {
            // An immediate campaign keeps waiting: suspended time is not its time.
            if timetable.not_after().is_none() {
                skip(
                    object,
                    memory,
                    Reason::PassedWhileSuspended,
                    &format!("the start of {words} passed while suspended"),
                    world,
                )
                .await;
                memory.looked = at;
            }
            continue;
        }
        let busy = busy_runs(namespace, name, world).await?;
        match spec.schedule.as_ref().map(|s| s.overlap) {
            _ if busy.is_empty() => {}
            Some(Overlap::Queue) => {
                save(object, world, memory).await?;
                return Ok(Err(Duration::from_secs(5)));
            }
            Some(Overlap::Replace) => {
                for run in &busy {
                    world
                        .store
                        .move_run(run.no, run.state, State::Cancelling, "Cancelled", "replaced by the next run", now)
                        .await?;
                    world.queue.wake([Key::new(Kind::CampaignRun, namespace, &run.name)]);
                }
            }
            _ => {
                let message = format!("the start of {words} was skipped: {} is still sending", busy[0].name);
                skip(object, memory, Reason::Overlapped, &message, world).await;
                memory.looked = at;
                continue;
            }
        }
        start(object, valid, timetable, at, world).await?;
        memory.looked = at;
    }
    memory.looked = memory.looked.max(if look.next.is_some() || timetable.is_once() { now } else { memory.looked });
    save(object, world, memory).await?;
    Ok(Ok(look.next))
}

async fn skip(object: &Object, memory: &mut Memory, reason: Reason, message: &str, world: &World) {
    memory.skipped += 1;
    world.source.event(&object.key, Weight::Warning, reason, message).await;
}

/// Runs that still have first attempts to make; a tail of retries does not block the next run.
async fn busy_runs(namespace: &str, name: &str, world: &World) -> Result<Vec<Run>, Error> {
    let mut busy = vec![];
    for run in world.store.open_runs(namespace, name).await? {
        let is_planned = run.state != State::Pending && run.resume.is_none();
        if !is_planned || world.store.has_first_attempts_left(run.run_day, run.no).await? {
            busy.push(run);
        }
    }
    Ok(busy)
}

async fn start(
    object: &Object,
    valid: &Valid,
    timetable: &Timetable,
    at: Timestamp,
    world: &World,
) -> Result<(), Error> {
    let name = timetable.run_name(&object.key.name, at);
    let new = NewRun {
        namespace: &object.key.namespace,
        name: &name,
        campaign: &object.key.name,
        dataset: &valid.bundle.campaign.dataset,
        mode: "Live",
        origin: Origin::Schedule,
        scheduled: at,
        predecessor: None,
        revision: (&valid.revision.0, &valid.revision.1),
    };
    let (run, is_new) = world.store.create_run(&new, world.clock.now()).await?;
    if is_new {
        tracing::info!(campaign = object.key.name, run = name, "started");
    }
    if run.state != State::Done || is_new {
        make_object(&run, world).await?;
    }
    Ok(())
}

async fn standing(
    object: &Object,
    spec: &CampaignSpec,
    valid: &Valid,
    next: Option<Timestamp>,
    stopped: Option<String>,
    world: &World,
) -> Result<Standing, Error> {
    let open = world.store.open_runs(&object.key.namespace, &object.key.name).await?;
    Ok(match &valid.timetable {
        _ if stopped.is_some() => Standing::Ready(Reason::Stopped, format!("stopped: {}", stopped.unwrap_or_default())),
        _ if spec.suspend => Standing::Ready(Reason::Suspended, "suspended; nothing starts or is sent".to_owned()),
        _ if let Some(held) = open.iter().find(|run| run.reason == "Held") => {
            Standing::Ready(Reason::Running, format!("{} is held: {}", held.name, held.message))
        }
        _ if !open.is_empty() => Standing::Ready(Reason::Running, format!("{} runs", open[0].name)),
        None => Standing::Ready(Reason::NoSchedule, "runs are made by hand".to_owned()),
        Some(table) => match next {
            Some(at) => Standing::Ready(Reason::Scheduled, format!("starts next at {}", table.in_zone(at))),
            None => Standing::Ready(Reason::Completed, "there is no further start".to_owned()),
        },
    })
}

/// Finished runs beyond the history lose their objects; the store keeps them.
async fn prune(object: &Object, spec: &CampaignSpec, world: &World) -> Result<(), Error> {
    let runs = world.store.runs(&object.key.namespace, &object.key.name, 1_000).await?;
    let mut kept = (0, 0);
    for run in runs.iter().filter(|r| r.state == State::Done) {
        let is_good = run.reason.starts_with("Completed");
        let (count, limit) =
            if is_good { (&mut kept.0, spec.history.succeeded) } else { (&mut kept.1, spec.history.failed) };
        *count += 1;
        let key = Key::new(Kind::CampaignRun, &run.namespace, &run.name);
        if *count > limit && world.catalog.get(&key).is_some() {
            world.source.delete_run(&run.namespace, &run.name).await?;
        }
    }
    Ok(())
}

async fn update_status(
    object: &Object,
    valid: &Valid,
    memory: &Memory,
    next: Option<Timestamp>,
    standing: &Standing,
    world: &World,
) -> Result<(), Error> {
    let (namespace, name, now) = (&object.key.namespace, &object.key.name, world.clock.now());
    let runs = world.store.runs(namespace, name, 50).await?;
    let none = || "none".to_owned();
    let mut status: CampaignStatus = object.status();
    status.observed_generation = object.generation;
    status.schedule = Some(valid.timetable.as_ref().map_or_else(|| "by hand".to_owned(), Timetable::words));
    status.next = Some(match (&valid.timetable, next) {
        (Some(table), Some(at)) => table.in_zone(at),
        _ => none(),
    });
    status.next_start = next.map(|at| Time(whole_seconds(at)));
    status.last_run = Some(runs.first().map_or_else(none, |r| r.name.clone()));
    status.active = runs.iter().filter(|r| r.state != State::Done).take(ACTIVE_SHOWN).map(|r| r.name.clone()).collect();
    status.skipped = memory.skipped;
    status.revision = Some(valid.revision.0.clone());
    status.totals = world.store.campaign_totals(namespace, name).await?;
    stand(&mut status.conditions, standing, object, now);
    if let Some(last) = runs.iter().find(|r| r.state == State::Done) {
        let is_good = last.reason.starts_with("Completed");
        let reason = Reason::ALL.into_iter().find(|r| r.as_str() == last.reason).unwrap_or(Reason::Completed);
        let message =
            if last.message.is_empty() { last.name.clone() } else { format!("{}: {}", last.name, last.message) };
        condition::set(&mut status.conditions, "LastRunSucceeded", is_good, reason, &message, object.generation, now);
    }
    world.write(object, status).await
}

/// The object is being deleted: what its runs do is declared, and then it goes.
async fn clean_up(object: &Object, world: &World) -> Result<Action, Error> {
    let (namespace, name) = (&object.key.namespace, &object.key.name);
    let cancels = object.spec::<CampaignSpec>().is_ok_and(|s| s.on_delete == OnDelete::Cancel);
    if world.not_mine.is_none() {
        let mut memory = world.store.remember(namespace, name, world.clock.now()).await?;
        if cancels {
            let open = world.store.open_runs(namespace, name).await?;
            for run in &open {
                super::campaign_run::cancel(run, "the campaign was deleted", world).await?;
            }
            if !world.store.open_runs(namespace, name).await?.is_empty() {
                return Ok(Action::Soon(Duration::from_millis(100)));
            }
        } else if !memory.is_held {
            memory.is_held = true;
            save(object, world, &memory).await?;
        }
    }
    world.source.hold(&object.key, false).await?;
    Ok(Action::Await)
}

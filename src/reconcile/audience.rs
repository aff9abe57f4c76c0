//! Audience: does it fit its dataset? What is kept of it is refreshed when it is due, imported when its file changes,
//! and exported whenever it was refreshed. One whose keys are not kept is evaluated when a run reads it.

mod keep;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Action, Error, LOOK_AHEAD_MAX, World, sentence, stand};
use crate::{
    api::{
        AudienceSpec, AudienceStatus,
        audience::{ACCEPT_SIZE, Form},
        condition::{self, Reason, Standing, whole_seconds},
    },
    plan::{Finding, audience as plan, check},
    run::audiences::Ground,
    source::{Weight, catalog::Object},
    store::audience::Known,
};

const EXPORTED: &str = "Exported";
/// How soon a file that could not be written is tried again.
const EXPORT_AGAIN: Duration = Duration::from_secs(60);

/// What a look came to.
struct Looked {
    standing: Standing,
    action: Action,
    next: Option<Timestamp>,
}

impl Looked {
    fn at(standing: Standing) -> Self {
        Self { standing, action: Action::Await, next: None }
    }
}

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    let spec: AudienceSpec = match object.spec() {
        Ok(spec) => spec,
        Err(message) => return refuse(object, Standing::Stalled(Reason::Invalid, message), world).await,
    };
    let valid = match validate(object, &spec, world) {
        Ok(valid) => valid,
        Err(standing) => return refuse(object, standing, world).await,
    };
    if let Some(owner) = &world.not_mine {
        return refuse(object, Standing::Stalled(Reason::StoreNotMine, owner.clone()), world).await;
    }
    let accepted = match plan::accepted(&object.annotations) {
        Ok(accepted) => accepted,
        Err(message) => return refuse(object, Standing::Stalled(Reason::Invalid, message), world).await,
    };
    let (namespace, name) = (&object.key.namespace, &object.key.name);
    let before = world.store.declare_guard(namespace, name, spec.guard.as_ref(), accepted).await?;
    let ground = Ground {
        namespace,
        dataset_name: &spec.dataset,
        dataset: &valid.dataset,
        schema: &valid.schema,
        dialect: world.store.dialect(),
        sets: &valid.sets,
    };
    let looked = keep::keep(object, &spec, &ground, &before, world).await?;
    let after = world.store.audience(namespace, name).await?;
    let not_exported = keep::export(object, &spec, &ground, &after, world).await?;
    if after != before {
        // Who reads it may go on: a run that was held, or an audience that builds on this one.
        world.queue.wake(world.catalog.dependents(&object.key).into_iter().filter(|key| *key != object.key));
    }
    let timetable = valid.sets.get(name).and_then(|set| set.refresh.as_ref());
    let next = timetable.zip(looked.next).map(|(table, at)| table.in_zone(at));
    update_status(object, &spec, next, (&looked.standing, not_exported.as_deref()), world).await?;
    Ok(match looked.action {
        Action::Await if not_exported.is_some() => Action::Later(EXPORT_AGAIN),
        Action::Later(wait) if not_exported.is_some() => Action::Later(wait.min(EXPORT_AGAIN)),
        action => action,
    })
}

fn validate(object: &Object, spec: &AudienceSpec, world: &World) -> Result<check::Audience, Standing> {
    let (namespace, name) = (&object.key.namespace, &object.key.name);
    let library = world.catalog.library(namespace);
    let invalid = |found: Vec<Finding>| {
        let is_missing = found.iter().all(|f| f.is_missing_reference);
        let reason = if is_missing { Reason::NotFound } else { Reason::Invalid };
        Standing::Stalled(reason, sentence(&found, &object.key))
    };
    let valid = check::audience((namespace, name), spec, &library, world.store.dialect()).map_err(invalid)?;
    if matches!(spec.form(), Some(Form::Sql(_))) && !world.store.may_run_sql(namespace) {
        let message = format!("namespace {namespace} may not run statements of its own; see --sql of the controller");
        return Err(Standing::Stalled(Reason::NotAllowed, message));
    }
    Ok(valid)
}

async fn refuse(object: &Object, standing: Standing, world: &World) -> Result<Action, Error> {
    let mut status: AudienceStatus = object.status();
    status.observed_generation = object.generation;
    stand(&mut status.conditions, &standing, object, world.clock.now());
    world.write(object, status).await?;
    Ok(Action::Await)
}

async fn update_status(
    object: &Object,
    spec: &AudienceSpec,
    next: Option<String>,
    (standing, not_exported): (&Standing, Option<&str>),
    world: &World,
) -> Result<(), Error> {
    let known = world.store.audience(&object.key.namespace, &object.key.name).await?;
    let mut status: AudienceStatus = object.status();
    status.observed_generation = object.generation;
    status.next = next;
    if let Some(last) = known.last {
        (status.size, status.profiles, status.took_ms) = (Some(last.size), last.profiles, Some(last.took_ms));
        status.refreshed_at = Some(Time(whole_seconds(last.at)));
    }
    let kept = known.kept.as_ref().filter(|_| spec.is_kept());
    status.table = kept.map(|kept| kept.table.clone());
    status.change = kept.map(|kept| format!("+{} -{}", kept.added, kept.removed));
    status.unmatched = kept.map(|kept| kept.unmatched).filter(|n| *n > 0);
    status.exported_at = known.exported.as_ref().map(|(_, at)| Time(whole_seconds(*at)));
    stand(&mut status.conditions, standing, object, world.clock.now());
    weigh(object, spec, &known, &mut status, world).await;
    // Whom the file does not reach is no reason to keep a campaign from reading the audience.
    let (reason, message) = match not_exported {
        None => (Reason::Exported, "written as of its last refresh"),
        Some(why) => (Reason::ExportFailed, why),
    };
    match &known.exported {
        _ if spec.export.is_none() => status.conditions.retain(|c| c.type_ != EXPORTED),
        None if not_exported.is_none() => {}
        _ => {
            let (is_written, now) = (not_exported.is_none(), world.clock.now());
            condition::set(&mut status.conditions, EXPORTED, is_written, reason, message, object.generation, now);
        }
    }
    world.write(object, status).await
}

/// The condition that says whether the set is inside its guard; the first time that it is not is an event, too.
async fn weigh(object: &Object, spec: &AudienceSpec, known: &Known, status: &mut AudienceStatus, world: &World) {
    const WITHIN: &str = "WithinGuard";
    let Some(last) = known.last.filter(|_| spec.guard.is_some()) else {
        status.conditions.retain(|c| c.type_ != WITHIN);
        return;
    };
    let was_outside = condition::find(&status.conditions, WITHIN).is_some_and(|c| c.status == "False");
    let (reason, message) = match &known.outside {
        None => (Reason::WithinGuard, format!("{} rows", last.size)),
        Some(why) => {
            let hint =
                format!("runs that use it are held; to let it pass, set annotation {ACCEPT_SIZE}: \"{}\"", last.size);
            (Reason::OutsideGuard, format!("{why}; {hint}"))
        }
    };
    let is_inside = known.outside.is_none();
    condition::set(&mut status.conditions, WITHIN, is_inside, reason, &message, object.generation, world.clock.now());
    if !is_inside && !was_outside {
        world.source.event(&object.key, Weight::Warning, reason, &message).await;
    }
}

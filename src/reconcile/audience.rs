//! Audience: does its rule fit its dataset? It is evaluated when a run reads it; the size is what that run saw.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Action, Error, World, sentence, stand};
use crate::{
    api::{
        AudienceSpec, AudienceStatus, DatasetSpec,
        condition::{Reason, Standing, whole_seconds},
    },
    plan::{Library, Ref, activity, dataset},
    source::catalog::Object,
};

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    let spec = object.spec::<AudienceSpec>();
    let referred = spec.as_ref().ok().and_then(|s| world.catalog.library(&object.key.namespace).dataset(&s.dataset));
    let standing = validate(object, &spec, referred.as_ref());
    let size = world.store.audience_size(&object.key.namespace, &object.key.name).await?;
    let mut status: AudienceStatus = object.status();
    status.observed_generation = object.generation;
    if let Some((size, profiles, at)) = size {
        (status.size, status.profiles, status.refreshed_at) = (Some(size), profiles, Some(Time(whole_seconds(at))));
    }
    stand(&mut status.conditions, &standing, object, world.clock.now());
    world.write(object, status).await?;
    Ok(Action::Await)
}

fn validate(object: &Object, spec: &Result<AudienceSpec, String>, referred: Option<&DatasetSpec>) -> Standing {
    let spec = match spec {
        Ok(spec) => spec,
        Err(message) => return Standing::Stalled(Reason::Invalid, message.clone()),
    };
    let Some(declared) = referred else {
        return Standing::Stalled(
            Reason::NotFound,
            format!("there is no Dataset `{}` in namespace {}", spec.dataset, object.key.namespace),
        );
    };
    let schema = dataset::schema_of(declared, &object.key.namespace, &spec.dataset, crate::rule::Dialect::Sqlite);
    match activity::check_audience(&Ref::new("Audience", &object.key.name), spec, &schema) {
        Ok(_) => Standing::Ready(Reason::Accepted, "evaluated when a run reads it".to_owned()),
        Err(finding) => Standing::Stalled(Reason::Invalid, sentence(&[finding], &object.key)),
    }
}

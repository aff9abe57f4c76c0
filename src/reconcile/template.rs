//! MessageTemplate: does it compile? Whether its variables exist is known only where a campaign uses it.

use super::{Action, Error, World, sentence, stand};
use crate::{
    api::{
        MessageTemplateSpec, MessageTemplateStatus,
        condition::{Reason, Standing},
    },
    plan::check,
    source::catalog::Object,
};

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    let spec = object.spec::<MessageTemplateSpec>();
    let standing = validate(object, &spec, world);
    let mut status: MessageTemplateStatus = object.status();
    status.observed_generation = object.generation;
    status.locales = spec.ok().map(|s| {
        if s.locales.is_empty() { "none".to_owned() } else { s.locales.keys().cloned().collect::<Vec<_>>().join(",") }
    });
    stand(&mut status.conditions, &standing, object, world.clock.now());
    world.write(object, status).await?;
    Ok(Action::Await)
}

fn validate(object: &Object, spec: &Result<MessageTemplateSpec, String>, world: &World) -> Standing {
    let spec = match spec {
        Ok(spec) => spec,
        Err(message) => return Standing::Stalled(Reason::Invalid, message.clone()),
    };
    let library = world.catalog.library(&object.key.namespace);
    let found = check::template((&object.key.namespace, &object.key.name), spec, &library);
    if found.is_empty() {
        return Standing::Ready(Reason::Accepted, "the template compiles".to_owned());
    }
    Standing::Stalled(Reason::Invalid, sentence(&found, &object.key))
}

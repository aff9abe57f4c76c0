//! MessageTemplate: does it compile? Whether its variables exist is known only where a campaign uses it.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Error, World, sentence, stand};
use crate::{
    api::{
        MessageTemplateSpec, MessageTemplateStatus,
        condition::{Reason, Standing},
    },
    plan::check,
    source::{Kind, catalog::Object},
};

/// What is attached no longer stays as long: an edit that is taken back finds it, and a template that is being read has it.
const UNSEEN: SignedDuration = SignedDuration::from_hours(24);

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
    retire_attachments(world).await?;
    Ok(Action::Await)
}

/// Lets go what is attached no longer: whenever a template changed, and so at each start.
async fn retire_attachments(world: &World) -> Result<(), Error> {
    let templates = world.catalog.all(Kind::MessageTemplate).into_iter();
    let specs: Vec<MessageTemplateSpec> = templates.filter_map(|template| template.spec().ok()).collect();
    let pinned = specs.iter().flat_map(MessageTemplateSpec::attachments).filter_map(|one| one.pinned.as_ref());
    let declared: Vec<String> = pinned.map(|pinned| pinned.sha256.clone()).collect();
    let before = world.clock.now().checked_sub(UNSEEN).unwrap_or(Timestamp::MIN);
    world.store.retire_attachments(&declared, before).await?;
    Ok(())
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

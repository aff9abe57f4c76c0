//! Channel: what it does with a message in this process, and whether it could.

use super::{Action, Error, World, sentence, stand};
use crate::{
    api::{
        ChannelSpec, ChannelStatus,
        condition::{Reason, Standing},
    },
    plan::check,
    source::catalog::Object,
};

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    let spec = object.spec::<ChannelSpec>();
    let standing = validate(object, &spec);
    let mut status: ChannelStatus = object.status();
    status.observed_generation = object.generation;
    status.provider = spec.ok().map(|spec| spec.way().word().to_owned());
    status.delivers = Some(world.gate.word().to_owned());
    stand(&mut status.conditions, &standing, object, world.clock.now());
    world.write(object, status).await?;
    Ok(Action::Await)
}

fn validate(object: &Object, spec: &Result<ChannelSpec, String>) -> Standing {
    let spec = match spec {
        Ok(spec) => spec,
        Err(message) => return Standing::Stalled(Reason::Invalid, message.clone()),
    };
    let found = check::channel(&object.key.name, spec);
    if found.is_empty() {
        return Standing::Ready(Reason::Accepted, "messages can be handed over".to_owned());
    }
    Standing::Stalled(Reason::Invalid, sentence(&found, &object.key))
}

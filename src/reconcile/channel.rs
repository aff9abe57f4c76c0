//! Channel: what it does with a message in this process, and whether it could.

use super::{Action, Error, World, stand};
use crate::{
    api::{
        ChannelSpec, ChannelStatus,
        condition::{Reason, Standing},
    },
    send::mime,
    source::catalog::Object,
};

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    let spec = object.spec::<ChannelSpec>();
    let standing = validate(&spec);
    let mut status: ChannelStatus = object.status();
    status.observed_generation = object.generation;
    status.provider = spec.ok().map(|s| if s.email.is_some() { "email.smtp".to_owned() } else { "outbox".to_owned() });
    status.delivers = Some(world.gate.word().to_owned());
    stand(&mut status.conditions, &standing, object, world.clock.now());
    world.write(object, status).await?;
    Ok(Action::Await)
}

fn validate(spec: &Result<ChannelSpec, String>) -> Standing {
    let spec = match spec {
        Ok(spec) => spec,
        Err(message) => return Standing::Stalled(Reason::Invalid, message.clone()),
    };
    let (from, reply_to, path) = match (&spec.email, &spec.outbox) {
        (Some(email), _) => (&email.from, &email.reply_to, "spec.email"),
        (None, Some(outbox)) => (&outbox.from, &outbox.reply_to, "spec.outbox"),
        (None, None) => {
            return Standing::Stalled(Reason::Invalid, "a channel is exactly one of email, outbox".to_owned());
        }
    };
    if mime::address_of(from).is_none() {
        return Standing::Stalled(
            Reason::Invalid,
            format!("{path}.from: this is not an address; write it as in Shop <shop@example.com>"),
        );
    }
    if reply_to.as_ref().is_some_and(|r| mime::address_of(r).is_none()) {
        return Standing::Stalled(Reason::Invalid, format!("{path}.replyTo: this is not an address"));
    }
    Standing::Ready(Reason::Accepted, "messages can be handed over".to_owned())
}

//! ContactPolicy: it can be read. What it asks for is pinned by the campaigns that name it.

use super::{Action, Error, World, stand};
use crate::{
    api::{
        ContactPolicySpec, ContactPolicyStatus,
        condition::{Reason, Standing},
    },
    source::catalog::Object,
};

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    let standing = match object.spec::<ContactPolicySpec>() {
        Ok(_) => Standing::Ready(Reason::Accepted, "campaigns can name it".to_owned()),
        Err(message) => Standing::Stalled(Reason::Invalid, message),
    };
    let mut status: ContactPolicyStatus = object.status();
    status.observed_generation = object.generation;
    stand(&mut status.conditions, &standing, object, world.clock.now());
    world.write(object, status).await?;
    Ok(Action::Await)
}

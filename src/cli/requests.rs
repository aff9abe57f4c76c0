//! What the handles asked of the running home, in the store.

use std::{sync::Arc, time::Duration};

use crate::{
    api::{CampaignRunSpec, campaign_run::Mode},
    reconcile::{Error, World},
    source::{Key, Kind},
    store::feedback::ANSWERED,
};

/// Handles beside this process write to the store.
const REQUEST_LOOK: Duration = Duration::from_millis(500);
/// Answers come over days; a status shows them at most so often.
const ANSWERS_EVERY: Duration = Duration::from_secs(2);

/// Takes what `trigger` and `cancel` asked for, and looks again at campaigns after a `stop` or `start`.
pub async fn take_all(world: Arc<World>) {
    loop {
        match world.store.take_requests().await {
            Ok(requests) => {
                for (kind, namespace, name, body) in requests {
                    if let Err(error) = take(&world, &kind, &namespace, &name, &body).await {
                        tracing::warn!(%error, "a request failed");
                    }
                }
            }
            Err(error) if error.is_closed() => return,
            Err(error) => tracing::warn!(%error, "requests were not read"),
        }
        tokio::time::sleep(REQUEST_LOOK).await;
    }
}

/// Does in the running home what a handle asked for.
async fn take(world: &World, kind: &str, namespace: &str, name: &str, body: &str) -> Result<(), Error> {
    match kind {
        "Trigger" => {
            let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let mode = if body["dryRun"] == true { Mode::DryRun } else { Mode::Live };
            let campaign = body["campaign"].as_str().unwrap_or_default();
            let spec = CampaignRunSpec {
                campaign: campaign.into(),
                mode,
                scheduled_time: None,
                remainder_of: None,
                cancel: false,
            };
            world.source.create_run(namespace, name, &spec).await?;
        }
        "Rerun" => {
            let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let (campaign, of) = (body["campaign"].as_str().unwrap_or_default(), body["of"].as_str().map(Into::into));
            let spec = CampaignRunSpec {
                campaign: campaign.into(),
                mode: Mode::Live,
                scheduled_time: None,
                remainder_of: of,
                cancel: false,
            };
            world.source.create_run(namespace, name, &spec).await?;
        }
        "Cancel" => {
            if let Some(run) = world.store.run(namespace, name).await? {
                crate::reconcile::cancel(&run, "cancelled by a person", world).await?;
            }
        }
        ANSWERED => {
            let key = Key::new(Kind::CampaignRun, namespace, name);
            let campaign = world.catalog.get(&key).and_then(|run| run.spec["campaign"].as_str().map(str::to_owned));
            let campaign = campaign.map(|name| Key::new(Kind::Campaign, namespace, &name));
            [key].into_iter().chain(campaign).for_each(|key| world.queue.wake_after(key, ANSWERS_EVERY));
        }
        "Confirm" => world.queue.wake([Key::new(Kind::Dataset, namespace, name)]),
        _ => {
            world.sends.notify_one();
            let keys = [Kind::Campaign, Kind::CampaignRun].into_iter().flat_map(|kind| world.catalog.all(kind));
            world.queue.wake(keys.map(|o| o.key.clone()).collect::<Vec<Key>>());
        }
    }
    Ok(())
}

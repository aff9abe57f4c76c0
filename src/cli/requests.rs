//! What the handles asked of the running home, in the store.

use std::{sync::Arc, time::Duration};

use crate::{
    api::{CampaignRunSpec, campaign_run::Mode},
    reconcile::{Error, World},
    source::{Key, Kind},
};

/// Handles beside this process write to the store.
const REQUEST_LOOK: Duration = Duration::from_millis(500);
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
        _ => {
            world.sends.notify_one();
            let keys = [Kind::Campaign, Kind::CampaignRun].into_iter().flat_map(|kind| world.catalog.all(kind));
            world.queue.wake(keys.map(|o| o.key.clone()).collect::<Vec<Key>>());
        }
    }
    Ok(())
}

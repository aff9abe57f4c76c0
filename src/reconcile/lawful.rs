//! A run whose Marketing mail lacks a link to unsubscribe or the sender's address is held at live delivery.
//!
//! It has not begun: nobody has entered, and nothing was sent. Once its campaign says what it must, the run takes that revision
//! and begins.

use super::{Error, World};
use crate::{
    api::CampaignSpec,
    plan::{Bundle, check, marketing},
    send::{dispatch::load_pinned, gate::Gate},
    source::{Key, Kind},
    store::campaign::{Run, State},
};

/// Why a run is held. One whose campaign was mended has taken the new revision when this returns nothing.
pub async fn hold(run: &Run, world: &World) -> Result<Option<String>, Error> {
    if world.gate != Gate::Live || run.state != State::Pending || run.mode != "Live" {
        return Ok(None);
    }
    let (bundle, plan) = load_pinned(&world.store, run).await?;
    let Some(mut why) = marketing::objection(&bundle, &plan) else { return Ok(None) };
    if let Some(declared) = declared(run, &bundle, world) {
        match marketing::objection(&declared.bundle, &declared.plan) {
            // What is still to be done, and not what was.
            Some(still) => why = still,
            None => {
                let (hash, text) = declared.bundle.revision().map_err(|e| Error::Internal(e.to_string()))?;
                if world.store.repin(run, (&hash, &text), world.clock.now()).await? {
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some(format!("nothing is sent at live delivery: {why}")))
}

/// The run's campaign as it is declared now. A successor of a run stays what it was made as: it sends what its predecessor
/// left.
fn declared(run: &Run, pinned: &Bundle, world: &World) -> Option<check::Campaign> {
    let campaign = world.catalog.get(&Key::new(Kind::Campaign, &run.namespace, &run.campaign));
    let campaign = campaign.filter(|c| run.predecessor.is_none() && !c.is_deleting && c.is_ready())?;
    let spec = campaign.spec::<CampaignSpec>().ok().filter(|spec| spec.dataset == pinned.campaign.dataset)?;
    let library = world.catalog.library(&run.namespace);
    check::campaign((&run.namespace, &run.campaign), &spec, &library, world.store.dialect()).ok()
}

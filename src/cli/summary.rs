//! What `campanile run` says while it works and when it ends.

use std::{io::IsTerminal, sync::Arc};

use indicatif::{ProgressBar, ProgressStyle};

use super::table::Table;
use crate::{
    api::{CampaignRunStatus, CampaignStatus, campaign_run::Totals, condition},
    reconcile::World,
    source::{Kind, catalog::Object},
    store,
};

/// A bar on a terminal, nothing elsewhere.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} messages  {msg}");
            style.into_iter().for_each(|style| bar.set_style(style));
            bar
        });
        Self { bar }
    }

    pub async fn show(&self, world: &World) -> store::Result<()> {
        let Some(bar) = &self.bar else { return Ok(()) };
        let totals = totals(world);
        bar.set_length(totals.entered.unsigned_abs());
        bar.set_position((totals.entered - totals.waiting).unsigned_abs());
        bar.set_message(format!("{} sent, {} excluded", totals.sent, totals.excluded));
        Ok(())
    }

    pub fn end(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn totals(world: &World) -> Totals {
    let mut all = Totals::default();
    for run in world.catalog.all(Kind::CampaignRun) {
        all += run.status::<CampaignRunStatus>().totals;
    }
    all
}

/// Waits for Ctrl-C or SIGTERM, showing progress on a terminal.
pub async fn until_interrupted(world: &Arc<World>) {
    let showing = async {
        let progress = Progress::new();
        loop {
            let _ = progress.show(world).await;
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
    };
    tokio::select! {
        () = super::sending::interrupted() => {}
        () = showing => {}
    }
}

/// Prints what each campaign did and what is not ready. True if all is ready, every run succeeded and nothing waits.
pub async fn print(world: &World) -> store::Result<bool> {
    let mut is_good = true;
    let head = [
        "CAMPAIGN",
        "STEP",
        "ENTERED",
        "SENT",
        "EXCLUDED",
        "FAILED",
        "EXPIRED",
        "CANCELLED",
        "IN DOUBT",
        "WAITING",
        "WHY",
    ];
    let mut table = Table::new(&head);
    for campaign in world.catalog.all(Kind::Campaign) {
        let runs = world.catalog.runs_of(&campaign.key.namespace, &campaign.key.name);
        let last = campaign.status::<CampaignStatus>().last_run.unwrap_or_default();
        for run in &runs {
            is_good &= run_is_good(run);
            if run.key.name == last {
                rows(&campaign, run, &mut table);
            }
        }
        if runs.is_empty() {
            table.row(
                [campaign.key.name.clone(), "no run".to_owned()]
                    .into_iter()
                    .chain(std::iter::repeat_n(String::new(), 9))
                    .collect(),
            );
        }
    }
    print!("{table}");
    for kind in Kind::ALL {
        for object in world.catalog.all(kind) {
            if !object.is_ready() {
                is_good = false;
                let conditions = object.status::<Conditions>().conditions;
                let (reason, message) = condition::find(&conditions, "Ready")
                    .map_or(("Unknown", "not looked at"), |c| (&c.reason, &c.message));
                eprintln!("not ready: {kind} `{}`: {reason}: {message}", object.key.name);
            }
        }
    }
    Ok(is_good)
}

#[derive(Default, serde::Deserialize)]
struct Conditions {
    #[serde(default)]
    conditions: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
}

fn run_is_good(run: &Object) -> bool {
    let status: CampaignRunStatus = run.status();
    run.is_ready() && status.totals.waiting == 0 && status.totals.in_doubt == 0
}

fn rows(campaign: &Object, run: &Object, table: &mut Table) {
    let status: CampaignRunStatus = run.status();
    for step in &status.channels {
        let t = &step.totals;
        let counts = [t.entered, t.sent, t.excluded, t.failed, t.expired, t.cancelled, t.in_doubt, t.waiting];
        let why: Vec<String> = step.reasons.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        let cells = [campaign.key.name.clone(), step.step.clone()].into_iter();
        table.row(cells.chain(counts.iter().map(ToString::to_string)).chain([why.join(", ")]).collect());
    }
}

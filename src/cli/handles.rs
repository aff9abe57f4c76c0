//! The day's handles: they write to the store, never to files, and work beside a running home.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::json;

use super::{
    End,
    home::{Home, StoreArgs},
};
use crate::{
    api::{CampaignRunSpec, campaign_run::Mode},
    clock::Clock,
    reconcile::{Error, World},
    source::{Key, Kind},
    store::home::{Scope, Waiting},
};

#[derive(ClapArgs)]
pub struct TriggerArgs {
    campaign: String,
    /// Evaluate and count, send nothing.
    #[arg(long)]
    dry_run: bool,
    /// The run's name; a name that already ran sends nothing again.
    #[arg(long)]
    name: Option<String>,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    home: StoreArgs,
}

#[derive(ClapArgs)]
#[group(required = true, multiple = false)]
pub struct ScopeArgs {
    /// One campaign.
    campaign: Option<String>,
    /// One channel.
    #[arg(long)]
    channel: Option<String>,
    /// A whole namespace (the one of --namespace).
    #[arg(long)]
    whole_namespace: bool,
    /// Everything.
    #[arg(long)]
    all: bool,
}

#[derive(ClapArgs)]
pub struct StopArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Why, for those who find it stopped.
    #[arg(long)]
    reason: String,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    home: StoreArgs,
}

#[derive(ClapArgs)]
pub struct StartArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    home: StoreArgs,
}

#[derive(ClapArgs)]
pub struct CancelArgs {
    run: String,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    home: StoreArgs,
}

#[derive(Subcommand)]
pub enum StoreCommand {
    /// Makes a store that another home owned this home's.
    Adopt {
        /// What happens to messages that wait in it.
        #[arg(long, value_enum)]
        waiting: WaitingArg,
        #[command(flatten)]
        home: StoreArgs,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum WaitingArg {
    Cancel,
    Keep,
}

async fn open(args: &StoreArgs) -> Result<Home, End> {
    let home = Home::open(args, false).await?;
    match home.store.enter(&home.id, &args.environment).await {
        Ok(()) => Ok(home),
        Err(error) => Err(End::Wrong(error.to_string(), Some("see `campanile store adopt`".to_owned()))),
    }
}

pub async fn trigger(args: TriggerArgs) -> End {
    let home = match open(&args.home).await {
        Ok(home) => home,
        Err(end) => return end,
    };
    let now = Clock::system().now();
    let name = args.name.unwrap_or_else(|| format!("{}-{}", args.campaign, now.strftime("%Y%m%d%H%M%S")));
    let body = json!({"campaign": args.campaign, "dryRun": args.dry_run}).to_string();
    match home.store.request("Trigger", &args.namespace, &name, &body, now).await {
        Ok(()) => {
            println!("campaignrun.campanile.dev/{name} requested");
            End::Done
        }
        Err(error) => error.into(),
    }
}

fn scope(args: ScopeArgs, namespace: &str) -> Scope {
    match (args.campaign, args.channel) {
        (Some(name), _) => Scope::Campaign(namespace.to_owned(), name),
        (None, Some(name)) => Scope::Channel(namespace.to_owned(), name),
        (None, None) if args.whole_namespace => Scope::Namespace(namespace.to_owned()),
        (None, None) => Scope::All,
    }
}

/// A stop asks for no home: it is safe from anywhere, and must work while everything else is down.
pub async fn stop(args: StopArgs) -> End {
    let home = match Home::open(&args.home, false).await {
        Ok(home) => home,
        Err(end) => return end,
    };
    let scope = scope(args.scope, &args.namespace);
    let now = Clock::system().now();
    let done = async {
        home.store.stop(&scope, &args.reason, now).await?;
        home.store.request("Look", &args.namespace, "", "", now).await
    };
    match done.await {
        Ok(()) => {
            println!("stopped");
            End::Done
        }
        Err(error) => error.into(),
    }
}

pub async fn start(args: StartArgs) -> End {
    let home = match Home::open(&args.home, false).await {
        Ok(home) => home,
        Err(end) => return end,
    };
    let scope = scope(args.scope, &args.namespace);
    let done = async {
        let was_stopped = home.store.start(&scope).await?;
        home.store.request("Look", &args.namespace, "", "", Clock::system().now()).await?;
        Ok::<_, crate::store::Error>(was_stopped)
    };
    match done.await {
        Ok(was_stopped) => {
            println!("{}", if was_stopped { "started" } else { "was not stopped" });
            End::Done
        }
        Err(error) => error.into(),
    }
}

pub async fn cancel(args: CancelArgs) -> End {
    let home = match open(&args.home).await {
        Ok(home) => home,
        Err(end) => return end,
    };
    match home.store.run(&args.namespace, &args.run).await {
        Ok(Some(_)) => {}
        Ok(None) => return End::Wrong(format!("there is no run `{}` in namespace {}", args.run, args.namespace), None),
        Err(error) => return error.into(),
    }
    match home.store.request("Cancel", &args.namespace, &args.run, "", Clock::system().now()).await {
        Ok(()) => {
            println!("campaignrun.campanile.dev/{} is being cancelled", args.run);
            End::Done
        }
        Err(error) => error.into(),
    }
}

pub async fn store(command: StoreCommand) -> End {
    let StoreCommand::Adopt { waiting, home: args } = command;
    let home = match Home::open(&args, false).await {
        Ok(home) => home,
        Err(end) => return end,
    };
    let waiting = match waiting {
        WaitingArg::Cancel => Waiting::Cancel,
        WaitingArg::Keep => Waiting::Keep,
    };
    match home.store.adopt(&home.id, &args.environment, waiting, Clock::system().now()).await {
        Ok(()) => {
            println!("adopted");
            End::Done
        }
        Err(error) => error.into(),
    }
}

/// Does in the running home what a handle asked for.
pub(super) async fn take(world: &World, kind: &str, namespace: &str, name: &str, body: &str) -> Result<(), Error> {
    match kind {
        "Trigger" => {
            let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let mode = if body["dryRun"] == true { Mode::DryRun } else { Mode::Live };
            let campaign = body["campaign"].as_str().unwrap_or_default();
            let spec = CampaignRunSpec { campaign: campaign.into(), mode, scheduled_time: None, cancel: false };
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

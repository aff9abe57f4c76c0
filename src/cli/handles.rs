//! The day's handles: they write to the store, never to files, and work beside a running home.

use clap::Args as ClapArgs;
use serde_json::json;

use super::{
    End,
    home::{StoreArgs, open_mine, open_store},
};
use crate::{clock::Clock, store::home::Scope};

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

pub async fn trigger(args: TriggerArgs) -> End {
    let store = match open_mine(&args.home).await {
        Ok(store) => store,
        Err(end) => return end,
    };
    let now = Clock::system().now();
    let name = args.name.unwrap_or_else(|| format!("{}-{}", args.campaign, now.strftime("%Y%m%d%H%M%S")));
    let body = json!({"campaign": args.campaign, "dryRun": args.dry_run}).to_string();
    match store.request("Trigger", &args.namespace, &name, &body, now).await {
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
    let store = match open_store(&args.home).await {
        Ok(store) => store,
        Err(end) => return end,
    };
    let scope = scope(args.scope, &args.namespace);
    let now = Clock::system().now();
    let done = async {
        store.stop(&scope, &args.reason, now).await?;
        store.request("Look", &args.namespace, "", "", now).await
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
    let store = match open_store(&args.home).await {
        Ok(store) => store,
        Err(end) => return end,
    };
    let scope = scope(args.scope, &args.namespace);
    let done = async {
        let was_stopped = store.start(&scope).await?;
        store.request("Look", &args.namespace, "", "", Clock::system().now()).await?;
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
    let store = match open_mine(&args.home).await {
        Ok(store) => store,
        Err(end) => return end,
    };
    match store.run(&args.namespace, &args.run).await {
        Ok(Some(_)) => {}
        Ok(None) => return End::Wrong(format!("there is no run `{}` in namespace {}", args.run, args.namespace), None),
        Err(error) => return error.into(),
    }
    match store.request("Cancel", &args.namespace, &args.run, "", Clock::system().now()).await {
        Ok(()) => {
            println!("campaignrun.campanile.dev/{} is being cancelled", args.run);
            End::Done
        }
        Err(error) => error.into(),
    }
}

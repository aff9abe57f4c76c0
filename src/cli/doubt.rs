//! `campanile get indoubt` and `campanile resolve`: messages whose fate nobody knows, and a person's word on them.

use clap::{Args as ClapArgs, ValueEnum};
use serde_json::json;

use super::{
    End,
    home::{Home, StoreArgs},
    table::Table,
};
use crate::{
    clock::Clock,
    store::doubt::{InDoubt, Verdict},
};

/// Shown or resolved by one call; the next call has the next ones.
const LIMIT: i64 = 10_000;

#[derive(Clone, Copy, ValueEnum)]
enum As {
    /// It arrived.
    Sent,
    /// It did not arrive, and is not sent again.
    Failed,
    /// It is sent again, with the same Message-ID.
    Resend,
}

#[derive(ClapArgs)]
pub struct ResolveArgs {
    /// The run.
    run: String,
    /// The key of the item, as `campanile get indoubt` shows it.
    #[arg(required_unless_present = "all")]
    item: Option<String>,
    /// Every message of the run that is in doubt.
    #[arg(long, conflicts_with = "item")]
    all: bool,
    /// Only of this step.
    #[arg(long)]
    step: Option<String>,
    /// What is true of it, or is to become true.
    #[arg(long, value_enum)]
    r#as: As,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    home: StoreArgs,
}

/// Lists what is in doubt.
pub(super) async fn list(home: &Home, namespace: &str, run: Option<&str>, is_json: bool) -> Result<End, End> {
    let found = home.store.in_doubt(namespace, run, LIMIT).await?;
    if is_json {
        let items: Vec<_> = found
            .iter()
            .map(|m| json!({"run": m.run, "step": m.step, "item": m.item, "since": m.since.to_string(), "detail": m.detail}))
            .collect();
        println!("{}", serde_json::to_string_pretty(&items).unwrap_or_default());
        return Ok(End::Done);
    }
    if found.is_empty() {
        eprintln!("Nothing is in doubt in {namespace} namespace.");
        return Ok(End::Done);
    }
    let mut table = Table::new(&["RUN", "STEP", "ITEM", "SINCE", "DETAIL"]);
    for m in &found {
        table.row(vec![m.run.clone(), m.step.clone(), m.item.clone(), m.since.to_string(), m.detail.clone()]);
    }
    print!("{table}");
    Ok(End::Done)
}

pub async fn resolve(args: ResolveArgs) -> End {
    match try_resolve(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn try_resolve(args: ResolveArgs) -> Result<End, End> {
    let home = Home::open(&args.home, false).await?;
    let found = home.store.in_doubt(&args.namespace, Some(&args.run), LIMIT).await?;
    let is_meant = |m: &&InDoubt| {
        args.step.as_ref().is_none_or(|step| m.step == *step) && args.item.as_ref().is_none_or(|item| m.item == *item)
    };
    let meant: Vec<&InDoubt> = found.iter().filter(is_meant).collect();
    if meant.is_empty() {
        let hint = format!("see `campanile get indoubt {}`", args.run);
        return Err(End::Wrong("no such message is in doubt".to_owned(), Some(hint)));
    }
    let verdict = match args.r#as {
        As::Sent => Verdict::Sent,
        As::Failed => Verdict::Failed,
        As::Resend => Verdict::Resend,
    };
    let now = Clock::system().now();
    for message in &meant {
        home.store.resolve(message, verdict, now).await?;
    }
    home.store.request("Look", &args.namespace, "", "", now).await?;
    println!("{} resolved", meant.len());
    Ok(End::Done)
}

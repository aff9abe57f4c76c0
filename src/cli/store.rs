//! `campanile store`: a store that was moved, copied or restored.

use clap::{Subcommand, ValueEnum};

use super::{
    End,
    home::{Found, Home, StoreArgs},
};
use crate::{clock::Clock, store::home::Waiting};

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
    /// Lets a store go on that was restored from a backup: what may have left since the backup becomes InDoubt.
    Recover {
        #[command(flatten)]
        home: StoreArgs,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum WaitingArg {
    Cancel,
    Keep,
}

pub async fn run(command: StoreCommand) -> End {
    let done = match command {
        StoreCommand::Adopt { waiting, home } => adopt(waiting, &home).await,
        StoreCommand::Recover { home } => recover(&home).await,
    };
    match done {
        Ok(end) | Err(end) => end,
    }
}

async fn adopt(waiting: WaitingArg, args: &StoreArgs) -> Result<End, End> {
    let home = Home::open(args, false).await?;
    let waiting = match waiting {
        WaitingArg::Cancel => Waiting::Cancel,
        WaitingArg::Keep => Waiting::Keep,
    };
    home.store.adopt(&home.id, &args.environment, waiting, Clock::system().now()).await?;
    println!("adopted");
    Ok(End::Done)
}

async fn recover(args: &StoreArgs) -> Result<End, End> {
    let found = Found::near(args).await?;
    if let Err(error) = found.store.enter(&found.id, &args.environment).await {
        return Err(End::Wrong(error.to_string(), Some("see `campanile store adopt`".to_owned())));
    }
    let behind = found.store.behind(found.marks).await?;
    let recovered = found.store.recover(&behind, Clock::system().now()).await?;
    println!("runs that had come further than the store knows: {}", recovered.runs);
    println!("messages that may have left, now in doubt: {} (see `campanile get indoubt`)", recovered.in_doubt);
    println!("runs whose recipients are lost, ended for good: {}", recovered.unknown);
    Ok(End::Done)
}

//! `campanile suppression show|add|lift ADDRESS`: whether an address is written to, and a person's word on it.

use std::io::Read;

use clap::{Args as ClapArgs, Subcommand};
use jiff::Timestamp;

use super::{
    End,
    home::{StoreArgs, look_at_store, open_mine},
};
use crate::{
    clock::Clock,
    store::{
        self, Store,
        suppression::{Asked, Cause, Hold, Suppressed, WHOLE_STORE},
    },
};

/// Of an address that is read from stdin.
const ADDRESS_BYTES_MAX: u64 = 4_096;

#[derive(Subcommand)]
pub enum SuppressionCommand {
    /// Tells why an address is written to no more; 1 if it is written to.
    Show(Of),
    /// Writes to an address no more.
    Add {
        #[command(flatten)]
        of: Of,
        /// Until then; for good unless said.
        #[arg(long, value_name = "T")]
        until: Option<Timestamp>,
    },
    /// Writes to an address again, such as one whose mailbox has come back.
    Lift(Of),
}

#[derive(ClapArgs)]
pub struct Of {
    /// An address, or `-`: it is read from stdin, and stands in no list of processes.
    address: String,
    /// By what it is reached.
    #[arg(long, default_value = "email", value_parser = ["email", "sms", "push", "postal", "http"])]
    medium: String,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// In all namespaces.
    #[arg(long, conflicts_with = "namespace")]
    whole_store: bool,
    #[command(flatten)]
    home: StoreArgs,
}

impl Of {
    fn scope(&self) -> &str {
        if self.whole_store { WHOLE_STORE } else { &self.namespace }
    }

    fn address(&self) -> Result<String, End> {
        if self.address != "-" {
            return Ok(self.address.clone());
        }
        let mut text = String::new();
        let read = std::io::stdin().take(ADDRESS_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|e| End::Wrong(format!("stdin: {e}"), None))?;
        Ok(text.trim().to_owned())
    }
}

pub async fn run(command: SuppressionCommand) -> End {
    let done = match command {
        SuppressionCommand::Show(of) => show(&of).await,
        SuppressionCommand::Add { of, until } => add(&of, until).await,
        SuppressionCommand::Lift(of) => lift(&of).await,
    };
    match done {
        Ok(end) | Err(end) => end,
    }
}

async fn held(store: &Store, of: &Of, hash: &str) -> store::Result<Option<Hold>> {
    store
        .suppression(
            Asked {
                namespace: of.scope(),
                medium: &of.medium,
                now: Clock::system().now(),
                objection: None,
                erasing: None,
            },
            hash,
        )
        .await
}

async fn show(of: &Of) -> Result<End, End> {
    let address = of.address()?;
    let store = look_at_store(&of.home).await?;
    let hold = match store.address_hash(&address).await? {
        Some(hash) => held(&store, of, &hash).await?,
        None => None,
    };
    let Some(hold) = hold else {
        println!("not suppressed");
        return Ok(End::Failed);
    };
    let scope = if hold.is_whole_store { "in the whole store" } else { "in this namespace" };
    let until = hold.until.map_or(String::new(), |until| format!(" until {until:.0}"));
    println!("suppressed {scope} since {:.0}{until}: {}", hold.since, hold.cause);
    Ok(End::Done)
}

async fn add(of: &Of, until: Option<Timestamp>) -> Result<End, End> {
    let store = open_mine(&of.home).await?;
    let hash = store.address_key().await?.of_address(&of.address()?);
    let since = Clock::system().now();
    let (namespace, medium) = (of.scope().to_owned(), of.medium.clone());
    store.suppress(&[Suppressed { namespace, medium, hash, cause: Cause::ByHand, since, until }]).await?;
    println!("suppressed");
    Ok(End::Done)
}

async fn lift(of: &Of) -> Result<End, End> {
    let store = open_mine(&of.home).await?;
    let hash = store.address_key().await?.of_address(&of.address()?);
    if !store.lift_suppression(of.scope(), &of.medium, &hash).await? {
        println!("not suppressed");
        return Ok(End::Failed);
    }
    match held(&store, of, &hash).await? {
        Some(_) => println!("lifted in this namespace; it still holds in the whole store (--whole-store)"),
        None => println!("lifted"),
    }
    Ok(End::Done)
}

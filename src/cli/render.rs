//! `campanile render --run RUN ITEM`: a message as it was sent, byte for byte.
//!
//! It is written again from the run's own revision and from what the step keeps (`record`). A signature needs its key:
//! without it the message is shown unsigned, and that is said.

use std::{io::Write, sync::Arc};

use clap::Args as ClapArgs;

use super::{
    End,
    home::{Found, StoreArgs, must_be_kept},
};
use crate::{
    send::{
        dispatch::{Secrets, load_pinned, signer},
        letter::{Letter, Occasion},
        providers::Secret,
        said,
    },
    source::secret_of_environment,
    store::kept::Kept,
};

#[derive(ClapArgs)]
pub struct Args {
    /// The key of the item that the message was about.
    item: String,
    /// The run that sent it.
    #[arg(long)]
    run: String,
    /// The channel step, where the run has several.
    #[arg(long)]
    step: Option<String>,
    /// Which attempt; the last one unless said.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    attempt: Option<i64>,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    home: StoreArgs,
}

pub async fn run(args: Args) -> End {
    match render(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn render(args: Args) -> Result<End, End> {
    let wrong = |message: String, hint: Option<&str>| End::Wrong(message, hint.map(str::to_owned));
    let found = Found::near(&args.home).await?;
    let store = &found.store;
    let run = store.run(&args.namespace, &args.run).await?;
    let run = run.ok_or_else(|| wrong(format!("there is no run `{}`", args.run), None))?;
    must_be_kept(&run)?;
    let kept = choose(store.kept(&run, &args.item).await?, &args)?;
    let said = kept.said.as_deref().and_then(|text| said::find(text, kept.seq));
    let said = said.ok_or_else(|| {
        let message = format!("step `{}` kept nothing that this message can be written from", kept.step);
        wrong(message, Some("it was never handed over, or the step says `record: Hash` or `None`"))
    })?;
    let pinned = Arc::new(load_pinned(store, &run).await?);
    let email = pinned.1.emails().find(|(no, _, _)| *no == kept.step_no);
    let spec = email.and_then(|(_, _, email)| pinned.0.channels.get(&email.channel));
    let spec = spec.ok_or_else(|| wrong("the run's revision lacks the step".to_owned(), None))?;
    let near: &dyn Secrets = match &found.cluster {
        Some(cluster) => cluster.as_ref(),
        None => &Environment,
    };
    let signer = signer(near, &run.namespace, spec).await.unwrap_or_else(|problem| {
        eprintln!("warning: shown without its DKIM signature: {problem}");
        None
    });
    let letter = Letter::new(&Occasion::of(&run), pinned.clone(), kept.step_no, signer, &store.secret().await?)?;
    let bytes = letter.write((kept.shard, kept.seq), kept.profile.as_deref(), &said, kept.at);
    let bytes = bytes.map_err(|problem| wrong(problem, None))?;
    std::io::stdout().write_all(&bytes).map_err(|e| wrong(e.to_string(), None))?;
    Ok(End::Done)
}

/// The attempt that is meant.
fn choose(mut kept: Vec<Kept>, args: &Args) -> Result<Kept, End> {
    kept.retain(|k| args.step.as_ref().is_none_or(|step| *step == k.step));
    kept.retain(|k| args.attempt.is_none_or(|attempt| attempt == k.attempt));
    let steps: std::collections::BTreeSet<&str> = kept.iter().map(|k| k.step.as_str()).collect();
    if steps.len() > 1 {
        let names = steps.into_iter().collect::<Vec<_>>().join(", ");
        return Err(End::Wrong(
            format!("several steps wrote about it: {names}"),
            Some("name one with --step".to_owned()),
        ));
    }
    let hint = "an item is named by the key of its row, as `campanile get indoubt` shows it";
    let none = || End::Wrong(format!("run `{}` attempted no such message", args.run), Some(hint.to_owned()));
    kept.pop().ok_or_else(none)
}

/// Beside a folder's home the secrets are asked of the environment only: which folder it was, the store does not say.
struct Environment;

#[async_trait::async_trait]
impl Secrets for Environment {
    async fn secret(&self, _: &str, name: &str) -> Option<Secret> {
        secret_of_environment(name, Secret::default())
    }
}

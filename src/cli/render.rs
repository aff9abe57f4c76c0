//! `campanile render`: a message as it would be, or as it was.
//!
//! ```text
//! campanile render CAMPAIGN KEY [PATH…]              each channel step and locale for one person, masked
//! campanile render CAMPAIGN --persona zoe [PATH…]    for a declared persona; it needs no store
//! campanile render --run RUN ITEM                    byte for byte what was sent
//! ```
//!
//! What was sent is written again from the run's own revision and from what the step keeps (`record`). A signature needs
//! its key: without it the message is shown unsigned, and that is said.

mod preview;

use std::sync::Arc;

use clap::{Args as ClapArgs, ValueEnum};

use super::{
    End,
    home::{Found, must_be_kept},
    preview::PreviewArgs,
};
use crate::{
    send::{
        dispatch::{Secrets, load_pinned, signer},
        enclosure,
        letter::{Letter, Occasion},
        providers::Secret,
        said,
    },
    source::secret_of_environment,
    store::kept::Kept,
};

#[derive(ClapArgs)]
#[command(override_usage = "campanile render [OPTIONS] CAMPAIGN KEY [PATH]...\n       \
                            campanile render [OPTIONS] CAMPAIGN --persona NAME [PATH]...\n       \
                            campanile render [OPTIONS] --run RUN ITEM")]
pub struct Args {
    /// A campaign, the key of the person (or ENTITY=KEY), and folders or files with manifests; with --run the key of the
    /// item that the message was about.
    #[arg(required = true, value_name = "CAMPAIGN KEY PATH")]
    words: Vec<String>,
    /// The run that sent it.
    #[arg(long)]
    run: Option<String>,
    /// The channel step, where there are several.
    #[arg(long)]
    step: Option<String>,
    /// Which attempt of a run; the last one unless said.
    #[arg(long, requires = "run", value_parser = clap::value_parser!(i64).range(1..))]
    attempt: Option<i64>,
    /// Which of several devices, as `campanile why` numbers them.
    #[arg(long, requires = "run", value_parser = clap::value_parser!(i64).range(1..))]
    device: Option<i64>,
    /// A persona of the template, instead of a person.
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    persona: Option<String>,
    /// One variant of the template, instead of all.
    #[arg(long, value_name = "LOCALE", conflicts_with = "run")]
    locale: Option<String>,
    /// Write each message to a folder as the file that an outbox makes of it, mail as .html beside it, and show it on a terminal.
    #[arg(long, conflicts_with = "run")]
    open: bool,
    #[arg(short, long, value_name = "FORMAT", default_value = "text", conflicts_with = "run")]
    output: Output,
    #[command(flatten)]
    preview: PreviewArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Eml,
    Html,
    Json,
}

pub async fn run(args: Args) -> End {
    let ended = match args.run {
        Some(_) => sent(args).await,
        None => preview::render(args).await,
    };
    match ended {
        Ok(end) | Err(end) => end,
    }
}

async fn sent(args: Args) -> Result<End, End> {
    let wrong = |message: String, hint: Option<&str>| End::Wrong(message, hint.map(str::to_owned));
    let name = args.run.as_deref().unwrap_or_default();
    let [item] = args.words.as_slice() else {
        return Err(wrong("behind --run stands the key of one item".to_owned(), None));
    };
    let found = Found::near(&args.preview.home).await?;
    let store = &found.store;
    let run = store.run(&args.preview.namespace, name).await?;
    let run = run.ok_or_else(|| wrong(format!("there is no run `{name}`"), None))?;
    must_be_kept(&run)?;
    let kept = choose(store.kept(&run, item).await?, name, &args)?;
    let said = kept.said.as_deref().and_then(|text| said::find(text, kept.seq));
    let said = said.ok_or_else(|| {
        let message = format!("step `{}` kept nothing that this message can be written from", kept.step);
        wrong(message, Some("it was never handed over, or the step says `record: Hash` or `None`"))
    })?;
    let mut pinned = load_pinned(store, &run).await?;
    enclosure::fetch(store, &mut pinned.0).await?;
    let pinned = Arc::new(pinned);
    let message = pinned.1.message_numbered(kept.step_no);
    let spec = message.and_then(|(_, message)| pinned.0.channels.get(&message.channel));
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
    let content = letter.write((kept.shard, kept.seq), kept.profile.as_deref(), &said, kept.at);
    let content = content.map_err(|problem| wrong(problem, None))?;
    super::put(&content.file().1)?;
    Ok(End::Done)
}

/// The attempt that is meant.
fn choose(mut kept: Vec<Kept>, run: &str, args: &Args) -> Result<Kept, End> {
    kept.retain(|k| args.step.as_ref().is_none_or(|step| *step == k.step));
    kept.retain(|k| args.device.is_none_or(|device| device == k.address));
    kept.retain(|k| args.attempt.is_none_or(|attempt| attempt == k.attempt));
    let steps: std::collections::BTreeSet<&str> = kept.iter().map(|k| k.step.as_str()).collect();
    let devices: std::collections::BTreeSet<i64> = kept.iter().map(|k| k.address).collect();
    if steps.len() > 1 {
        let names = steps.into_iter().collect::<Vec<_>>().join(", ");
        return Err(End::Wrong(
            format!("several steps wrote about it: {names}"),
            Some("name one with --step".to_owned()),
        ));
    }
    if devices.len() > 1 {
        let places = devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("it went to several devices: {places}");
        return Err(End::Wrong(message, Some("name one with --device".to_owned())));
    }
    let hint = "an item is named by the key of its row, as `campanile get indoubt` shows it";
    let none = || End::Wrong(format!("run `{run}` attempted no such message"), Some(hint.to_owned()));
    kept.pop().ok_or_else(none)
}

/// Beside a folder's home the secrets are asked of the environment only: which folder it was, the store does not say.
pub(super) struct Environment;

#[async_trait::async_trait]
impl Secrets for Environment {
    async fn secret(&self, _: &str, name: &str) -> Option<Secret> {
        secret_of_environment(name, Secret::default())
    }
}

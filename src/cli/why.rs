//! `campanile why CAMPAIGN KEY [PATH…]`: one person, or one row, through each step: in or out, by which clause with which
//! of her values, where she left, and what became of her in runs that were.
//!
//! `KEY` is the person's; `rental=1457` that of a row of another entity on the way. With `--run` it is the run's own
//! revision and its tables that are asked. Personal values are masked; on a terminal `--reveal` shows them.

use std::{path::PathBuf, sync::Arc};

use clap::{Args as ClapArgs, ValueEnum};

use super::{
    End,
    preview::{self, PreviewArgs},
};
use crate::{
    review::person::{Subject, Walker},
    send::dispatch::load_pinned,
};

#[derive(ClapArgs)]
pub struct Args {
    campaign: String,
    /// The key of the person, or `ENTITY=KEY`.
    key: String,
    /// Folders or files with manifests; this folder unless said.
    #[arg(conflicts_with = "run")]
    path: Vec<PathBuf>,
    /// A run that was: its revision, its `now` and its tables.
    #[arg(long)]
    run: Option<String>,
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
    #[command(flatten)]
    preview: PreviewArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub async fn run(args: Args) -> End {
    match why(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn why(args: Args) -> Result<End, End> {
    let store = args.preview.store().await?;
    let (walker, pinned);
    match &args.run {
        None => {
            let declared = args.preview.declared(&args.path);
            pinned = declared.campaign(&args.campaign, store.dialect())?;
            let mask = args.preview.mask(&pinned)?;
            walker = preview::walker(&store, &pinned, args.preview.now(), mask).await?;
        }
        Some(name) => {
            let wrong = |message: String| End::Wrong(message, None);
            let run = store.run(&args.preview.namespace, name).await?;
            let run = run.ok_or_else(|| wrong(format!("there is no run `{name}`")))?;
            if run.campaign != args.campaign {
                return Err(wrong(format!("run `{name}` is one of campaign `{}`", run.campaign)));
            }
            pinned = Arc::new(load_pinned(&store, &run).await?);
            let mask = args.preview.mask(&pinned)?;
            let inputs = preview::inputs(&store, &pinned, run.scheduled).await?;
            walker = Walker::of_run(&store, pinned.clone(), inputs, run, mask).await?;
        }
    }
    let subject = Subject::read(&args.key, &pinned.0.dataset).map_err(|(message, hint)| End::Wrong(message, hint))?;
    let why = walker.walk(&subject).await?;
    let text = match args.output {
        Output::Text => why.to_string(),
        Output::Json => serde_json::to_string_pretty(&why).map_err(|e| End::Wrong(e.to_string(), None))? + "\n",
    };
    super::put(text.as_bytes())?;
    Ok(End::Done)
}

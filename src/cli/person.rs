//! `campanile person KEY`: all that is kept of one person: what was sent to her and why it was not, what came back, what she
//! agreed to over time, and what holds her addresses back.
//!
//! Personal values are masked; on a terminal `--reveal` shows them.

use clap::{Args as ClapArgs, ValueEnum};

use super::{
    End,
    home::{StoreArgs, look_at_store},
    preview::mask,
};
use crate::{clock::Clock, person::Person, store::Store};

/// Messages that one answer holds.
const MESSAGES_MAX: i64 = 10_000;

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// How many of her messages are told, the newest first.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(0..=MESSAGES_MAX))]
    messages: i64,
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
    /// Show personal values, too; only on a terminal.
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    home: StoreArgs,
}

/// Whom a command is about.
#[derive(ClapArgs)]
pub struct Of {
    /// The key of the person; of several fields with commas between them, or as a JSON list.
    key: String,
    /// Needed where the namespace has several.
    #[arg(long)]
    dataset: Option<String>,
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub async fn run(args: Args) -> End {
    match tell(args).await {
        Ok(end) | Err(end) => end,
    }
}

impl Of {
    pub async fn person(&self, store: &Store) -> Result<Person, End> {
        let mut known = store.datasets(&self.namespace).await?;
        let names = known.iter().map(|dataset| dataset.name.clone()).collect::<Vec<_>>().join(", ");
        let wrong = |message: String, hint: String| End::Wrong(message, Some(hint));
        if let Some(name) = &self.dataset {
            known.retain(|dataset| dataset.name == *name);
        }
        let found = known.pop();
        let declared = match (found, known.is_empty(), &self.dataset) {
            (Some(declared), true, _) => declared,
            (Some(_), false, _) => {
                let message = format!("namespace {} has several datasets", self.namespace);
                return Err(wrong(message, format!("say --dataset, one of {names}")));
            }
            (None, _, Some(name)) if !names.is_empty() => {
                let message = format!("there is no dataset `{name}` in namespace {}", self.namespace);
                return Err(wrong(message, format!("it has {names}")));
            }
            (None, ..) => {
                let message = format!("the store knows no dataset of namespace {}", self.namespace);
                return Err(wrong(
                    message,
                    "it is in another --namespace, or `campanile run` has not read it yet".to_owned(),
                ));
            }
        };
        Person::read(store, declared, &self.key).await?.map_err(|(message, hint)| End::Wrong(message, hint))
    }
}

async fn tell(args: Args) -> Result<End, End> {
    let store = look_at_store(&args.home).await?;
    let person = args.of.person(&store).await?;
    let mask = mask(args.reveal, &person.declared.spec, &person.schema)?;
    let view = person.view(&store, &mask, args.messages, Clock::system().now()).await?;
    let text = match args.output {
        Output::Text => view.to_string(),
        Output::Json => serde_json::to_string_pretty(&view).map_err(|e| End::Wrong(e.to_string(), None))? + "\n",
    };
    super::put(text.as_bytes())?;
    let is_known = view.is_there || view.erased_at.is_some() || !view.messages.is_empty() || !view.consent.is_empty();
    // As with `get`: nothing is known under that name.
    Ok(if is_known { End::Done } else { End::Failed })
}

//! `campanile test PATH…`: what is expected of campaigns and audiences, on a few rows beside the manifests.
//!
//! Data goes to stdout; exit 0 if every expectation holds, 1 if one does not, 2 if a test or a manifest is wrong.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use super::{End, put};
use crate::review::expectation::{self, Unrun, report};

#[derive(ClapArgs)]
pub struct Args {
    /// Folders with manifests and tests, or tests whose manifests stand beside them; this folder unless said.
    path: Vec<PathBuf>,
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Junit,
    Json,
}

pub async fn run(args: Args) -> End {
    match test(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn test(args: Args) -> Result<End, End> {
    let here = vec![PathBuf::from(".")];
    let paths = if args.path.is_empty() { &here } else { &args.path };
    let suites = match expectation::run(paths).await {
        Ok(suites) => suites,
        Err(Unrun::Wrong(found)) => {
            found.iter().for_each(|problem| eprintln!("{problem}"));
            let many = if found.len() == 1 { "one error".to_owned() } else { format!("{} errors", found.len()) };
            return Err(End::Wrong(format!("the tests cannot be run: {many}"), None));
        }
        Err(error) => {
            eprintln!("error: {error}");
            return Err(End::Failed);
        }
    };
    if suites.is_empty() {
        let hint = "a test says apiVersion: test.campanile.dev/v1alpha1 and kind: Test";
        return Err(End::Wrong("there are no tests".to_owned(), Some(hint.to_owned())));
    }
    let text = match args.output {
        Output::Text => report::Summary(&suites).to_string(),
        Output::Junit => report::junit(&suites),
        Output::Json => serde_json::to_string_pretty(&suites).map_err(|e| End::Wrong(e.to_string(), None))? + "\n",
    };
    put(text.as_bytes())?;
    Ok(if suites.iter().all(|suite| suite.failed() == 0) { End::Done } else { End::Failed })
}

//! `campanile validate PATH…`: all that is wrong with manifests, and what is suspect; no store and no cluster is asked.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
};

use clap::{Args as ClapArgs, ValueEnum};
use jiff::Timestamp;

use super::End;
use crate::{
    clock::Clock,
    review::{
        check,
        format::{Report, json, sarif, text},
        tree::Tree,
    },
    source::manifest::Severity,
};

#[derive(ClapArgs)]
pub struct Args {
    /// Folders or files with manifests.
    #[arg(required = true)]
    path: Vec<PathBuf>,
    /// How what was found is written.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// End with 2 where there are warnings, too.
    #[arg(long)]
    warnings_as_errors: bool,
    /// Judge what is past by this time instead of the machine's.
    #[arg(long, value_name = "T")]
    now: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
    Sarif,
}

pub fn run(args: &Args) -> End {
    if let Some(path) = args.path.iter().find(|path| !path.exists()) {
        return End::Wrong(format!("{}: no such file or folder", path.display()), None);
    }
    let tree = Tree::read(&args.path);
    let now = args.now.map_or_else(Clock::system, Clock::starting_at).now();
    let report = report(&tree, now);
    let base = std::env::current_dir().unwrap_or_default();
    let written = match args.output {
        Output::Text => Ok(text::write(&report, is_coloured())),
        Output::Json => json::write(&report, &base),
        Output::Sarif => sarif::write(&report, &base),
    };
    let written = written.map_err(std::io::Error::other);
    if let Err(error) = written.and_then(|text| writeln!(std::io::stdout(), "{}", text.trim_end())) {
        return End::Wrong(error.to_string(), None);
    }
    let is_wrong = report.count(Severity::Error) > 0;
    if is_wrong || args.warnings_as_errors && report.count(Severity::Warning) > 0 { End::Refused } else { End::Done }
}

/// What is said of a tree.
pub fn report(tree: &Tree, now: Timestamp) -> Report {
    let (warnings, silenced) = check::warnings(tree, now);
    let mut found: Vec<_> = tree.errors().iter().cloned().chain(warnings).collect();
    found.sort_by_cached_key(|d| (d.file.as_ref().map(|file| file.path.clone()), d.span.start));
    Report { found, silenced, objects: tree.objects(), files: tree.files() }
}

fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

//! `campanile forget KEY`: erases a person on request. It works beside a running home, and may be called again: it goes on
//! where it was.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args as ClapArgs;

use super::{
    End,
    home::{StoreArgs, open_mine, outbox},
    person::Of,
};
use crate::{
    clock::Clock,
    person::{Person, erase::Report},
};

const KEPT: &str = "kept: what was counted, and keyed hashes, by which no file and no other system brings her back and \
    her addresses stay suppressed and withdrawn";
const OUT_OF_REACH: [&str; 2] = [
    "history that was exported, plans and reviews that were recorded, manifests with personas or fixtures made of her",
    "backups and replicas of the store, its log, and pages that the database has not written over yet (VACUUM does)",
];
/// Runs whose outbox folders are named; of more it is said how many.
const RUNS_NAMED: usize = 10;

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// Erase the rows of this entity that lead to her, too; may be given several times.
    #[arg(long, value_name = "ENTITY")]
    with: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    home: StoreArgs,
}

pub async fn run(args: Args) -> End {
    match forget(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn forget(args: Args) -> Result<End, End> {
    let store = open_mine(&args.home).await?;
    let person = args.of.person(&store).await?;
    if !person.is_known(&store).await? {
        // A key that was mistyped must not keep somebody else out of tomorrow's file.
        let hint = "`campanile person KEY` tells what is kept of somebody";
        return Err(End::Wrong("nobody is known under that key; nothing was erased".to_owned(), Some(hint.to_owned())));
    }
    if !args.yes {
        ask(&person)?;
    }
    let report = person.erase(&store, &args.with, Clock::system()).await?;
    let report = report.map_err(|(message, hint)| End::Wrong(message, hint))?;
    super::put(words(&report).as_bytes())?;
    Ok(End::Done)
}

fn ask(person: &Person) -> Result<(), End> {
    let (_, dataset) = person.of();
    let entity = &person.declared.spec.profile.entity;
    if !std::io::stdin().is_terminal() {
        let hint = "say --yes where nobody can be asked";
        return Err(End::Wrong("what is erased cannot be brought back".to_owned(), Some(hint.to_owned())));
    }
    eprint!("Erase {entity} {} of dataset {dataset}? It cannot be undone. Type yes: ", person.key);
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|e| End::Wrong(format!("stdin: {e}"), None))?;
    if answer.trim() == "yes" { Ok(()) } else { Err(End::Wrong("nothing was erased".to_owned(), None)) }
}

fn words(report: &Report) -> String {
    let many = |n: u64, one: &str, more: &str| format!("{n} {}", if n == 1 { one } else { more });
    let mut done = vec![many(report.rows, "row", "rows")];
    done.extend(report.with.iter().map(|(entity, n)| format!("{} of {entity}", many(*n, "row", "rows"))));
    done.push(many(report.messages, "message", "messages"));
    done.push(format!("{} of consent", many(report.consent, "entry", "entries")));
    done.push(format!("{} of audiences and work tables", many(report.of_sets, "key", "keys")));
    let mut lines = vec![format!("erased: {}", done.join(", "))];
    if report.waiting > 0 {
        let waiting = many(report.waiting, "message that waited", "messages that waited");
        lines.push(format!("not sent: {waiting}; Excluded, reason Erased, when its turn comes"));
    }
    lines.push(KEPT.to_owned());
    lines.push("out of reach, to be seen to where it is:".to_owned());
    let mut left = report.left.clone();
    if !report.runs.is_empty() {
        let named: Vec<&str> = report.runs.iter().take(RUNS_NAMED).map(String::as_str).collect();
        let more = report.runs.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (folder, named) = (outbox(), named.join(", "));
        left.push(format!(
            "what was delivered, at its recipients and providers, files of letters among it; of runs into an outbox the files under {}: {named}{more}",
            folder.display()
        ));
    }
    left.extend(OUT_OF_REACH.map(str::to_owned));
    lines.extend(left.iter().map(|line| format!("  - {line}")));
    lines.join("\n") + "\n"
}

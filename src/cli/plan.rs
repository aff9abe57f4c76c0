//! `campanile plan PATH…`: what a change will do, to whom and when. Nothing is written, but for the report.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use clap::{Args as ClapArgs, ValueEnum};
use jiff::Timestamp;

use super::{End, home, private::Private, put};
use crate::{
    api::duration::Duration,
    clock::Clock,
    review::{
        base::{self, Base},
        report::{Report, compose::Request, figure::Telling, html, json, markdown, text},
        tree::Tree,
    },
    source::{cluster::Cluster, manifest},
    store::{Store, replica::STATEMENT_TIME_MAX},
};

/// Where `campanile run` has its store.
const STORE: &str = ".campanile/store.db";

#[derive(ClapArgs)]
#[allow(clippy::struct_excessive_bools)] // Each is a flag of its own.
pub struct Args {
    /// Folders or files with manifests.
    #[arg(required_unless_present = "schema")]
    path: Vec<PathBuf>,
    /// The store in which rows are counted; it is only read. Without it that of a `campanile run` in this folder.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    store: Option<String>,
    /// What the change is compared with: a git revision, a folder, or `cluster`. Without it every campaign is told.
    #[arg(long, value_name = "REV|DIR|cluster")]
    base: Option<String>,
    /// What the cluster has in the manifests' namespaces and they do not is deleted, as Flux and Argo CD can be told.
    /// Without it, it stays, as `kubectl apply` leaves it.
    #[arg(long)]
    prune: bool,
    /// Of manifests that name none. Unless said, `default`; against a cluster that of the current context.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Count in a private store that is filled with the manifests' own files, and gone afterwards.
    #[arg(long, conflicts_with = "untrusted")]
    data: bool,
    /// `now` of rules and schedules, instead of the machine's time.
    #[arg(long, value_name = "T")]
    now: Option<Timestamp>,
    /// How the report is written.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Write it into this file instead of to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// For a change by a stranger: no count is exact and none under 10 is told, and no statement of hers is run.
    #[arg(long)]
    untrusted: bool,
    /// Show messages to some real people, masked; only on a terminal.
    #[arg(long)]
    real_samples: bool,
    /// Count only so much of the rows, such as 10%: figures are estimates then.
    #[arg(long, value_name = "N%", value_parser = percent)]
    sample: Option<u8>,
    /// How long a statement may take; what takes longer is unknown.
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// How many rows of tables the counting of one campaign may read; what needs more is unknown.
    #[arg(long, value_name = "N")]
    max_rows: Option<i64>,
    /// Write the JSON Schema of `-o json`.
    #[arg(long)]
    schema: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Markdown,
    Html,
    Json,
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.trim_end_matches('%').parse::<u8>().ok().filter(|n| (1..=100).contains(n));
    number.ok_or_else(|| "it is a share of 1% to 100%".to_owned())
}

pub async fn run(args: Args) -> End {
    match plan(&args).await {
        Ok(end) | Err(end) => end,
    }
}

/// `campanile diff`: the same against what the cluster has, unless something else is named.
pub async fn diff(mut args: Args) -> End {
    args.base.get_or_insert_with(|| "cluster".to_owned());
    run(args).await
}

async fn plan(args: &Args) -> Result<End, End> {
    if args.schema {
        put(format!("{:#}\n", json::schema()).as_bytes())?;
        return Ok(End::Done);
    }
    if let Some(path) = args.path.iter().find(|path| !path.exists()) {
        return Err(End::Wrong(format!("{}: no such file or folder", path.display()), None));
    }
    if args.real_samples && (args.out.is_some() || args.output != Output::Text || !std::io::stdout().is_terminal()) {
        let hint = "declare `personas` in the MessageTemplate: they are shown everywhere";
        let message = "--real-samples shows messages to people, and so only as text on a terminal";
        return Err(End::Wrong(message.to_owned(), Some(hint.to_owned())));
    }
    let clock = args.now.map_or_else(Clock::system, Clock::starting_at);
    let (head, base) = trees(args).await?;
    let private = if args.data { Some(Private::load(&args.path, clock).await?) } else { None };
    let (store, counted) = open(args, private.as_ref()).await?;
    let folder = std::env::current_dir().unwrap_or_default();
    let request = Request {
        head: &head,
        base: base.as_ref().map(|(tree, base)| (tree, base)),
        store: store.as_ref(),
        counted,
        now: args.now.unwrap_or_else(|| clock.now()),
        telling: Telling { is_untrusted: args.untrusted, sample_percent: args.sample },
        has_real_samples: args.real_samples,
        rows_max: args.max_rows,
        folder: &folder,
    };
    let report = request.compose().await;
    if let Some(store) = &store {
        store.close().await;
    }
    let written = write(&report, args.output, args.out.is_none() && is_coloured())?;
    match &args.out {
        Some(path) => {
            std::fs::write(path, written).map_err(|e| End::Wrong(format!("{}: {e}", path.display()), None))?
        }
        None => put(written.as_bytes())?,
    }
    // What is right was planned all the same.
    Ok(if head.errors().is_empty() { End::Done } else { End::Refused })
}

/// What is planned, and what it is compared with.
async fn trees(args: &Args) -> Result<(Tree, Option<(Tree, Base)>), End> {
    let base = args.base.as_deref().map(Base::named);
    if args.prune && base != Some(Base::Cluster) {
        let message = "--prune is about what a cluster has: it needs --base cluster";
        return Err(End::Wrong(message.to_owned(), None));
    }
    let load = |namespace| manifest::load_into(namespace, args.path.iter().map(PathBuf::as_path));
    let Some(base) = base else { return Ok((Tree::of(load(args.namespace.clone())), None)) };
    let (head, tree) = match &base {
        Base::Folder(path) => {
            let loaded = manifest::load_into(args.namespace.clone(), [path.as_path()]);
            (Tree::of(load(args.namespace.clone())), Tree::of(loaded))
        }
        Base::Revision(revision) => {
            let loaded = base::at_revision(args.namespace.clone(), &args.path, revision).map_err(|why| {
                let hint = "a base is a revision that this clone has, a folder, or `cluster`";
                End::Wrong(why, Some(hint.to_owned()))
            })?;
            (Tree::of(load(args.namespace.clone())), Tree::of(loaded))
        }
        Base::Cluster => {
            let lost = |error: &dyn std::fmt::Display| End::Wrong(format!("the cluster: {error}"), None);
            let config = kube::Config::infer().await.map_err(|e| lost(&e))?;
            let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
            let client = kube::Client::try_from(config).map_err(|e| lost(&e))?;
            let loaded = load(Some(namespace));
            let mut objects = vec![];
            // Only these: who may see one namespace can plan a change of it.
            for namespace in loaded.namespaces() {
                let maps = loaded.maps(&namespace);
                let cluster = Cluster::new(client.clone(), Some(namespace));
                objects.extend(cluster.declared(maps).await.map_err(|e| lost(&e))?);
            }
            let head = if args.prune { Tree::of(loaded) } else { Tree::applied(loaded, &objects) };
            (head, base::of_objects(&objects))
        }
    };
    Ok((head, Some((tree, base))))
}

/// The store to count in, and what it is, or why there is none.
async fn open(args: &Args, private: Option<&Private>) -> Result<(Option<Store>, String), End> {
    let time_max = args.timeout.map_or(STATEMENT_TIME_MAX, Duration::as_std);
    let url = match (&args.store, private) {
        (_, Some(private)) => private.url(),
        (Some(url), None) => url.clone(),
        _ if Path::new(STORE).exists() => format!("sqlite://{STORE}"),
        _ => return Ok((None, "no store was named (--store), so nobody was counted".to_owned())),
    };
    let store = home::look_at(&url, time_max).await?;
    let kind = if url.starts_with("sqlite:") { "SQLite" } else { "PostgreSQL" };
    let sample = args.sample.map(|n| format!(", in a sample of {n}%")).unwrap_or_default();
    let place = match private {
        Some(private) => {
            let problems: String = private.problems.iter().map(|problem| format!("; {problem}")).collect();
            format!("in a private store with the manifests' own files{problems}")
        }
        None => format!("in the {kind} store, which was only read"),
    };
    Ok((Some(store), format!("{place}{sample}")))
}

fn write(report: &Report, output: Output, is_coloured: bool) -> Result<String, End> {
    Ok(match output {
        Output::Text => text::write(report, is_coloured),
        Output::Markdown => markdown::write(report, markdown::CHARS_MAX),
        Output::Html => html::write(report),
        Output::Json => json::write(report).map_err(|e| End::Wrong(e.to_string(), None))?,
    })
}

fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

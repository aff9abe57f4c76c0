//! The command line, one file per command. It is also the kubectl plugin `kubectl campanile`.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 the work failed, 2 the input or the call is wrong.

mod controller;
mod crds;
mod doubt;
mod forget;
mod get;
mod handles;
mod home;
mod inbound;
mod person;
mod plan;
mod preview;
mod private;
mod proof;
mod render;
mod requests;
mod rerun;
mod run;
mod schema;
mod sending;
mod simulate;
mod store;
mod summary;
mod suppression;
mod table;
mod test;
mod validate;
mod why;
mod worker;

use std::{
    io::{ErrorKind, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "campanile", version, about = "A declarative, GitOps-style reconciler for customer communication")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconciles a folder of manifests on this machine.
    Run(run::Args),
    /// Reconciles a cluster.
    Controller(controller::Args),
    /// Sends, beside a controller or a `run` on the same PostgreSQL store.
    Worker(worker::Args),
    /// Takes what comes back, beside a controller or a `run` on the same store: bounces, complaints, callbacks, clicks.
    Inbound(inbound::Args),
    /// Shows objects as `kubectl get` would, from the store of a folder.
    Get(get::Args),
    /// Starts a run of a campaign by hand.
    Trigger(handles::TriggerArgs),
    /// The emergency stop: nothing of it is sent until `start`.
    Stop(handles::StopArgs),
    /// Takes a stop back.
    Start(handles::StartArgs),
    /// Cancels a run: what waits is not sent.
    Cancel(handles::CancelArgs),
    /// Sends the remainder of a run as declared now, to exactly those who wait in it.
    Rerun(rerun::Args),
    /// Shows a campaign's messages to one person, or a message as it was sent, byte for byte.
    Render(render::Args),
    /// Sends messages of a campaign to yourself, as others would get them; nothing is counted or remembered of it.
    Proof(proof::Args),
    /// Runs what is expected of campaigns and audiences, on a few rows beside the manifests.
    Test(test::Args),
    /// Walks one person through each step of a campaign, each clause with her values, to where she leaves.
    Why(why::Args),
    /// Tells all that is kept of one person: what was sent and why not, what came back, what she agreed to.
    Person(person::Args),
    /// Erases one person on request: counts stay true, and no later file brings her back.
    Forget(forget::Args),
    /// Says what became of messages whose fate nobody knows (`campanile get indoubt`).
    Resolve(doubt::ResolveArgs),
    /// Shows whether an address is suppressed, suppresses it, or lifts that.
    #[command(subcommand)]
    Suppression(suppression::SuppressionCommand),
    /// Handles of the store itself.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Finds all that is wrong with manifests, and what is suspect, without a store or a cluster.
    Validate(validate::Args),
    /// Says what a change will do, to whom and when, without doing it.
    Plan(plan::Args),
    /// The same against the cluster: `plan --base cluster`.
    Diff(plan::Args),
    /// Shows which runs would start between two instants, and what gets into each other's way.
    Simulate(simulate::Args),
    /// Writes the CustomResourceDefinitions.
    Crds(crds::Args),
    /// Writes JSON Schemas for editors.
    Schema(schema::Args),
}

/// What a command ends with.
pub(crate) enum End {
    Done,
    Failed,
    /// The input is wrong, and what is wrong with it was said.
    Refused,
    /// The sentence is the reason; a hint may follow it.
    Wrong(String, Option<String>),
}

pub fn main() -> ExitCode {
    let cli = parse();
    let filter =
        EnvFilter::try_from_env("CAMPANILE_LOG").unwrap_or_else(|_| EnvFilter::new(default_level(&cli.command)));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return say(End::Wrong(error.to_string(), None)),
    };
    let end = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(args).await,
            Command::Controller(args) => controller::run(args).await,
            Command::Worker(args) => worker::run(args).await,
            Command::Inbound(args) => inbound::run(args).await,
            Command::Get(args) => get::run(args).await,
            Command::Trigger(args) => handles::trigger(args).await,
            Command::Stop(args) => handles::stop(args).await,
            Command::Start(args) => handles::start(args).await,
            Command::Cancel(args) => handles::cancel(args).await,
            Command::Rerun(args) => rerun::run(args).await,
            Command::Render(args) => render::run(args).await,
            Command::Proof(args) => proof::run(args).await,
            Command::Test(args) => test::run(args).await,
            Command::Why(args) => why::run(args).await,
            Command::Person(args) => person::run(args).await,
            Command::Forget(args) => forget::run(args).await,
            Command::Resolve(args) => doubt::resolve(args).await,
            Command::Suppression(command) => suppression::run(command).await,
            Command::Store(command) => store::run(command).await,
            Command::Validate(args) => validate::run(&args),
            Command::Plan(args) => plan::run(args).await,
            Command::Diff(args) => plan::diff(args).await,
            Command::Simulate(args) => simulate::run(args).await,
            Command::Crds(args) => crds::run(&args),
            Command::Schema(args) => schema::run(&args),
        }
    });
    runtime.shutdown_background();
    say(end)
}

/// The call. As the plugin of kubectl that it is under the name `kubectl-campanile`, it calls itself as people do.
fn parse() -> Cli {
    let called = std::env::args_os().next().map(PathBuf::from);
    let is_plugin = called.as_ref().and_then(|path| path.file_stem()).is_some_and(|name| name == "kubectl-campanile");
    if !is_plugin {
        return Cli::parse();
    }
    let matches = Cli::command().name("kubectl-campanile").bin_name("kubectl campanile").get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// On a laptop warnings are enough: the summary tells the rest. A cluster's logs are read by machines.
fn default_level(command: &Command) -> &'static str {
    if matches!(command, Command::Controller(_) | Command::Worker(_) | Command::Inbound(_)) { "info" } else { "warn" }
}

fn say(end: End) -> ExitCode {
    match end {
        End::Done => ExitCode::SUCCESS,
        End::Failed => ExitCode::from(1),
        End::Refused => ExitCode::from(2),
        End::Wrong(message, hint) => {
            eprintln!("error: {message}");
            hint.iter().for_each(|hint| eprintln!("hint: {hint}"));
            ExitCode::from(2)
        }
    }
}

/// Data for stdout. Who closes it has read enough.
pub(crate) fn put(bytes: &[u8]) -> Result<(), End> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(End::Wrong(error.to_string(), None)),
        _ => Ok(()),
    }
}

impl From<crate::store::Error> for End {
    fn from(error: crate::store::Error) -> Self {
        eprintln!("error: {error}");
        Self::Failed
    }
}

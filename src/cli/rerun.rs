//! `campanile rerun RUN --remaining`: a wrong link was found at 5 %, and the rest shall get the right one.

use clap::Args as ClapArgs;
use serde_json::json;

use super::{
    End,
    home::{StoreArgs, must_be_kept, open_mine},
};
use crate::clock::Clock;

#[derive(ClapArgs)]
pub struct Args {
    run: String,
    /// Those who wait: they are cancelled in the run and enter its successor, as declared now. Nobody gets both.
    #[arg(long, required = true)]
    remaining: bool,
    /// The successor's name.
    #[arg(long)]
    name: Option<String>,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    home: StoreArgs,
}

pub async fn run(args: Args) -> End {
    match ask(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn ask(args: Args) -> Result<End, End> {
    let store = open_mine(&args.home).await?;
    let Some(run) = store.run(&args.namespace, &args.run).await? else {
        let message = format!("there is no run `{}` in namespace {}", args.run, args.namespace);
        return Err(End::Wrong(message, None));
    };
    must_be_kept(&run)?;
    let name = args.name.unwrap_or_else(|| next_name(&run.name));
    let body = json!({"campaign": run.campaign, "of": run.name}).to_string();
    store.request("Rerun", &args.namespace, &name, &body, Clock::system().now()).await?;
    println!("campaignrun.campanile.dev/{name} requested");
    Ok(End::Done)
}

/// `hello-immediate` is followed by `hello-immediate-r2`, and that by `hello-immediate-r3`.
fn next_name(run: &str) -> String {
    match run.rsplit_once("-r").and_then(|(base, n)| Some((base, n.parse::<u32>().ok()?))) {
        Some((base, n)) => format!("{base}-r{}", n.saturating_add(1)),
        None => format!("{run}-r2"),
    }
}

#[cfg(test)]
mod tests {
    use super::next_name;

    #[test]
    fn successors_are_numbered() {
        assert_eq!(next_name("hello-immediate"), "hello-immediate-r2");
        assert_eq!(next_name("hello-immediate-r2"), "hello-immediate-r3");
        assert_eq!(next_name("sale-return"), "sale-return-r2");
    }
}

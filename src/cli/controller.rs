use clap::Args as ClapArgs;

use super::End;

#[derive(ClapArgs)]
pub struct Args {}

pub async fn run(_: Args) -> End {
    End::Done
}

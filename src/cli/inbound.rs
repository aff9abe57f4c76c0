//! `campanile inbound`: a process that only takes what comes back. `run` and `controller` take the same flags.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Args as ClapArgs;
use tokio::net::TcpListener;

use super::{
    End,
    home::{Found, StoreArgs},
    sending::{self, ListenArgs},
    worker::Known,
};
use crate::{
    clock::Clock,
    feedback::{intake::Intake, maildir::Maildir, smtp},
};

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    home: StoreArgs,
    #[command(flatten)]
    listen: ListenArgs,
}

/// How mail about mail comes in.
#[derive(ClapArgs)]
pub struct MailArgs {
    /// Takes bounces and complaints by SMTP on this address.
    #[arg(long, value_name = "ADDR")]
    listen_mail: Option<SocketAddr>,
    /// Reads bounces and complaints from a Maildir, to which another server delivers them. May be given several times.
    #[arg(long, value_name = "DIR")]
    maildir: Vec<PathBuf>,
}

impl MailArgs {
    pub fn is_empty(&self) -> bool {
        self.listen_mail.is_none() && self.maildir.is_empty()
    }

    /// Begins to take mail.
    pub async fn begin(&self, intake: &Intake) -> Result<(), End> {
        for path in &self.maildir {
            let maildir = Maildir::open(path).map_err(|e| End::Wrong(format!("--maildir {e}"), None))?;
            tokio::spawn(maildir.watch(intake.clone()));
        }
        if let Some(address) = self.listen_mail {
            let wrong = |e: std::io::Error| End::Wrong(format!("--listen-mail {address}: {e}"), None);
            let listener = TcpListener::bind(address).await.map_err(wrong)?;
            eprintln!("mail on smtp://{}", listener.local_addr().map_err(wrong)?);
            tokio::spawn(smtp::serve(listener, intake.clone()));
        }
        Ok(())
    }
}

pub async fn run(args: Args) -> End {
    match start(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn start(args: Args) -> Result<End, End> {
    if args.listen.is_empty() {
        let hint = "say --listen, --listen-mail or --maildir".to_owned();
        return Err(End::Wrong("there is nowhere to take anything from".to_owned(), Some(hint)));
    }
    let Found { store, id, cluster, .. } = Found::near(&args.home).await?;
    store.enter(&id, &args.home.environment).await?;
    args.listen.listen(&store, Clock::system(), Arc::new(Known(cluster))).await?;
    tracing::info!("what comes back is taken");
    sending::interrupted().await;
    Ok(End::Done)
}

//! Postfix's `smtp-sink`: a real SMTP server that takes every message and writes it to a file.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::process::{Process, Signal, unprivileged};
use super::{free_port, install, listens, scratch, until};

const START: Duration = Duration::from_secs(30);

/// How many connections may wait to be accepted, so that none is refused while `-m` holds them back.
const BACKLOG: &str = "1000";

/// A message as an SMTP server received it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mail {
    /// The envelope's sender: what MAIL FROM named, empty for a bounce.
    pub from: String,
    /// The envelope's recipients: what each RCPT TO named.
    pub to: Vec<String>,
    /// Headers, an empty line, the body; lines end with `\n`.
    pub text: String,
}

impl Mail {
    /// The value of the first header of that name, unfolded; names are compared as RFC 5322 says, without case.
    pub fn header(&self, name: &str) -> Option<String> {
        let (headers, _) = self.text.split_once("\n\n").unwrap_or((&self.text, ""));
        let unfolded = headers.replace("\n ", " ").replace("\n\t", " ");
        let mut fields = unfolded.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    }
}

/// An SMTP server on 127.0.0.1 that accepts everything, unless its arguments say otherwise.
pub struct SmtpSink {
    port: u16,
    mails: PathBuf,
    log: PathBuf,
    /// Where in the log the tests' connections begin, after our own.
    ours_end: usize,
    arguments: Vec<String>,
    starts: usize,
    /// `None` while it is being started again.
    server: Option<Process>,
}

impl SmtpSink {
    /// `arguments` come before the address: `-f RCPT` refuses recipients, `-w 2` is slow, `-m 3` takes three at once
    /// (see smtp-sink(1)).
    pub async fn start(arguments: &[&str]) -> Result<SmtpSink> {
        let program = tokio::task::spawn_blocking(|| install::program("smtp-sink", "postfix")).await??;
        let folder = scratch::folder_for_nobody("smtp-sink")?;
        let (port, mails, log) = (free_port(), folder.join("mails"), folder.join("log"));
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let mut sink = SmtpSink { port, mails, log, ours_end: 0, arguments, starts: 0, server: None };
        sink.serve(&program).await?;
        sink.ours_end = server_has_forgotten_us(&sink.log).await?;
        Ok(sink)
    }

    async fn serve(&mut self, program: &Path) -> Result<()> {
        let mut command = unprivileged(program);
        // Its log begins each line with the name that it is called by.
        command.arg0("smtp-sink");
        // It names its files by the second it started in, and gives up when too many names are taken.
        self.starts += 1;
        command.args(&self.arguments).arg("-v").arg("-d").arg(self.mails.join(format!("{}.", self.starts)));
        command.args([&format!("127.0.0.1:{}", self.port), BACKLOG]);
        let server = Process::start(&mut command, &self.log, Signal::Kill)?;
        server.ready("smtp-sink", START, || listens(self.port)).await?;
        self.server = Some(server);
        Ok(())
    }

    /// Kills the server and starts it again, on the same port; what it received stays received.
    pub async fn restart(&mut self) -> Result<()> {
        self.server = None;
        let program = tokio::task::spawn_blocking(|| install::program("smtp-sink", "postfix")).await??;
        self.serve(&program).await
    }

    /// How many messages were begun; cheaper than to read them.
    pub fn count(&self) -> usize {
        fs::read_dir(&self.mails).map_or(0, Iterator::count)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The messages received so far, in no particular order.
    ///
    /// A message is there before its client reads the answer to the final dot.
    pub fn mails(&self) -> Result<Vec<Mail>> {
        // The folder comes with the first message.
        let files = fs::read_dir(&self.mails).into_iter().flatten();
        let dumps = files.map(|file| Ok(fs::read(file?.path())?)).collect::<Result<Vec<_>>>()?;
        Ok(dumps.iter().filter_map(|dump| parse(&String::from_utf8_lossy(dump))).collect())
    }

    /// Waits until `count` messages are in, and fails if they are more.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<Mail>> {
        let what = format!("{count} messages");
        let mails = until(&what, limit, || async {
            let mails = self.mails()?;
            ensure!(mails.len() >= count, "{} have come", mails.len());
            Ok(mails)
        });
        let mails = mails.await?;
        ensure!(mails.len() == count, "{} messages have come instead of {count}", mails.len());
        Ok(mails)
    }

    /// How many connections there have been at once, at most, as a provider would count them: a client that closes one
    /// without QUIT and at once opens another may be seen to hold both.
    pub fn connections_max(&self) -> Result<usize> {
        let log = fs::read_to_string(&self.log)?;
        let (mut open, mut most) = (0_usize, 0);
        for line in log.get(self.ours_end..).unwrap_or_default().lines() {
            match line.strip_prefix("smtp-sink: ") {
                Some("disconnect") => open = open.saturating_sub(1),
                Some(event) if event.starts_with("connect (") => open += 1,
                _ => {}
            }
            most = most.max(open);
        }
        Ok(most)
    }
}

/// Waits until smtp-sink has noticed that the connection we tried it with is closed, or it would count as one of the
/// tests'. Returns how long the log is then.
async fn server_has_forgotten_us(log: &Path) -> Result<usize> {
    until("smtp-sink to be idle", START, || async {
        let log = fs::read_to_string(log)?;
        let end = log.find("smtp-sink: disconnect\n").context("it is not idle")?;
        Ok(end + "smtp-sink: disconnect\n".len())
    })
    .await
}

/// Reads a dump (smtp-sink(1), *DUMP FILE FORMAT*), or nothing when it is not whole yet.
fn parse(dump: &str) -> Option<Mail> {
    let dump = dump.strip_suffix("\n\n").map(|text| format!("{text}\n"))?;
    // Its last header of its own is a Received of three lines.
    let (envelope, rest) = dump.split_once("\nReceived: ")?;
    let text = rest.splitn(4, '\n').nth(3)?.to_owned();
    let arguments = |name: &str| {
        let lines = envelope.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(address).collect::<Vec<_>>()
    };
    Some(Mail { from: arguments("X-Mail-Args: ").pop()?, to: arguments("X-Rcpt-Args: "), text })
}

/// What stands between `<` and `>`; parameters such as `BODY=8BITMIME` may follow.
pub fn address(arguments: &str) -> String {
    let inside = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or(arguments, |(address, _)| address).to_owned()
}

//! An SMTP server that fails where a test wants it to.
//!
//! ```ignore
//! let server = FaultyServer::start(vec![
//!     Script::default().nth(Stage::Dot, 2, Fault::HangUp),     // first connection: the second message is in doubt
//!     Script::default().always(Stage::Rcpt, Fault::Reply("450 4.2.1 mailbox busy")),
//! ]);
//! ```
//! It runs on a thread of its own, so that a test may block, for instance while it runs the real binary.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::smtp::{Mail, address};

/// A place in the conversation where the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The greeting, before the client has said anything.
    Connect,
    Hello,
    Auth,
    Mail,
    Rcpt,
    /// The answer to DATA, before the message.
    Data,
    /// The answer to the dot that ends a message; by then the message counts as received.
    Dot,
    Reset,
    Quit,
    /// NOOP and whatever else a client may say.
    Other,
}

/// What the server does instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Says this line. A 421 closes the connection, as RFC 5321 section 3.8 has it.
    Reply(&'static str),
    /// Closes the connection without a word.
    HangUp,
    /// Says nothing more, and keeps the connection open until the client closes it.
    Stall,
    /// Says what no SMTP server says.
    Garbage,
}

/// The faults of one connection; without any, the server accepts everything.
#[derive(Clone, Debug, Default)]
pub struct Script {
    faults: Vec<(Stage, Option<u32>, Fault)>,
}

impl Script {
    /// Fails each time the conversation reaches `stage`.
    pub fn always(mut self, stage: Stage, fault: Fault) -> Script {
        self.faults.push((stage, None, fault));
        self
    }

    /// Fails the `nth` time, counted from 1, that the conversation reaches `stage` on this connection.
    pub fn nth(mut self, stage: Stage, nth: u32, fault: Fault) -> Script {
        self.faults.push((stage, Some(nth), fault));
        self
    }

    fn fault(&self, stage: Stage, time: u32) -> Option<Fault> {
        let applies = |nth: &Option<u32>| nth.is_none_or(|nth| nth == time);
        self.faults.iter().find(|(at, nth, _)| *at == stage && applies(nth)).map(|(_, _, fault)| *fault)
    }
}

/// The server. It ends when dropped.
pub struct FaultyServer {
    port: u16,
    seen: Arc<Seen>,
    /// `Some` until dropped.
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Seen {
    received: Mutex<Vec<Mail>>,
    acknowledged: Mutex<Vec<Mail>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    open_max: AtomicUsize,
}

impl FaultyServer {
    /// Connections follow the scripts in turn; those beyond the last follow the last.
    pub fn start(scripts: Vec<Script>) -> Result<FaultyServer> {
        // One thread, so that nothing comes between a connection's end and its being counted as ended.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build()?;
        // Ours from here on, so it needs no port found free beforehand.
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Seen::default());
        runtime.spawn(accept(listener, scripts, Arc::clone(&seen)));
        Ok(FaultyServer { port, seen, runtime: Some(runtime) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The messages received whole, whatever the client was told; in the order of their final dots.
    pub fn received(&self) -> Vec<Mail> {
        self.seen.received.lock().unwrap().clone()
    }

    /// The messages among them whose client was told 250.
    pub fn acknowledged(&self) -> Vec<Mail> {
        self.seen.acknowledged.lock().unwrap().clone()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many connections there have been at once, at most.
    pub fn connections_max(&self) -> usize {
        self.seen.open_max.load(Ordering::SeqCst)
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would wait, which a test's runtime forbids.
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: std::net::TcpListener, scripts: Vec<Script>, seen: Arc<Seen>) {
    let listener = TcpListener::from_std(listener).expect("a runtime with IO takes a listener that does not block");
    while let Ok((stream, _)) = listener.accept().await {
        let number = seen.connections.fetch_add(1, Ordering::SeqCst);
        let script = scripts.get(number).or(scripts.last()).cloned().unwrap_or_default();
        let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
        seen.open_max.fetch_max(open, Ordering::SeqCst);
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            // An error is a client that went away.
            let _ = Conversation::new(stream, script, &seen).hold().await;
            seen.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Whether the conversation goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Close,
}

struct Conversation<'a> {
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    script: Script,
    times: HashMap<Stage, u32>,
    seen: &'a Seen,
    from: String,
    to: Vec<String>,
}

impl Conversation<'_> {
    fn new(stream: TcpStream, script: Script, seen: &Seen) -> Conversation<'_> {
        let (input, output) = stream.into_split();
        let input = BufReader::new(input);
        Conversation { input, output, script, times: HashMap::new(), seen, from: String::new(), to: Vec::new() }
    }

    async fn hold(mut self) -> Result<()> {
        let mut next = self.speak(Stage::Connect, "220 faulty.test ESMTP").await?;
        while next == Next::GoOn {
            let Some(line) = self.line().await? else { break };
            next = self.obey(&line).await?;
        }
        Ok(())
    }

    async fn obey(&mut self, line: &str) -> Result<Next> {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" | "HELO" => {
                self.speak(
                    Stage::Hello,
                    "250-faulty.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN",
                )
                .await
            }
            "AUTH" => self.speak(Stage::Auth, "235 2.7.0 welcome").await,
            "MAIL" => {
                self.from = address(line);
                self.to.clear();
                self.speak(Stage::Mail, "250 2.1.0 ok").await
            }
            "RCPT" => self.recipient(line).await,
            "DATA" => self.message().await,
            "RSET" => self.speak(Stage::Reset, "250 2.0.0 ok").await,
            "QUIT" => self.speak(Stage::Quit, "221 2.0.0 bye").await.map(|_| Next::Close),
            _ => self.speak(Stage::Other, "250 2.0.0 ok").await,
        }
    }

    async fn recipient(&mut self, line: &str) -> Result<Next> {
        let time = self.times.get(&Stage::Rcpt).map_or(1, |times| times + 1);
        if self.script.fault(Stage::Rcpt, time).is_none() {
            self.to.push(address(line));
        }
        self.speak(Stage::Rcpt, "250 2.1.5 ok").await
    }

    /// A pipelining client sends DATA before it knows whether a recipient was taken.
    async fn message(&mut self) -> Result<Next> {
        if self.to.is_empty() {
            self.say("554 5.5.1 no valid recipients").await?;
            return Ok(Next::GoOn);
        }
        if let Some(fault) = self.fault(Stage::Data) {
            return self.commit(fault).await;
        }
        self.say("354 go ahead").await?;
        let Some(text) = self.text().await? else { return Ok(Next::Close) };
        let mail = Mail { from: std::mem::take(&mut self.from), to: std::mem::take(&mut self.to), text };
        self.seen.received.lock().unwrap().push(mail.clone());
        self.acknowledge(mail).await
    }

    async fn acknowledge(&mut self, mail: Mail) -> Result<Next> {
        if let Some(fault) = self.fault(Stage::Dot) {
            return self.commit(fault).await;
        }
        // Before the answer, so that whoever has read the answer finds the message here.
        self.seen.acknowledged.lock().unwrap().push(mail);
        self.say("250 2.0.0 taken").await?;
        Ok(Next::GoOn)
    }

    /// The lines up to the dot, their own leading dots undone; nothing if the client goes away before.
    async fn text(&mut self) -> Result<Option<String>> {
        let mut text = String::new();
        while let Some(line) = self.line().await? {
            if line == "." {
                return Ok(Some(text));
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push('\n');
        }
        Ok(None)
    }

    /// Says `reply`, or does what the script has for this time.
    async fn speak(&mut self, stage: Stage, reply: &str) -> Result<Next> {
        if let Some(fault) = self.fault(stage) {
            return self.commit(fault).await;
        }
        self.say(reply).await?;
        Ok(Next::GoOn)
    }

    fn fault(&mut self, stage: Stage) -> Option<Fault> {
        let time = self.times.entry(stage).or_default();
        *time += 1;
        self.script.fault(stage, *time)
    }

    async fn commit(&mut self, fault: Fault) -> Result<Next> {
        match fault {
            Fault::Reply(reply) => {
                self.say(reply).await?;
                Ok(if reply.starts_with("421") { Next::Close } else { Next::GoOn })
            }
            Fault::HangUp => Ok(Next::Close),
            Fault::Stall => {
                while self.input.read(&mut [0; 4096]).await? > 0 {}
                Ok(Next::Close)
            }
            Fault::Garbage => {
                self.output.write_all(b"\xff\xfe\x00 2five0 \x1b[31mnot SMTP\r\n").await?;
                Ok(Next::GoOn)
            }
        }
    }

    async fn say(&mut self, reply: &str) -> Result<()> {
        Ok(self.output.write_all(format!("{reply}\r\n").as_bytes()).await?)
    }

    /// A line without its end; nothing when the client has gone away.
    async fn line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        if self.input.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line);
        Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

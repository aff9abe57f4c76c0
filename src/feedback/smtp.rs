//! An SMTP server (RFC 5321) that takes mail about mail and nothing else: it relays nothing and keeps no mail.
//!
//! A mail is answered `250` once what it says is on the disk. Everything has a limit, and the limit is said.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::{intake::Intake, post};

/// Connections at once; the next one is told to come back.
const CONNECTIONS_MAX: usize = 64;
/// RFC 5321, section 4.5.3.1: 512 octets for a command, 1000 for a line of text. Longer lines of text are taken, so long
/// as the mail is not too large: some systems write them.
const COMMAND_BYTES_MAX: usize = 2_048;
/// Of a command that is too long so many pieces are skipped; then the connection is.
const PIECES_MAX: usize = 64;
/// Of a mail; only its beginning is kept.
const MAIL_BYTES_MAX: usize = 50 * 1_024 * 1_024;
const RECIPIENTS_MAX: usize = 100;
/// Commands of one connection, so that nobody holds it for ever.
const COMMANDS_MAX: usize = 1_000;
/// For each command, and for a whole mail.
const COMMAND_WAIT: Duration = Duration::from_secs(60);
const MAIL_WAIT: Duration = Duration::from_secs(300);

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, intake: Intake) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (mut stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a mail connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            let _ = timeout(Duration::from_secs(1), stream.write_all(b"421 4.3.2 Too many connections\r\n")).await;
            continue;
        };
        let intake = intake.clone();
        tokio::spawn(async move {
            let (read, write) = stream.split();
            let session = Session { lines: BufReader::new(read), write, intake, recipients: vec![], has_sender: false };
            // Who goes away in the middle has told nothing.
            let _ = session.run().await;
            drop(place);
        });
    }
}

struct Session<R, W> {
    lines: BufReader<R>,
    write: W,
    intake: Intake,
    has_sender: bool,
    recipients: Vec<String>,
}

/// The connection is over.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<R, W> {
    async fn run(mut self) -> Result<(), Over> {
        self.say("220 campanile ready").await?;
        for _ in 0..COMMANDS_MAX {
            let line = match timeout(COMMAND_WAIT, self.command()).await {
                Ok(line) => line?,
                Err(_) => {
                    self.say("421 4.4.2 Nothing was heard for too long").await?;
                    return Err(Over);
                }
            };
            let Some(line) = line else {
                self.say("500 5.5.6 The line is too long").await?;
                continue;
            };
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => {
                    self.reset();
                    let lines = format!(
                        "250-campanile\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE {MAIL_BYTES_MAX}"
                    );
                    self.say(&lines).await?;
                }
                "HELO" => {
                    self.reset();
                    self.say("250 campanile").await?;
                }
                "MAIL" => self.mail(rest).await?,
                "RCPT" => self.rcpt(rest).await?,
                "DATA" => self.data().await?,
                "RSET" => {
                    self.reset();
                    self.say("250 2.0.0 Ok").await?;
                }
                "NOOP" => self.say("250 2.0.0 Ok").await?,
                "VRFY" => self.say("252 2.5.0 Send it and see").await?,
                "QUIT" => {
                    self.say("221 2.0.0 Bye").await?;
                    return Ok(());
                }
                _ => self.say("500 5.5.1 Not known here").await?,
            }
        }
        self.say("421 4.7.0 Too many commands").await
    }

    fn reset(&mut self) {
        self.has_sender = false;
        self.recipients.clear();
    }

    async fn mail(&mut self, rest: &str) -> Result<(), Over> {
        let size =
            rest.to_ascii_uppercase().split_whitespace().find_map(|word| word.strip_prefix("SIZE=")?.parse().ok());
        if !rest.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("FROM:")) {
            return self.say("501 5.5.4 MAIL FROM:<address>").await;
        }
        if size.is_some_and(|size: usize| size > MAIL_BYTES_MAX) {
            return self.say("552 5.3.4 The mail is too large").await;
        }
        self.reset();
        self.has_sender = true;
        self.say("250 2.1.0 Ok").await
    }

    async fn rcpt(&mut self, rest: &str) -> Result<(), Over> {
        let address = rest.get(..3).filter(|word| word.eq_ignore_ascii_case("TO:")).and(rest.get(3..));
        let address =
            address.and_then(|text| text.trim().strip_prefix('<')?.split_once('>')).map(|(address, _)| address);
        let Some(address) = address.filter(|address| address.len() <= 320) else {
            return self.say("501 5.5.4 RCPT TO:<address>").await;
        };
        if !self.has_sender {
            return self.say("503 5.5.1 MAIL first").await;
        }
        if self.recipients.len() >= RECIPIENTS_MAX {
            return self.say("452 4.5.3 Too many recipients").await;
        }
        self.recipients.push(address.to_owned());
        self.say("250 2.1.5 Ok").await
    }

    async fn data(&mut self) -> Result<(), Over> {
        if self.recipients.is_empty() {
            return self.say("503 5.5.1 RCPT first").await;
        }
        self.say("354 End with a dot on a line of its own").await?;
        let Ok(mail) = timeout_at(Instant::now() + MAIL_WAIT, self.text()).await else {
            self.say("421 4.4.2 The mail took too long").await?;
            return Err(Over);
        };
        let Some(mail) = mail? else {
            // What is left of it is not worth reading.
            self.say("552 5.3.4 The mail is too large").await?;
            return Err(Over);
        };
        let fact = post::fact(&mail, &self.recipients, self.intake.clock.now());
        self.reset();
        match self.intake.tell(vec![fact]).await {
            Ok(_) => self.say("250 2.0.0 Taken").await,
            Err(_) => self.say("451 4.3.0 Not taken now; please send it again").await,
        }
    }

    /// One command; None if it was too long.
    async fn command(&mut self) -> Result<Option<String>, Over> {
        let mut line = vec![];
        let is_whole = self.line(&mut line, COMMAND_BYTES_MAX).await?;
        let mut pieces = 0;
        let mut rest = vec![];
        let mut is_over = is_whole;
        while !is_over {
            pieces += 1;
            if pieces > PIECES_MAX {
                return Err(Over);
            }
            rest.clear();
            is_over = self.line(&mut rest, COMMAND_BYTES_MAX).await?;
        }
        Ok(is_whole.then(|| String::from_utf8_lossy(&line).trim_end().to_owned()))
    }

    /// The text of a mail, its beginning; None if all of it is too large.
    async fn text(&mut self) -> Result<Option<Vec<u8>>, Over> {
        let (mut mail, mut size, mut line) = (vec![], 0, vec![]);
        let mut begins = true;
        loop {
            line.clear();
            // In pieces: a line without an end must not fill the memory.
            let is_whole = self.line(&mut line, COMMAND_BYTES_MAX).await?;
            if begins && line == b".\r\n" {
                return Ok(Some(mail));
            }
            // RFC 5321, section 4.5.2.
            let text = if begins && line.starts_with(b".") { &line[1..] } else { &line[..] };
            size += text.len();
            if size > MAIL_BYTES_MAX {
                return Ok(None);
            }
            mail.extend_from_slice(&text[..text.len().min(post::KEPT_BYTES_MAX - mail.len())]);
            begins = is_whole && line.ends_with(b"\r\n");
        }
    }

    /// Reads to the end of a line or so many bytes; whether its end was read.
    async fn line(&mut self, line: &mut Vec<u8>, bytes_max: usize) -> Result<bool, Over> {
        loop {
            let chunk = self.lines.fill_buf().await?;
            if chunk.is_empty() {
                return Err(Over);
            }
            let room = bytes_max - line.len();
            let end = memchr::memchr(b'\n', chunk).map(|at| at + 1);
            let taken = end.unwrap_or(chunk.len()).min(room);
            line.extend_from_slice(&chunk[..taken]);
            let is_whole = end == Some(taken);
            self.lines.consume(taken);
            if is_whole || line.len() >= bytes_max {
                return Ok(is_whole);
            }
        }
    }

    async fn say(&mut self, text: &str) -> Result<(), Over> {
        let bytes = format!("{text}\r\n");
        timeout(COMMAND_WAIT, self.write.write_all(bytes.as_bytes())).await.map_err(|_| Over)?.map_err(Over::from)
    }
}

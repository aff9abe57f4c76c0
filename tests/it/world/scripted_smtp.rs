//! An SMTP server that follows a script: it refuses, closes, stalls, talks nonsense or breaks TLS at the place it is told to.
//!
//! It counts its connections and keeps what it was given.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

/// What the server does when it is its turn.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Say(&'static str),
    /// Closes the connection.
    Drop,
    /// Says nothing more for as long as the client stays.
    Stall,
}
pub use Act::{Drop as Hangup, Say, Stall};

#[derive(Clone)]
pub struct Script {
    pub greeting: Act,
    pub ehlo: Act,
    pub mail: Act,
    pub rcpt: Act,
    pub data: Act,
    /// Closes in the middle of the content, after about so many bytes.
    pub cut: Option<usize>,
    pub dot: Act,
    pub starttls: Act,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub is_implicit: bool,
    /// Before each answer to a message.
    pub think: Duration,
    /// The connection is closed without a word after so many messages.
    pub messages_max: usize,
    /// More connections at once are greeted with 421.
    pub connections_max: usize,
    /// More messages at once to this domain are told 451.
    pub domain_max: Option<(&'static str, usize)>,
    /// Instead of `mail`, `rcpt`, `data` or `dot`, for the message of that number over all connections.
    pub at: Vec<(usize, Command, Act)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Mail,
    Rcpt,
    Data,
    /// The final dot, or the end of a chunk.
    Dot,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            greeting: Say("220 test"),
            ehlo: Say("250-test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN"),
            mail: Say("250 ok"),
            rcpt: Say("250 ok"),
            data: Say("354 go on"),
            cut: None,
            dot: Say("250 queued as 1"),
            starttls: Say("220 go on"),
            tls: None,
            is_implicit: false,
            think: Duration::ZERO,
            messages_max: usize::MAX,
            connections_max: usize::MAX,
            domain_max: None,
            at: vec![],
        }
    }
}

impl Script {
    /// A server that takes commands before it answers, and chunks if told so.
    pub fn pipelining(has_chunks: bool) -> Self {
        let ehlo = if has_chunks {
            "250-test\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 CHUNKING"
        } else {
            "250-test\r\n250-8BITMIME\r\n250 PIPELINING"
        };
        Self { ehlo: Say(ehlo), ..Self::default() }
    }

    fn act(&self, mail: usize, command: Command) -> Act {
        let told = self.at.iter().find(|(at, of, _)| (*at, *of) == (mail, command));
        told.map_or_else(
            || match command {
                Command::Mail => self.mail,
                Command::Rcpt => self.rcpt,
                Command::Data => self.data,
                Command::Dot => self.dot,
            },
            |(_, _, act)| *act,
        )
    }
}

#[derive(Default)]
pub struct Seen {
    /// MAIL commands over all connections.
    pub mails: AtomicUsize,
    /// Envelopes that had come when the content before them ended.
    pub pipelined: AtomicUsize,
    pub open: AtomicUsize,
    pub open_max: AtomicUsize,
    pub accepted: AtomicUsize,
    /// Messages under way to the domain of `domain_max`.
    pub to_domain: AtomicUsize,
    pub messages: Mutex<Vec<Vec<u8>>>,
    pub commands: Mutex<Vec<String>>,
}

pub struct Server {
    pub port: u16,
    pub seen: Arc<Seen>,
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

impl Server {
    pub fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, script, seen) = (stream.unwrap(), script.clone(), shared.clone());
                seen.accepted.fetch_add(1, SeqCst);
                let open = seen.open.fetch_add(1, SeqCst) + 1;
                seen.open_max.fetch_max(open, SeqCst);
                let script = if open > script.connections_max {
                    Script { greeting: Say("421 too many connections"), ..script }
                } else {
                    script
                };
                thread::spawn(move || {
                    let held = stream.try_clone().unwrap();
                    let _ = serve(stream, &script, &seen);
                    // Counted as closed before the client can know.
                    seen.open.fetch_sub(1, SeqCst);
                    let _ = held.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { port, seen }
    }

    pub fn messages(&self) -> usize {
        self.seen.messages.lock().unwrap().len()
    }

    pub fn said(&self, prefix: &str) -> usize {
        self.seen.commands.lock().unwrap().iter().filter(|c| c.starts_with(prefix)).count()
    }
}

fn serve(mut stream: TcpStream, script: &Script, seen: &Seen) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if script.is_implicit {
        return talk(&mut encrypt(stream, script)?, script, seen, true).map(|_| ());
    }
    if talk(&mut stream, script, seen, false)? {
        talk(&mut encrypt(stream, script)?, script, seen, true)?;
    }
    Ok(())
}

fn encrypt(stream: TcpStream, script: &Script) -> io::Result<rustls::StreamOwned<rustls::ServerConnection, TcpStream>> {
    let config = script.tls.clone().ok_or(io::ErrorKind::Unsupported)?;
    Ok(rustls::StreamOwned::new(rustls::ServerConnection::new(config).unwrap(), stream))
}

fn act(wire: &mut impl Wire, act: Act) -> io::Result<bool> {
    match act {
        Say(text) => {
            wire.write_all(format!("{text}\r\n").as_bytes())?;
            wire.flush()?;
            Ok(!text.starts_with("421"))
        }
        Hangup => Ok(false),
        Stall => {
            let mut rest = [0; 1024];
            while wire.read(&mut rest)? > 0 {}
            Ok(false)
        }
    }
}

/// Answers until the client leaves. True: STARTTLS was agreed on.
fn talk(wire: &mut impl Wire, script: &Script, seen: &Seen, is_encrypted: bool) -> io::Result<bool> {
    if (!is_encrypted || script.is_implicit) && !act(wire, script.greeting)? {
        return Ok(false);
    }
    let mut messages = 0;
    // Which MAIL it is, counted from 1 over all connections; whether its recipient was taken.
    let (mut mail, mut is_wanted) = (0, false);
    let mut at_domain = AtDomain { seen, is_in: false };
    let mut reader = BufReader::with_capacity(1 << 16, wire);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let line = line.trim_end().to_owned();
        seen.commands.lock().unwrap().push(line.clone());
        let verb = line.split([' ', ':']).next().unwrap_or("").to_ascii_uppercase();
        let wire = reader.get_mut();
        let goes_on = match verb.as_str() {
            "EHLO" | "HELO" => act(wire, script.ehlo)?,
            "AUTH" if line.ends_with("LOGIN") => act(wire, Say("334 VXNlcm5hbWU6"))?,
            "AUTH" => act(wire, Say(if line == "AUTH PLAIN AG1lAHNlY3JldA==" { "235 ok" } else { "535 no" }))?,
            "STARTTLS" => {
                if act(wire, script.starttls)? && script.tls.is_some() {
                    return Ok(true);
                }
                matches!(script.starttls, Say(text) if !text.starts_with('2'))
            }
            "MAIL" => {
                mail = seen.mails.fetch_add(1, SeqCst) + 1;
                is_wanted = false;
                act(wire, script.act(mail, Command::Mail))?
            }
            "RCPT" => {
                let mut said = script.act(mail, Command::Rcpt);
                if let Some((domain, max)) = script.domain_max
                    && line.contains(domain)
                    && !at_domain.enters(max)
                {
                    said = Say("451 4.7.1 too many for this domain");
                }
                is_wanted = matches!(said, Say(text) if text.starts_with('2'));
                act(wire, said)?
            }
            "DATA" => {
                let said = script.act(mail, Command::Data);
                let goes_on = act(wire, said)?;
                if goes_on && matches!(said, Say(text) if text.starts_with('3')) {
                    let Some(message) = content(&mut reader, script.cut)? else { return Ok(false) };
                    if reader.buffer().starts_with(b"MAIL FROM:") {
                        seen.pipelined.fetch_add(1, SeqCst);
                    }
                    thread::sleep(script.think);
                    at_domain.leaves();
                    let goes_on = take(&mut reader, message, is_wanted, script.act(mail, Command::Dot), seen)?;
                    messages += 1;
                    goes_on && messages < script.messages_max
                } else {
                    goes_on
                }
            }
            "BDAT" => {
                let length = line.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
                let mut message = vec![0; length];
                if script.cut.is_some_and(|cut| cut < length) {
                    return Ok(false);
                }
                reader.read_exact(&mut message)?;
                if reader.buffer().starts_with(b"RSET\r\nMAIL FROM:") {
                    seen.pipelined.fetch_add(1, SeqCst);
                }
                thread::sleep(script.think);
                // As RFC 3030, section 2 has it: the chunk is read whatever is said to it.
                let refusal = Say("503 no recipient");
                let said = if is_wanted { script.act(mail, Command::Dot) } else { refusal };
                let goes_on = take(&mut reader, message, is_wanted, said, seen)?;
                messages += 1;
                goes_on && messages < script.messages_max
            }
            "RSET" | "NOOP" => act(wire, Say("250 ok"))?,
            "QUIT" => {
                act(wire, Say("221 bye"))?;
                false
            }
            _ => act(wire, Say("500 what?"))?,
        };
        if !goes_on {
            return Ok(false);
        }
    }
}

/// A connection's place among those that carry a message to the scripted domain.
struct AtDomain<'a> {
    seen: &'a Seen,
    is_in: bool,
}

impl AtDomain<'_> {
    fn enters(&mut self, max: usize) -> bool {
        let enter = |n: usize| (n < max).then_some(n + 1);
        self.is_in = self.seen.to_domain.fetch_update(SeqCst, SeqCst, enter).is_ok();
        self.is_in
    }

    fn leaves(&mut self) {
        if std::mem::take(&mut self.is_in) {
            self.seen.to_domain.fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for AtDomain<'_> {
    fn drop(&mut self) {
        self.leaves();
    }
}

/// Keeps a message before it is answered for; one for nobody is not kept.
fn take(
    reader: &mut BufReader<&mut impl Wire>,
    message: Vec<u8>,
    is_wanted: bool,
    said: Act,
    seen: &Seen,
) -> io::Result<bool> {
    if is_wanted {
        seen.messages.lock().unwrap().push(message);
    }
    act(reader.get_mut(), said)
}

/// A message up to its dot; none if the script cuts it.
fn content(reader: &mut impl BufRead, cut: Option<usize>) -> io::Result<Option<Vec<u8>>> {
    let mut message = vec![];
    loop {
        let mut line = vec![];
        if reader.read_until(b'\n', &mut line)? == 0 || cut.is_some_and(|cut| message.len() > cut) {
            return Ok(None);
        }
        if line == b".\r\n" {
            return Ok(Some(message));
        }
        message.extend(line.strip_prefix(b".").unwrap_or(&line));
    }
}

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
    /// So many messages, of all connections, are taken and the connection closed without a word.
    pub dots_lost: usize,
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
            dots_lost: 0,
        }
    }
}

#[derive(Default)]
pub struct Seen {
    pub open: AtomicUsize,
    pub open_max: AtomicUsize,
    pub accepted: AtomicUsize,
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
    let mut reader = BufReader::new(wire);
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
            "MAIL" => act(wire, script.mail)?,
            "RCPT" => act(wire, script.rcpt)?,
            "DATA" => {
                let goes_on = act(wire, script.data)?;
                if goes_on && matches!(script.data, Say(text) if text.starts_with('3')) {
                    let Some(message) = content(&mut reader, script.cut)? else { return Ok(false) };
                    thread::sleep(script.think);
                    let count = {
                        let mut all = seen.messages.lock().unwrap();
                        all.push(message);
                        all.len()
                    };
                    if count <= script.dots_lost {
                        return Ok(false);
                    }
                    messages += 1;
                    act(reader.get_mut(), script.dot)? && messages < script.messages_max
                } else {
                    goes_on
                }
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

//! One connection to a relay: commands and replies, each with its deadline, and the content with its final dot.
//!
//! lettre has such a connection, too, but its `message` does not tell whether the final dot was written when it fails,
//! and that decides between trying again and doubt; when it is given up it waits for QUIT without end; and after
//! STARTTLS it keeps words that came before the handshake. From lettre are the TLS stream and its roots.
//!
//! A command and its reply are two calls, so that several commands can be written before the first reply is read.

#![allow(deprecated, reason = "lettre's stream is public by mistake, says lettre; it is the only way to its TLS")]

use std::{error::Error, io, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use lettre::transport::smtp::client::{AsyncNetworkStream, TlsParameters};
use tokio::{net::TcpStream, time::timeout};

use super::reply::{Garbage, Reply};

/// Long enough for a relay that is alive to take its leave, short enough for nobody to wait for.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 4096;

/// How a dialogue broke off.
#[derive(Debug)]
pub(super) enum Fault {
    /// Closed, reset, or not to be reached.
    Lost(io::Error),
    /// No answer in time.
    Timeout,
    /// The answer is no reply.
    Garbage,
}

impl Fault {
    pub fn text(&self) -> String {
        match self {
            Self::Lost(error) => error.to_string(),
            Self::Timeout => "no answer in time".to_owned(),
            Self::Garbage => "the answer is not SMTP".to_owned(),
        }
    }
}

/// What the server can do, by its answer to EHLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub starttls: bool,
    pub eight_bit: bool,
    pub auth_plain: bool,
    pub auth_login: bool,
}

pub(super) struct Connection {
    stream: AsyncNetworkStream,
    /// Read and not yet understood.
    unread: Vec<u8>,
    pub extensions: Extensions,
    pub messages: u32,
    /// A transaction was refused in its middle: RSET comes before the next.
    pub is_dirty: bool,
}

impl Connection {
    pub async fn open(host: &str, port: u16, wait: Duration) -> Result<Self, Fault> {
        let opening = TcpStream::connect((host, port));
        let stream = timeout(wait, opening).await.map_err(|_| Fault::Timeout)?.map_err(Fault::Lost)?;
        // Commands are small and each waits for its answer: Nagle's algorithm would hold them back.
        stream.set_nodelay(true).map_err(Fault::Lost)?;
        let stream = AsyncNetworkStream::use_existing_tokio1(Box::new(stream));
        Ok(Self { stream, unread: vec![], extensions: Extensions::default(), messages: 0, is_dirty: false })
    }

    /// Goes over to TLS. Afterwards a connection that failed is of no use.
    ///
    /// # Errors
    /// What is wrong with the handshake or the certificate.
    pub async fn encrypt(&mut self, tls: TlsParameters, wait: Duration) -> Result<(), String> {
        // Words in the clear must not be taken for the server's words under TLS (as in CVE-2021-38371).
        if !self.unread.is_empty() {
            return Err("the server spoke between STARTTLS and the handshake".to_owned());
        }
        match timeout(wait, self.stream.upgrade_tls(tls)).await {
            Ok(result) => result.map_err(|error| whole_text(&error)),
            Err(_) => Err("no handshake in time".to_owned()),
        }
    }

    pub fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// EHLO, or HELO with a server that does not know it.
    pub async fn hello(&mut self, name: &str, wait: Duration) -> Result<Reply, Fault> {
        let mut reply = self.ask(&format!("EHLO {name}"), wait).await?;
        self.extensions = Extensions::default();
        if reply.is_done() {
            self.extensions = extensions(&reply);
        } else if reply.is_final() {
            reply = self.ask(&format!("HELO {name}"), wait).await?;
        }
        Ok(reply)
    }

    pub async fn ask(&mut self, command: &str, wait: Duration) -> Result<Reply, Fault> {
        self.write(format!("{command}\r\n").as_bytes(), wait).await?;
        self.reply(wait).await
    }

    /// Hands all bytes over to the system. On a fault the last of them was not.
    pub async fn write(&mut self, bytes: &[u8], wait: Duration) -> Result<(), Fault> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(wait, writing).await.map_err(|_| Fault::Timeout)?.map_err(Fault::Lost)
    }

    /// The deadline is for the whole reply: a server that drips gains nothing.
    pub async fn reply(&mut self, wait: Duration) -> Result<Reply, Fault> {
        let reading = async {
            loop {
                match Reply::take(&mut self.unread) {
                    Ok(Some(reply)) => return Ok(reply),
                    Ok(None) => {}
                    Err(Garbage) => return Err(Fault::Garbage),
                }
                let mut bytes = [0; READ_BYTES];
                match self.stream.read(&mut bytes).await {
                    Ok(0) => return Err(Fault::Lost(io::ErrorKind::UnexpectedEof.into())),
                    Ok(count) => self.unread.extend(&bytes[..count]),
                    Err(error) => return Err(Fault::Lost(error)),
                }
            }
        };
        timeout(wait, reading).await.map_err(|_| Fault::Timeout)?
    }

    /// Takes leave and waits until the server has closed, so that it no longer counts this connection.
    pub async fn quit(mut self) {
        let leaving = async {
            self.ask("QUIT", QUIT_TIMEOUT).await?;
            self.stream.read(&mut [0; 1]).await.map_err(Fault::Lost)
        };
        let _ = timeout(QUIT_TIMEOUT, leaving).await;
    }
}

fn extensions(reply: &Reply) -> Extensions {
    let mut found = Extensions::default();
    // The first line is the server's name.
    for line in reply.lines.iter().skip(1) {
        let line = line.to_ascii_uppercase();
        let mut words = line.split([' ', '=']);
        match words.next() {
            Some("STARTTLS") => found.starttls = true,
            Some("8BITMIME") => found.eight_bit = true,
            Some("AUTH") => words.for_each(|word| {
                found.auth_plain |= word == "PLAIN";
                found.auth_login |= word == "LOGIN";
            }),
            _ => {}
        }
    }
    found
}

/// The message as DATA wants it (RFC 5321, section 4.5.2): leading dots doubled, the final dot at its end.
///
/// Every line ends with CRLF: servers differ in what a bare CR or LF beside a dot means, and one that takes it for the
/// end of the message would read the rest as commands (SMTP smuggling).
pub(super) fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 32 + 5);
    let mut at_start = true;
    let mut bytes = message.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' {
                    bytes.next_if_eq(&b'\n');
                }
                out.extend(b"\r\n");
                at_start = true;
            }
            _ => {
                if byte == b'.' && at_start {
                    out.push(b'.');
                }
                out.push(byte);
                at_start = false;
            }
        }
    }
    if !at_start {
        out.extend(b"\r\n");
    }
    out.extend(b".\r\n");
    out
}

/// An error with its causes: lettre's own say `Connection error` only.
pub(super) fn whole_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_and_lines_end_alike() {
        let of = |text: &str| String::from_utf8(stuffed(text.as_bytes())).unwrap();
        assert_eq!(of("a\r\n.b\r\n"), "a\r\n..b\r\n.\r\n");
        assert_eq!(of(".a\n.\nb"), "..a\r\n..\r\nb\r\n.\r\n");
        assert_eq!(of("a\r.\r\nb\n\r.c"), "a\r\n..\r\nb\r\n\r\n..c\r\n.\r\n");
        assert_eq!(of(""), ".\r\n");
    }

    #[test]
    fn extensions_are_read_from_ehlo() {
        let lines = ["AUTH.example.com", "starttls", "8BITMIME", "AUTH=LOGIN", "AUTH PLAIN XOAUTH2", "SIZE 100"];
        let found = extensions(&Reply { code: 250, lines: lines.map(str::to_owned).to_vec() });
        assert_eq!(found, Extensions { starttls: true, eight_bit: true, auth_plain: true, auth_login: true });
    }
}

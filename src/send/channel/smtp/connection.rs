//! One connection to a relay: bytes out, replies in, each with its deadline.
//!
//! A command and its reply are two calls, so that several commands can be written before the first reply is read.

use std::{io, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::reply::{Garbage, Reply, measure};

/// Long enough for a relay that is alive to take its leave, short enough for nobody to wait for.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 4096;
/// What fits into one record of TLS goes out whole or not at all (RFC 8446, section 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;

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

/// A write that failed, and how much of it may have gone out.
#[derive(Debug)]
pub(super) struct Torn {
    pub written: usize,
    pub fault: Fault,
}

/// What the server can do, by its answer to EHLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub starttls: bool,
    pub eight_bit: bool,
    pub pipelining: bool,
    pub chunking: bool,
    pub auth_plain: bool,
    pub auth_login: bool,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(into).await,
            Self::Tls(stream) => stream.read_buf(into).await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes).await,
            Self::Tls(stream) => stream.write(bytes).await,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush().await,
        }
    }
}

pub(super) struct Connection {
    stream: Stream,
    /// Read; what stands before `at` is understood.
    read: Vec<u8>,
    at: usize,
    pub extensions: Extensions,
}

impl Connection {
    pub async fn open(host: &str, port: u16, wait: Duration) -> Result<Self, Fault> {
        let opening = TcpStream::connect((host, port));
        let stream = timeout(wait, opening).await.map_err(|_| Fault::Timeout)?.map_err(Fault::Lost)?;
        // What is written waits for its answer: Nagle's algorithm would hold it back.
        stream.set_nodelay(true).map_err(Fault::Lost)?;
        Ok(Self { stream: Stream::Plain(stream), read: vec![], at: 0, extensions: Extensions::default() })
    }

    /// Goes over to TLS.
    ///
    /// # Errors
    /// What is wrong with the handshake or the certificate.
    pub async fn encrypt(self, tls: Arc<ClientConfig>, host: &str, wait: Duration) -> Result<Self, String> {
        // Words in the clear must not be taken for the server's words under TLS (as in CVE-2021-38371).
        if self.at < self.read.len() {
            return Err("the server spoke between STARTTLS and the handshake".to_owned());
        }
        let Stream::Plain(stream) = self.stream else { return Ok(self) };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        match timeout(wait, TlsConnector::from(tls).connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Self { stream: Stream::Tls(Box::new(stream)), ..self }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no handshake in time".to_owned()),
        }
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// EHLO, or HELO with a server that does not know it.
    pub async fn hello(&mut self, name: &str, wait: Duration) -> Result<Reply<'static>, Fault> {
        let mut reply = self.ask(&format!("EHLO {name}"), wait).await?;
        self.extensions = Extensions::default();
        if reply.is_done() {
            self.extensions = extensions(&reply);
        } else if reply.is_final() {
            reply = self.ask(&format!("HELO {name}"), wait).await?;
        }
        Ok(reply)
    }

    pub async fn ask(&mut self, command: &str, wait: Duration) -> Result<Reply<'static>, Fault> {
        let command = format!("{command}\r\n");
        self.write(command.as_bytes(), &[], wait).await.map_err(|torn| torn.fault)?;
        Ok(self.reply(wait).await?.into_owned())
    }

    /// Hands all bytes over to the system. `ends` are the places about which a failed write must tell whether the bytes
    /// before them went out.
    pub async fn write(&mut self, bytes: &[u8], ends: &[usize], wait: Duration) -> Result<(), Torn> {
        let mut written = 0;
        let is_encrypted = self.is_encrypted();
        let writing = async {
            while written < bytes.len() {
                let mut stop = bytes.len();
                // A failed write under TLS does not tell how many of its records went out: none may reach over an end.
                if is_encrypted && stop - written > RECORD_BYTES_MAX {
                    stop = ends.iter().copied().find(|end| *end > written).unwrap_or(stop);
                }
                match self.stream.write(&bytes[written..stop]).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => written += count,
                }
            }
            self.stream.flush().await
        };
        let fault = match timeout(wait, writing).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Fault::Lost(error),
            Err(_) => Fault::Timeout,
        };
        Err(Torn { written, fault })
    }

    /// Whether something was read that is not yet understood.
    pub fn has_unread(&self) -> bool {
        self.at < self.read.len()
    }

    /// The deadline is for the whole reply: a server that drips gains nothing.
    pub async fn reply(&mut self, wait: Duration) -> Result<Reply<'_>, Fault> {
        let (code, length) = match measure(&self.read[self.at..]) {
            Ok(Some(found)) => found,
            Ok(None) => timeout(wait, self.read_reply()).await.map_err(|_| Fault::Timeout)??,
            Err(Garbage) => return Err(Fault::Garbage),
        };
        let start = self.at;
        self.at += length;
        Ok(Reply::new(code, &self.read[start..self.at]))
    }

    async fn read_reply(&mut self) -> Result<(u16, usize), Fault> {
        self.read.drain(..self.at);
        self.at = 0;
        loop {
            self.read.reserve(READ_BYTES);
            match self.stream.read(&mut self.read).await {
                Ok(0) => return Err(Fault::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(Fault::Lost(error)),
            }
            match measure(&self.read) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(Garbage) => return Err(Fault::Garbage),
            }
        }
    }

    /// Takes leave and waits until the server has closed, so that it no longer counts this connection.
    pub async fn quit(mut self) {
        let leaving = async {
            self.ask("QUIT", QUIT_TIMEOUT).await?;
            self.stream.read(&mut self.read).await.map_err(Fault::Lost)
        };
        let _ = timeout(QUIT_TIMEOUT, leaving).await;
    }
}

fn extensions(reply: &Reply<'_>) -> Extensions {
    let mut found = Extensions::default();
    // The first line is the server's name.
    for line in reply.lines().skip(1) {
        let line = line.to_ascii_uppercase();
        let mut words = line.split([' ', '=']);
        match words.next() {
            Some("STARTTLS") => found.starttls = true,
            Some("8BITMIME") => found.eight_bit = true,
            Some("PIPELINING") => found.pipelining = true,
            Some("CHUNKING") => found.chunking = true,
            Some("AUTH") => words.for_each(|word| {
                found.auth_plain |= word == "PLAIN";
                found.auth_login |= word == "LOGIN";
            }),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_read_from_ehlo() {
        let reply = b"250-AUTH.example.com\r\n250-starttls\r\n250-8BITMIME\r\n250-AUTH=LOGIN\r\n\
            250-AUTH PLAIN XOAUTH2\r\n250-Pipelining\r\n250 SIZE 100\r\n";
        let found = extensions(&Reply::new(250, reply));
        let expected = Extensions {
            starttls: true,
            eight_bit: true,
            pipelining: true,
            chunking: false,
            auth_plain: true,
            auth_login: true,
        };
        assert_eq!(found, expected);
    }
}

//! `email.smtp`: a relay, over connections that are reused and never more than declared.
//!
//! ```yaml
//! email:
//!   from: "Shop <shop@example.com>"
//!   smtp: {host: smtp.example.com, port: 587, tls: Required, secretRef: {name: smtp-login}}
//! ```
//!
//! The end of the content divides what can go wrong. Before it was written nothing is at stake: a lost connection or a
//! silent server is `Later`. Behind it only a reply says what became of the message; without one it is in doubt. `4xx`
//! is `Later`, `5xx` is `Refused`; what is the operator's to mend (TLS, login, a greeting of `554`) is `Later`, too,
//! since no recipient is at fault.
//!
//! | offered | messages under way over a connection | round trips for each |
//! |---|---|---|
//! | `PIPELINING`, `CHUNKING` | up to four ([`chunks`]) | less than one |
//! | `PIPELINING` | one, and the envelope of the next ([`data`]) | one |
//! | neither | one | four |
//!
//! A message of which nothing was at stake when its connection was lost by another message, or had been closed while it
//! waited, gets another connection, once; then it is `Later`. How many connections are used is the [`relay`]'s matter.

mod chunks;
mod connection;
mod content;
mod data;
mod domains;
mod line;
mod login;
mod opening;
mod relay;
mod reply;
pub(super) mod tls;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;

use self::{
    connection::Fault,
    relay::{Job, Relay},
};
use super::{Channel, Content, Delivery, Done, Envelope, Refusal, detail_about};
use crate::api::channel::Tls;

/// The name in EHLO. An address literal is a valid one (RFC 5321, section 4.1.3).
const HELLO: &str = "[127.0.0.1]";
/// RFC 5321, section 4.5.3.2 asks for five minutes; a relay of one's own that is silent for one is not well.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The wait for the answer to the final dot: RFC 5321 asks for ten minutes, because giving up early makes doubles.
const DATA_TIMEOUT: Duration = Duration::from_secs(600);
/// The longest waits, each for one step.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the TCP connection, and again for the TLS handshake.
    pub connect: Duration,
    /// For the greeting and the answer to each command.
    pub command: Duration,
    /// For the content to be taken, and again for the answer to it.
    pub data: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: CONNECT_TIMEOUT, command: COMMAND_TIMEOUT, data: DATA_TIMEOUT }
    }
}

/// How to reach a relay.
#[derive(Clone)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Open at once, those that wait for the next message included.
    pub connections: usize,
    pub timeouts: Timeouts,
    /// Certificates to trust beside the system's, in PEM.
    pub roots: Vec<Vec<u8>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, tls, login, connections, .. } = self;
        let login = login.as_ref().map(|_| "…");
        write!(f, "Settings {{ {host}:{port}, {tls:?}, login: {login:?}, connections: {connections} }}")
    }
}

pub struct Smtp {
    relay: Arc<Relay>,
}

impl Smtp {
    pub fn new(settings: Settings) -> Self {
        Self { relay: Relay::new(settings) }
    }
}

impl Drop for Smtp {
    /// What was submitted is still delivered.
    fn drop(&mut self) {
        self.relay.close();
    }
}

#[async_trait]
impl Channel for Smtp {
    async fn submit(&self, tag: u64, message: Envelope, done: &UnboundedSender<Done>) {
        let permission = message.permission;
        match message.content {
            Content::Mail(mail) => self.relay.submit(Job::new(tag, (mail, permission), done.clone())).await,
            // Nobody may be left to hear of it.
            _ => drop(done.send(Done { tag, delivery: Delivery::foreign() })),
        }
    }

    fn may_doubt(&self) -> bool {
        true
    }

    fn connections(&self) -> usize {
        self.relay.settings.connections.max(1)
    }
}

/// A fault while nothing is at stake.
fn broken(stage: &str, fault: &Fault) -> Delivery {
    let reason = match fault {
        Fault::Lost(_) => Refusal::ConnectFailed,
        Fault::Timeout => Refusal::Timeout,
        Fault::Garbage => Refusal::ProtocolError,
    };
    later(reason, &format!("{stage}: {}", fault.text()))
}

fn later(reason: Refusal, text: &str) -> Delivery {
    Delivery::later(reason, text)
}

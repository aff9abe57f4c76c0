//! `email.smtp`: a relay, over connections that are reused and never more than declared.
//!
//! ```yaml
//! email:
//!   from: "Shop <shop@example.com>"
//!   smtp: {host: smtp.example.com, port: 587, tls: Required, secretRef: {name: smtp-login}}
//! ```
//!
//! The final dot divides what can go wrong. Before it was written nothing is at stake: a lost connection or a silent
//! server is `Later`. Behind it only a reply says what became of the message; without one it is in doubt. `4xx` is
//! `Later`, `5xx` is `Refused`; what is the operator's to mend (TLS, login, a greeting of `554`) is `Later`, too, since
//! no recipient is at fault.

mod connection;
mod login;
mod pool;
mod reply;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use tokio::sync::OnceCell;

use self::{
    connection::{Connection, Fault, stuffed, whole_text},
    login::login,
    pool::Pool,
    reply::Reply,
};
use super::{Channel, Delivery, Envelope, Refusal, detail, detail_about};
use crate::{api::channel::Tls, send::mime};

/// RFC 5321, section 4.5.3.2 asks for five minutes; a relay of one's own that is silent for one is not well.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The wait for the answer to the final dot: RFC 5321 asks for ten minutes, because giving up early makes doubles.
const DATA_TIMEOUT: Duration = Duration::from_secs(600);
/// A server that closed in the middle of the content may have said why; the words are there already, or never come.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(200);

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
    settings: Settings,
    hello: String,
    /// Reading the system's roots takes milliseconds: once, and only where TLS is spoken.
    tls: OnceCell<TlsParameters>,
    pool: Arc<Pool>,
}

/// How a transaction ended, and what the connection is good for now.
struct Turn {
    delivery: Delivery,
    rest: Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Usable,
    /// Lost or closing, and nothing of the content had been written.
    LostEarly,
    Unusable,
}

impl Smtp {
    pub fn new(settings: Settings) -> Self {
        let pool = Pool::new(settings.connections);
        // An address literal is a valid name (RFC 5321, section 4.1.3); relays that want better are told `hello`.
        Self { settings, hello: "[127.0.0.1]".to_owned(), tls: OnceCell::new(), pool }
    }

    /// The name in EHLO: this host's own, or its address as `[192.0.2.1]`.
    #[must_use]
    pub fn hello(mut self, name: impl Into<String>) -> Self {
        self.hello = name.into();
        self
    }

    /// A connection that is ready for MAIL. The caller holds a permit.
    async fn connect(&self) -> Result<Connection, Delivery> {
        let Settings { host, port, tls, timeouts, .. } = &self.settings;
        let wait = timeouts.command;
        let opened = Connection::open(host, *port, timeouts.connect).await;
        let mut connection = opened.map_err(|fault| broken("connecting", &fault))?;
        if *tls == Tls::Implicit {
            self.encrypt(&mut connection).await?;
        }
        let greeting = connection.reply(wait).await.map_err(|fault| broken("the greeting", &fault))?;
        greeted(greeting)?;
        self.say_hello(&mut connection).await?;
        if matches!(tls, Tls::Required | Tls::Opportunistic) && connection.extensions.starttls {
            // Not even Opportunistic goes on in plain text once TLS was offered: who breaks it off may be an attacker.
            let reply =
                connection.ask("STARTTLS", wait).await.map_err(|fault| later(Refusal::TlsFailed, &fault.text()))?;
            if reply.code != 220 {
                return Err(later(Refusal::TlsFailed, &reply.text()));
            }
            self.encrypt(&mut connection).await?;
            self.say_hello(&mut connection).await?;
        } else if *tls == Tls::Required {
            connection.quit().await;
            return Err(later(Refusal::TlsFailed, "the server offers no STARTTLS and tls is Required"));
        }
        self.log_in(&mut connection).await?;
        Ok(connection)
    }

    async fn say_hello(&self, connection: &mut Connection) -> Result<(), Delivery> {
        let reply = connection.hello(&self.hello, self.settings.timeouts.command).await;
        greeted(reply.map_err(|fault| broken("EHLO", &fault))?)
    }

    async fn encrypt(&self, connection: &mut Connection) -> Result<(), Delivery> {
        let failed = |text: String| later(Refusal::TlsFailed, &text);
        let build = || async {
            let (host, roots) = (self.settings.host.clone(), self.settings.roots.clone());
            let building = tokio::task::spawn_blocking(move || tls_parameters(host, &roots)).await;
            building.unwrap_or_else(|error| Err(error.to_string()))
        };
        let tls = self.tls.get_or_try_init(build).await.map_err(failed)?;
        connection.encrypt(tls.clone(), self.settings.timeouts.connect).await.map_err(failed)
    }

    async fn log_in(&self, connection: &mut Connection) -> Result<(), Delivery> {
        let Some((user, password)) = &self.settings.login else { return Ok(()) };
        // `tls: None` says that the way is safe; without that, taking STARTTLS out of the offer must not win a password.
        if self.settings.tls != Tls::None && !connection.is_encrypted() {
            return Err(later(
                Refusal::AuthFailed,
                "the server offers no STARTTLS, and a login in the clear needs tls: None",
            ));
        }
        match login(connection, user, password, self.settings.timeouts.command).await {
            Ok(Ok(reply)) if reply.is_done() => Ok(()),
            Ok(Ok(reply)) => Err(later(Refusal::AuthFailed, &reply.text())),
            Ok(Err(fault)) => Err(broken("AUTH", &fault)),
            Err(text) => Err(later(Refusal::AuthFailed, text)),
        }
    }

    /// MAIL, RCPT, DATA and the content, up to the answer to the final dot.
    async fn transact(&self, connection: &mut Connection, message: &Envelope) -> Turn {
        let wait = self.settings.timeouts.command;
        let end = |delivery| Turn { delivery, rest: Rest::Usable };
        for (address, reason) in [(&message.from, Refusal::SenderRefused), (&message.to, Refusal::RecipientRefused)] {
            if !mime::is_address(address) {
                return end(Delivery::Refused { reason, detail: "malformed address".to_owned() });
            }
        }
        let is_ascii = message.bytes.is_ascii();
        if !is_ascii && !connection.extensions.eight_bit {
            let detail = "the message has 8-bit content and the server takes none".to_owned();
            return end(Delivery::Refused { reason: Refusal::DataRefused, detail });
        }
        let body = if is_ascii { "" } else { " BODY=8BITMIME" };
        if connection.is_dirty {
            match connection.ask("RSET", wait).await {
                Ok(reply) if reply.is_done() => connection.is_dirty = false,
                Ok(reply) => {
                    return Turn { delivery: later(Refusal::ProtocolError, &reply.text()), rest: Rest::LostEarly };
                }
                Err(fault) => return lost("RSET", &fault),
            }
        }
        let steps = [
            ("MAIL", format!("MAIL FROM:<{}>{body}", message.from), 250, Refusal::SenderRefused),
            ("RCPT", format!("RCPT TO:<{}>", message.to), 250, Refusal::RecipientRefused),
            ("DATA", "DATA".to_owned(), 354, Refusal::DataRefused),
        ];
        for (name, command, expected, reason) in steps {
            connection.is_dirty = true;
            let reply = match connection.ask(&command, wait).await {
                Ok(reply) => reply,
                Err(fault) => return lost(name, &fault),
            };
            if reply.code / 100 != expected / 100 {
                return refused(&reply, reason, message);
            }
        }
        self.content(connection, message).await
    }

    async fn content(&self, connection: &mut Connection, message: &Envelope) -> Turn {
        let wait = self.settings.timeouts.data;
        let unusable = |delivery| Turn { delivery, rest: Rest::Unusable };
        if let Err(fault) = connection.write(&stuffed(&message.bytes), wait).await {
            // The final dot is not out: whatever the server says now, it does not have the message.
            if let (Fault::Lost(_), Ok(reply)) = (&fault, connection.reply(LAST_WORDS_TIMEOUT).await)
                && (reply.is_passing() || reply.is_final())
            {
                return unusable(refused(&reply, Refusal::DataRefused, message).delivery);
            }
            return unusable(broken("the content", &fault));
        }
        let doubt = |text: &str| {
            unusable(Delivery::InDoubt { detail: detail_about(&format!("behind the final dot: {text}"), message) })
        };
        let reply = match connection.reply(wait).await {
            Ok(reply) => reply,
            Err(fault) => return doubt(&fault.text()),
        };
        connection.is_dirty = false;
        if reply.is_done() {
            connection.messages += 1;
            return Turn {
                delivery: Delivery::Sent { receipt: detail_about(&reply.text(), message) },
                rest: Rest::Usable,
            };
        }
        if !reply.is_passing() && !reply.is_final() {
            return doubt(&reply.text());
        }
        let turn = refused(&reply, Refusal::DataRefused, message);
        // The content was at stake: this is the outcome, whatever became of the connection.
        Turn { rest: if turn.rest == Rest::LostEarly { Rest::Unusable } else { turn.rest }, ..turn }
    }
}

#[async_trait]
impl Channel for Smtp {
    async fn deliver(&self, message: &Envelope) -> Delivery {
        let Some(_permit) = self.pool.permit().await else {
            return later(Refusal::ConnectFailed, "the channel is closed");
        };
        let mut reused = self.pool.take().await;
        loop {
            let is_reused = reused.is_some();
            let mut connection = match reused.take() {
                Some(connection) => connection,
                None => match self.connect().await {
                    Ok(connection) => connection,
                    Err(delivery) => return delivery,
                },
            };
            let turn = self.transact(&mut connection, message).await;
            match turn.rest {
                Rest::Usable => self.pool.put(connection).await,
                // The server had closed a connection that waited: its content untouched, the message gets a new one.
                Rest::LostEarly if is_reused => continue,
                Rest::LostEarly | Rest::Unusable => {}
            }
            return turn.delivery;
        }
    }

    async fn submit(
        self: std::sync::Arc<Self>,
        tag: u64,
        message: Envelope,
        done: &tokio::sync::mpsc::UnboundedSender<super::Done>,
    ) {
        let done = done.clone();
        tokio::spawn(async move {
            let delivery = self.deliver(&message).await;
            let _ = done.send(super::Done { tag, delivery });
        });
    }

    fn may_doubt(&self) -> bool {
        true
    }

    fn connections(&self) -> usize {
        self.settings.connections.max(1)
    }
}

fn tls_parameters(host: String, roots: &[Vec<u8>]) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host);
    for root in roots {
        builder = builder.add_root_certificate(Certificate::from_pem(root).map_err(|error| whole_text(&error))?);
    }
    // lettre takes rustls' process default, and ring where there is none; nothing else is compiled in.
    builder.build_rustls().map_err(|error| whole_text(&error))
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

fn lost(stage: &str, fault: &Fault) -> Turn {
    // A server that is silent would be so again; one that closed may only have tired of waiting.
    let rest = if matches!(fault, Fault::Lost(_)) { Rest::LostEarly } else { Rest::Unusable };
    Turn { delivery: broken(stage, fault), rest }
}

/// The answer to the greeting and to EHLO. A refusal here is for every message, so none of them is at fault.
fn greeted(reply: Reply) -> Result<(), Delivery> {
    match reply {
        reply if reply.is_done() => Ok(()),
        reply if reply.is_passing() || reply.is_final() => Err(later(Refusal::ConnectFailed, &reply.text())),
        reply => Err(later(Refusal::ProtocolError, &reply.text())),
    }
}

/// What a reply that is not the expected one means.
fn refused(reply: &Reply, reason: Refusal, message: &Envelope) -> Turn {
    let detail = detail_about(&reply.text(), message);
    // 530 and 538: a login or its protection is missing (RFC 4954, section 6): the operator's to mend.
    let delivery = match reply.code {
        530 | 538 => Delivery::Later { reason: Refusal::AuthFailed, detail },
        500..=599 => Delivery::Refused { reason, detail },
        400..=499 => Delivery::Later { reason, detail },
        _ => Delivery::Later { reason: Refusal::ProtocolError, detail },
    };
    let rest = match reply {
        reply if reply.is_closing() => Rest::LostEarly,
        reply if reply.is_passing() || reply.is_final() => Rest::Usable,
        _ => Rest::Unusable,
    };
    Turn { delivery, rest }
}

fn later(reason: Refusal, text: &str) -> Delivery {
    Delivery::Later { reason, detail: detail(text) }
}

//! `email.smtp`: a relay, over connections that are reused and never more than declared.
//!
//! lettre gives one connection; the pool is ours, because lettre's does not bound what is under way. A permit is held
//! from before connecting until the connection is put back, so the bound holds at every moment.

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use lettre::{
    Address,
    transport::smtp::{
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        commands::{Data, Mail, Rcpt, Rset},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
        response::Response,
    },
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{Channel, Delivery, Envelope, Refusal, detail};
use crate::api::channel::Tls;

/// RFC 5321, section 4.5.3.2 asks for five minutes; a relay of one's own that is silent for one is not well.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The wait for the answer to the final dot: RFC 5321 asks for ten minutes, because giving up early makes doubles.
const DATA_TIMEOUT: Duration = Duration::from_secs(600);
/// Relays close idle connections after a minute or more.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Postfix and others refuse a hundred or more messages on one connection.
const MESSAGES_PER_CONNECTION_MAX: u32 = 100;

#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    pub command: Duration,
    pub data: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: CONNECT_TIMEOUT, command: COMMAND_TIMEOUT, data: DATA_TIMEOUT }
    }
}

/// How to reach a relay.
#[derive(Clone, Debug)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    pub login: Option<(String, String)>,
    pub connections: usize,
    pub timeouts: Timeouts,
    /// Certificates to trust beside the system's, in PEM.
    pub roots: Vec<Vec<u8>>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
    messages: u32,
}

pub struct Smtp {
    settings: Settings,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

impl Smtp {
    pub fn new(settings: Settings) -> Self {
        let permits = Semaphore::new(settings.connections);
        Self { settings, permits, idle: Mutex::new(vec![]) }
    }

    /// A connection that is known to answer, reused or new.
    async fn connection(&self) -> Result<Idle, Delivery> {
        while let Some(mut idle) = self.pop_idle() {
            if idle.since.elapsed() > IDLE_MAX || idle.messages >= MESSAGES_PER_CONNECTION_MAX {
                let _ = timeout(Duration::from_secs(1), idle.connection.quit()).await;
                continue;
            }
            // A relay may have closed it meanwhile; nothing of the message is at stake yet.
            if matches!(timeout(self.settings.timeouts.command, idle.connection.command(Rset)).await, Ok(Ok(_))) {
                return Ok(idle);
            }
        }
        let connection = self.connect().await?;
        Ok(Idle { connection, since: Instant::now(), messages: 0 })
    }

    fn pop_idle(&self) -> Option<Idle> {
        self.idle.lock().ok()?.pop()
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Delivery> {
        let s = &self.settings;
        let tls = self.tls_parameters()?;
        let hello = ClientId::default();
        let implicit = (s.tls == Tls::Implicit).then(|| tls.clone());
        let opening = AsyncSmtpConnection::connect_tokio1((s.host.as_str(), s.port), Some(s.timeouts.connect), &hello, implicit, None);
        let mut connection = match timeout(s.timeouts.connect + s.timeouts.command, opening).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(failed(&error, if error.is_tls() { Refusal::TlsFailed } else { Refusal::ConnectFailed })),
            Err(_) => return Err(later(Refusal::Timeout, "no greeting")),
        };
        let wants_tls = matches!(s.tls, Tls::Required | Tls::Opportunistic);
        if wants_tls && connection.can_starttls() {
            match timeout(s.timeouts.command, connection.starttls(tls, &hello)).await {
                Ok(Ok(())) => {}
                // Not even Opportunistic goes on in plain text once TLS was begun: it may be an attack.
                Ok(Err(error)) => return Err(failed(&error, Refusal::TlsFailed)),
                Err(_) => return Err(later(Refusal::Timeout, "STARTTLS")),
            }
        } else if s.tls == Tls::Required {
            connection.abort().await;
            return Err(later(Refusal::TlsFailed, "the server offers no STARTTLS and tls is Required"));
        }
        if let Some((user, password)) = &s.login {
            let credentials = Credentials::new(user.clone(), password.clone());
            match timeout(s.timeouts.command, connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(failed(&error, Refusal::AuthFailed)),
                Err(_) => return Err(later(Refusal::Timeout, "AUTH")),
            }
        }
        Ok(connection)
    }

    fn tls_parameters(&self) -> Result<TlsParameters, Delivery> {
        let broken = |error: lettre::transport::smtp::Error| later(Refusal::TlsFailed, &error.to_string());
        let mut builder = TlsParameters::builder(self.settings.host.clone());
        for root in &self.settings.roots {
            builder = builder.add_root_certificate(Certificate::from_pem(root).map_err(broken)?);
        }
        builder.build_rustls().map_err(broken)
    }

    /// The transaction up to the answer to the final dot. The flag says whether the connection may be used again.
    async fn transact(&self, connection: &mut AsyncSmtpConnection, message: &Envelope) -> (Delivery, bool) {
        let address = |text: &str| text.parse::<Address>().ok();
        let (Some(from), Some(to)) = (address(&message.from), address(&message.to)) else {
            return (Delivery::Refused { reason: Refusal::RecipientRefused, detail: "malformed address".to_owned() }, true);
        };
        let mut options = vec![];
        if connection.server_info().supports_feature(Extension::EightBitMime) {
            options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let wait = self.settings.timeouts.command;
        if let Err(end) = answered(timeout(wait, connection.command(Mail::new(Some(from), options))).await, Refusal::SenderRefused) {
            return end;
        }
        if let Err(end) = answered(timeout(wait, connection.command(Rcpt::new(to, vec![]))).await, Refusal::RecipientRefused) {
            return end;
        }
        if let Err(end) = answered(timeout(wait, connection.command(Data)).await, Refusal::DataRefused) {
            return end;
        }
        match timeout(self.settings.timeouts.data, connection.message(&message.bytes)).await {
            Ok(Ok(response)) => (Delivery::Sent { receipt: detail(&text_of(&response)) }, true),
            Ok(Err(error)) if error.status().is_some() => {
                let closes = is_closing(&error);
                (failed(&error, Refusal::DataRefused), !closes)
            }
            // The dot may have arrived: nobody can know.
            Ok(Err(error)) => (Delivery::InDoubt { detail: detail(&error.to_string()) }, false),
            Err(_) => (Delivery::InDoubt { detail: "no answer to the message".to_owned() }, false),
        }
    }
}

#[async_trait]
impl Channel for Smtp {
    async fn deliver(&self, message: &Envelope) -> Delivery {
        let Ok(_permit) = self.permits.acquire().await else {
            return later(Refusal::ConnectFailed, "the channel is closed");
        };
        let mut idle = match self.connection().await {
            Ok(idle) => idle,
            Err(delivery) => return delivery,
        };
        let (delivery, is_reusable) = self.transact(&mut idle.connection, message).await;
        if !is_reusable || idle.connection.has_broken() {
            idle.connection.abort().await;
            return delivery;
        }
        idle.messages += 1;
        idle.since = Instant::now();
        if let Ok(mut pool) = self.idle.lock() {
            pool.push(idle);
        }
        delivery
    }

    fn may_doubt(&self) -> bool {
        true
    }

    fn connections(&self) -> usize {
        self.settings.connections
    }
}

type Answer = Result<Result<Response, lettre::transport::smtp::Error>, tokio::time::error::Elapsed>;

/// Before the message's content nothing is in doubt: a lost connection is a failure that may be tried again.
fn answered(answer: Answer, refusal: Refusal) -> Result<(), (Delivery, bool)> {
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            let reusable = error.status().is_some() && !is_closing(&error);
            let refusal = if error.status().is_some() { refusal } else { Refusal::ConnectFailed };
            Err((failed(&error, refusal), reusable))
        }
        Err(_) => Err((later(Refusal::Timeout, "no answer"), false)),
    }
}

fn failed(error: &lettre::transport::smtp::Error, reason: Refusal) -> Delivery {
    let text = detail(&std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}")));
    if error.is_permanent() && reason != Refusal::AuthFailed && reason != Refusal::ConnectFailed {
        return Delivery::Refused { reason, detail: text };
    }
    // A wrong password or a greeting of 554 is the operator's to mend, not the recipient's fault: it is tried again.
    let reason = if error.is_timeout() { Refusal::Timeout } else { reason };
    Delivery::Later { reason, detail: text }
}

fn later(reason: Refusal, text: &str) -> Delivery {
    Delivery::Later { reason, detail: detail(text) }
}

/// 421: the server closes the connection (RFC 5321, section 3.8).
fn is_closing(error: &lettre::transport::smtp::Error) -> bool {
    error.status().is_some_and(|code| u16::from(code) == 421)
}

fn text_of(response: &Response) -> String {
    response.message().collect::<Vec<_>>().join(" ")
}

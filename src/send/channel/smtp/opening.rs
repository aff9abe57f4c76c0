//! From nothing to a connection that is ready for MAIL: greeting, EHLO, STARTTLS, login.

use std::sync::Arc;

use super::{HELLO, broken, connection::Connection, later, login::login, relay::Relay, reply::Reply, tls};
use crate::{
    api::channel::Tls,
    send::channel::{Delivery, Refusal},
};

/// Why there is no connection.
pub(super) struct Unopened {
    pub delivery: Delivery,
    /// The relay has too many of them.
    pub is_busy: bool,
}

impl From<Delivery> for Unopened {
    fn from(delivery: Delivery) -> Self {
        Self { delivery, is_busy: false }
    }
}

impl Relay {
    pub async fn connect(&self) -> Result<Connection, Unopened> {
        let tls = self.settings.tls;
        let wait = self.settings.timeouts.command;
        let opened = Connection::open(&self.settings.host, self.settings.port, self.settings.timeouts.connect).await;
        let mut connection = opened.map_err(|fault| broken("connecting", &fault))?;
        if tls == Tls::Implicit {
            connection = self.encrypt(connection).await?;
        }
        greeted(&connection.reply(wait).await.map_err(|fault| broken("the greeting", &fault))?)?;
        self.say_hello(&mut connection).await?;
        if matches!(tls, Tls::Required | Tls::Opportunistic) && connection.extensions.starttls {
            // Not even Opportunistic goes on in plain text once TLS was offered: who breaks it off may be an attacker.
            let reply = connection.ask("STARTTLS", wait).await;
            let reply = reply.map_err(|fault| later(Refusal::TlsFailed, &fault.text()))?;
            if reply.code != 220 {
                return Err(later(Refusal::TlsFailed, &reply.text()).into());
            }
            connection = self.encrypt(connection).await?;
            self.say_hello(&mut connection).await?;
        } else if tls == Tls::Required {
            connection.quit().await;
            return Err(later(Refusal::TlsFailed, "the server offers no STARTTLS and tls is Required").into());
        }
        self.log_in(&mut connection).await?;
        Ok(connection)
    }

    async fn say_hello(&self, connection: &mut Connection) -> Result<(), Unopened> {
        let reply = connection.hello(HELLO, self.settings.timeouts.command).await;
        greeted(&reply.map_err(|fault| broken("EHLO", &fault))?)
    }

    async fn encrypt(&self, connection: Connection) -> Result<Connection, Delivery> {
        let failed = |text: String| later(Refusal::TlsFailed, &text);
        let build = || async {
            let roots = self.settings.roots.clone();
            let building = tokio::task::spawn_blocking(move || tls::config(&roots).map(Arc::new)).await;
            building.unwrap_or_else(|error| Err(error.to_string()))
        };
        let tls = self.tls.get_or_try_init(build).await.map_err(failed)?;
        let wait = self.settings.timeouts.connect;
        connection.encrypt(tls.clone(), &self.settings.host, wait).await.map_err(failed)
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
}

/// The answer to the greeting and to EHLO. A refusal here is for every message, so none of them is at fault.
fn greeted(reply: &Reply<'_>) -> Result<(), Unopened> {
    let reason = match reply {
        reply if reply.is_done() => return Ok(()),
        reply if reply.is_passing() || reply.is_final() => Refusal::ConnectFailed,
        _ => Refusal::ProtocolError,
    };
    Err(Unopened { delivery: later(reason, &reply.text()), is_busy: reply.is_busy() })
}

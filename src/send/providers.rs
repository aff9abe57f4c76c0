//! Which provider a channel's messages go to: as declared, if the gate is open; else a folder.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use super::{
    channel::{
        Channel,
        exchange::{Exchange, Speaks},
        outbox::Outbox,
        smtp::{Settings, Smtp, Timeouts},
    },
    gate::Gate,
};
use crate::{
    api::{
        ChannelSpec,
        channel::{Sender, Way},
    },
    clock::Clock,
    files::{http::Permit, reach::Reach},
};

/// The values of a Secret.
pub type Secret = BTreeMap<String, String>;

/// Providers that are open, by channel and settings: connections are shared by all runs of the process.
pub struct Providers {
    gate: Gate,
    outbox: PathBuf,
    /// Certificates to trust beside the system's.
    roots: Vec<Vec<u8>>,
    /// Where providers' URLs may lead.
    reach: Arc<Reach>,
    clock: Clock,
    open: Mutex<HashMap<String, Arc<dyn Channel>>>,
    /// Takes every message, in a simulation.
    only: Option<Arc<dyn Channel>>,
}

impl Providers {
    pub fn new(gate: Gate, outbox: PathBuf, roots: Vec<Vec<u8>>, reach: Arc<Reach>, clock: Clock) -> Self {
        Self { gate, outbox, roots, reach, clock, open: Mutex::default(), only: None }
    }

    /// One provider for whatever is declared.
    pub fn only(provider: Arc<dyn Channel>) -> Self {
        let (reach, clock) = (Arc::default(), Clock::system());
        Self { only: Some(provider), ..Self::new(Gate::Live, PathBuf::new(), vec![], reach, clock) }
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether an attempt over this channel can end without anyone knowing its fate.
    pub fn may_doubt(&self, spec: &ChannelSpec) -> bool {
        match &self.only {
            Some(provider) => provider.may_doubt(),
            None => self.gate.is_open() && !matches!(spec.way(), Way::Outbox(_)),
        }
    }

    /// The provider of a channel.
    ///
    /// # Errors
    /// The key that its secret lacks.
    pub fn provider(
        &self,
        namespace: &str,
        name: &str,
        spec: &ChannelSpec,
        secret: Option<&Secret>,
    ) -> Result<Arc<dyn Channel>, String> {
        if let Some(provider) = &self.only {
            return Ok(provider.clone());
        }
        let way = spec.way();
        if !self.gate.is_open() || matches!(way, Way::Outbox(_)) {
            return Ok(Arc::new(Outbox::new(&self.outbox)));
        }
        let secret = match (way.secret(), secret) {
            (None, _) => None,
            (Some(_), Some(secret)) => Some(secret),
            (Some(reference), None) => return Err(format!("there is no Secret `{}`", reference.name)),
        };
        // A rotated password or an edited host makes another pool; the old one ends with its last message.
        let identity = format!("{namespace}/{name} {spec:?} {secret:?}");
        let mut open = self.open.lock().map_err(|_| "the providers are gone".to_owned())?;
        let prefix = format!("{namespace}/{name} ");
        open.retain(|key, _| !key.starts_with(&prefix) || *key == identity);
        if let Some(provider) = open.get(&identity) {
            return Ok(provider.clone());
        }
        let provider = self.connect(namespace, way, usize::from(spec.connections), secret)?;
        open.insert(identity, provider.clone());
        Ok(provider)
    }

    /// A client for a provider that a namespace declares.
    ///
    /// # Errors
    /// If there are no certificates to trust.
    pub fn exchange(&self, namespace: &str, speaks: Speaks) -> Result<Exchange, String> {
        let permit = Permit { reach: self.reach.clone(), namespace: namespace.to_owned(), authorization: None };
        Exchange::new(permit, &self.roots, speaks)
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// One arm for each provider.
    fn connect(
        &self,
        _namespace: &str,
        way: Way<'_>,
        connections: usize,
        secret: Option<&Secret>,
    ) -> Result<Arc<dyn Channel>, String> {
        Ok(match way {
            Way::Outbox(_) => Arc::new(Outbox::new(&self.outbox)),
            Way::Smtp(email) => {
                let login =
                    secret.map(|secret| Ok::<_, String>((value(secret, "username")?, value(secret, "password")?)));
                Arc::new(Smtp::new(Settings {
                    host: email.smtp.host.clone(),
                    port: email.smtp.port,
                    tls: email.smtp.tls,
                    login: login.transpose()?,
                    connections,
                    timeouts: Timeouts::default(),
                    roots: self.roots.clone(),
                }))
            }
        })
    }
}

/// A value of a Secret.
fn value(secret: &Secret, key: &str) -> Result<String, String> {
    secret.get(key).cloned().ok_or_else(|| format!("its secret has no key `{key}`"))
}

/// What a channel puts on every message.
pub struct Letterhead<'a> {
    /// Of mail.
    pub from: &'a str,
    pub reply_to: Option<&'a str>,
    pub sender: Option<&'a Sender>,
}

impl<'a> Letterhead<'a> {
    pub fn of(spec: &'a ChannelSpec) -> Self {
        match spec.way() {
            Way::Smtp(email) => {
                Self { from: &email.from, reply_to: email.reply_to.as_deref(), sender: email.sender.as_ref() }
            }
            Way::Outbox(outbox) => {
                Self { from: &outbox.from, reply_to: outbox.reply_to.as_deref(), sender: outbox.sender.as_ref() }
            }
        }
    }
}

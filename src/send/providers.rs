//! Which provider a channel's messages go to: as declared, if the gate is open; else a folder.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use url::Url;

use super::{
    channel::{
        Channel,
        apns::{self, Apns},
        direct_mail::Together,
        exchange::{Exchange, Speaks},
        fcm::{self, Fcm},
        http::{self, Http},
        jwt::Signer,
        outbox::Outbox,
        posted::Posted,
        smpp::{self, Smpp},
        smtp::{Settings, Smtp, Timeouts},
        twilio::{self, Twilio},
        web_push::{self, WebPush},
    },
    gate::Gate,
};
use crate::{
    api::{
        ChannelSpec,
        channel::{ApnsEnvironment, Sender, SmppTls, Way},
    },
    clock::Clock,
    feedback::texts::Texts,
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
    /// Takes what message centres tell.
    texts: OnceLock<Texts>,
    open: Mutex<HashMap<String, Arc<dyn Channel>>>,
    /// Takes every message, in a simulation.
    only: Option<Arc<dyn Channel>>,
}

impl Providers {
    pub fn new(gate: Gate, outbox: PathBuf, roots: Vec<Vec<u8>>, reach: Arc<Reach>, clock: Clock) -> Self {
        Self { gate, outbox, roots, reach, clock, texts: OnceLock::new(), open: Mutex::default(), only: None }
    }

    /// One provider for whatever is declared.
    pub fn only(provider: Arc<dyn Channel>) -> Self {
        let (reach, clock) = (Arc::default(), Clock::system());
        Self { only: Some(provider), ..Self::new(Gate::Live, PathBuf::new(), vec![], reach, clock) }
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether anything comes back over the connections of this process.
    pub fn can_hear(&self) -> bool {
        self.gate.is_open() && self.only.is_none()
    }

    /// Has what message centres tell taken; those that are bound already are not heard.
    pub fn hear(&self, texts: &Texts) {
        self.texts.get_or_init(|| texts.clone());
    }

    /// Whether an attempt over this channel can end without anyone knowing its fate.
    pub fn may_doubt(&self, spec: &ChannelSpec) -> bool {
        match &self.only {
            Some(provider) => provider.may_doubt(),
            None => self.gate.is_open() && !matches!(spec.way(), Way::Outbox(_) | Way::MailFile(_)),
        }
    }

    /// Whether what makes a file together does so here; a simulation's one provider takes each by itself.
    pub fn makes_files(&self) -> bool {
        self.only.is_none()
    }

    /// Where messages are written that do not leave.
    pub fn outbox(&self) -> &Path {
        &self.outbox
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
        let provider = self.connect((namespace, name), spec, secret)?;
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

    /// Where a provider is: where a channel says, if its namespace may send there, else where everyone finds it.
    fn endpoint(&self, namespace: &str, own: Option<&str>, everyones: &str) -> Result<Url, String> {
        let text = own.unwrap_or(everyones);
        let url = Url::parse(text).map_err(|e| format!("`{text}` is not a URL: {e}"))?;
        if own.is_some() {
            self.reach.check(namespace, &url)?;
        }
        Ok(url)
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// One arm for each provider.
    fn connect(
        &self,
        (namespace, name): (&str, &str),
        spec: &ChannelSpec,
        secret: Option<&Secret>,
    ) -> Result<Arc<dyn Channel>, String> {
        let connections = usize::from(spec.connections);
        // Of requests that share connections, or take one each for a moment.
        let at_once = connections * usize::from(spec.depth);
        Ok(match spec.way() {
            Way::Outbox(_) => Arc::new(Outbox::new(&self.outbox)),
            Way::MailFile(_) => Arc::new(Together),
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
            Way::Smpp(declared) => {
                let secret = secret.ok_or("it has no secret")?;
                let is_encrypted = declared.tls == SmppTls::Implicit;
                let settings = smpp::Settings {
                    host: declared.host.clone(),
                    port: declared.port.unwrap_or(if is_encrypted { smpp::TLS_PORT } else { smpp::PORT }),
                    is_encrypted,
                    system_id: value(secret, "system_id")?,
                    password: value(secret, "password")?,
                    system_type: declared.system_type.clone().unwrap_or_default(),
                    from: declared.from.clone(),
                    connections,
                    depth: usize::from(spec.depth),
                    timeouts: smpp::Timeouts::default(),
                    roots: self.roots.clone(),
                };
                Arc::new(Smpp::new(settings, self.texts.get().map(|texts| texts.of(namespace, name))))
            }
            Way::Twilio(declared) => {
                let secret = secret.ok_or("it has no secret")?;
                let settings = twilio::Settings {
                    account: declared.account_sid.clone(),
                    login: match secret.get("api_key") {
                        Some(key) => (key.clone(), value(secret, "api_key_secret")?),
                        None => (declared.account_sid.clone(), value(secret, "auth_token")?),
                    },
                    sender: match (&declared.from, &declared.messaging_service_sid) {
                        (Some(from), _) => twilio::Sender::From(from.clone()),
                        (None, sid) => twilio::Sender::Service(sid.clone().unwrap_or_default()),
                    },
                    endpoint: self.endpoint(namespace, declared.endpoint.as_deref(), twilio::ENDPOINT)?,
                    callback: twilio_callback((namespace, name), spec),
                    clock: self.clock,
                };
                let exchange = self.exchange(namespace, Speaks::Either)?;
                Arc::new(Posted::new(Twilio::new(settings, exchange), connections))
            }
            Way::WebPush(push) => {
                let secret = secret.ok_or("it has no secret")?;
                let signer = match secret.get("key") {
                    Some(pem) => Signer::es256(pem)?,
                    None => Signer::es256_pair(&value(secret, "private")?, &value(secret, "public")?)?,
                };
                let settings = web_push::Settings { subject: push.subject.clone(), signer, clock: self.clock };
                let exchange = self.exchange(namespace, Speaks::Either)?;
                Arc::new(Posted::new(WebPush::new(settings, exchange), at_once))
            }
            Way::Fcm(push) => {
                let endpoint = self.endpoint(namespace, push.endpoint.as_deref(), fcm::ENDPOINT)?;
                let key = value(secret.ok_or("it has no secret")?, "key")?;
                let settings = fcm::Settings::new(&key, endpoint.as_str(), self.clock)?;
                let exchange = self.exchange(namespace, Speaks::Http2)?;
                Arc::new(Posted::new(Fcm::new(settings, exchange), at_once))
            }
            Way::Apns(push) => {
                let own = match push.environment {
                    ApnsEnvironment::Production => apns::PRODUCTION,
                    ApnsEnvironment::Sandbox => apns::SANDBOX,
                };
                let settings = apns::Settings {
                    team: push.team_id.clone(),
                    key_id: push.key_id.clone(),
                    topic: push.topic.clone(),
                    endpoint: self.endpoint(namespace, push.endpoint.as_deref(), own)?,
                    signer: Signer::es256(&value(secret.ok_or("it has no secret")?, "key")?)?,
                    clock: self.clock,
                };
                let exchange = self.exchange(namespace, Speaks::Http2)?;
                Arc::new(Posted::new(Apns::new(settings, exchange), at_once))
            }
            Way::Http(declared) => {
                self.reach.check(namespace, &http::origin(declared)?)?;
                let secret = secret.cloned().unwrap_or_default();
                let provider = Http::new(declared, secret, self.exchange(namespace, Speaks::Either)?, self.clock)?;
                Arc::new(Posted::new(provider, at_once))
            }
        })
    }
}

/// Nothing is asked for that nobody would take.
fn twilio_callback((namespace, channel): (&str, &str), spec: &ChannelSpec) -> Option<twilio::Callback> {
    spec.callbacks.as_ref()?.twilio.as_ref()?;
    let public_url = spec.public_url.clone()?;
    Some(twilio::Callback { public_url, namespace: namespace.to_owned(), channel: channel.to_owned() })
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
            Way::MailFile(_) => Self {
                from: "",
                reply_to: None,
                sender: spec.direct_mail.as_ref().and_then(|mail| mail.sender.as_ref()),
            },
            Way::Outbox(outbox) => {
                Self { from: &outbox.from, reply_to: outbox.reply_to.as_deref(), sender: outbox.sender.as_ref() }
            }
            Way::Twilio(_) | Way::Smpp(_) | Way::WebPush(_) | Way::Fcm(_) | Way::Apns(_) | Way::Http(_) => {
                Self { from: "", reply_to: None, sender: None }
            }
        }
    }
}

//! What the messages of a channel step of one run have in common, and how one of them is written.
//!
//! A message is written from the pinned revision, what is recorded of it ([`Said`]) and the time of its attempt, and from
//! nothing else: `campanile render --run` gives the same bytes again for as long as the record is kept. A preview and a
//! proof are written by the same code; only that their links withdraw nobody, and that a proof says what it is.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use minijinja::Value;
use ring::hmac;
use sha2::{Digest, Sha256};

use super::{
    channel::{Content, Mail, Notice, Record, Text, Urgency},
    enclosure::MESSAGE_BYTES_MAX,
    mime::{self, Enclosed, dkim::Signer},
    providers::Letterhead,
    said::{self, Said},
    seen::{self, Names},
    template::{Words, with_ids},
};
use crate::{
    api::{medium::Medium, template::Attachment},
    feedback::{
        confirm, preferences,
        reference::{self, Reference, ReferenceKey},
        track::Tracker,
        unsubscribe::{Links, Subscription},
    },
    plan::{
        Bundle, Plan,
        message::{CONFIRM_URL, MessagePlan, PREFERENCES_URL, UNSUBSCRIBE_URL},
    },
    store::{self, campaign::Run},
};

/// RFC 8058, section 2: the one value that this header has.
const ONE_CLICK: &str = "List-Unsubscribe=One-Click";
/// How a proof is told from a message: before its subject, and by a header whose value is the step.
const PROOF: &str = "[proof] ";
const PROOF_HEADER: &str = "X-Campanile-Proof";

/// What messages are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Send,
    /// Nobody gets it.
    Preview,
    /// It goes to who looks at it, and not to the person whom it is about.
    Proof,
}

/// What a message is written in.
#[derive(Clone, Debug)]
pub struct Occasion {
    /// The run's name, as templates read it.
    pub run: String,
    /// The run's nominal time: `now` in templates.
    pub scheduled: Timestamp,
    pub purpose: Purpose,
    /// When they expire; absent where nothing is sent.
    pub expires: Option<Timestamp>,
}

impl Occasion {
    pub fn of(run: &Run) -> Self {
        Self { run: run.name.clone(), scheduled: run.scheduled, purpose: Purpose::Send, expires: None }
    }
}

/// A message's words, and the message as it leaves.
pub struct Written {
    pub words: Words,
    pub content: Content,
}

pub struct Letter {
    pub pinned: Arc<(Bundle, Plan)>,
    pub step_no: i64,
    pub step: String,
    /// Of mail: the address of who writes it.
    from: String,
    purpose: Purpose,
    signer: Option<Signer>,
    names: Arc<Names>,
    /// The values that are the same in every message of the run, behind those of the message.
    words: Vec<Value>,
    /// Where people choose; absent where the template does not say it.
    pages: Option<preferences::Links>,
    /// Where people confirm what they asked for; absent where they are not asked.
    asks: Option<confirm::Links>,
    /// Where people withdraw; absent where there is nothing to withdraw from, or nowhere to.
    links: Option<Links>,
    /// The run's part of a message's reference.
    mark: String,
    references: ReferenceKey,
    /// What its links tell of; absent where nothing is tracked.
    tracker: Option<Tracker>,
    /// Of a push.
    urgency: Urgency,
    /// No attempt starts later, and no device shows it.
    expires: Option<Timestamp>,
    /// Local part and domain of where bounces go.
    return_path: Option<(String, String)>,
    template_hash: String,
    key: hmac::Key,
}

impl Letter {
    /// # Errors
    /// [`store::Error::Internal`] when the pinned revision lacks the step or its channel.
    pub fn new(
        occasion: &Occasion,
        pinned: Arc<(Bundle, Plan)>,
        step_no: i64,
        signer: Option<Signer>,
        secret: &[u8],
    ) -> store::Result<Self> {
        let lost = |what: &str| store::Error::Internal(format!("{what} of run {} is gone", occasion.run));
        let (bundle, plan) = (&pinned.0, &pinned.1);
        let (step, sending) = plan.message_numbered(step_no).ok_or_else(|| lost("a step"))?;
        let spec = bundle.channels.get(&sending.channel).ok_or_else(|| lost("a channel"))?;
        let head = Letterhead::of(spec);
        let from = match sending.medium {
            Medium::Email => mime::address_of(head.from).ok_or_else(|| lost("the sender's address"))?,
            _ => String::new(),
        };
        let names =
            sending.reads.iter().map(|column| &column.names).chain(sending.extras.iter().map(|extra| &extra.name));
        let mut names: Vec<Vec<&str>> = names.map(|names| names.iter().map(String::as_str).collect()).collect();
        names.push(vec![UNSUBSCRIBE_URL]);
        names.push(vec![PREFERENCES_URL]);
        names.push(vec![CONFIRM_URL]);
        let mut words = vec![];
        let mut word = |name: Vec<&'static str>, value: &str| {
            names.push(name);
            words.push(Value::from(value));
        };
        if let Some(sender) = head.sender {
            word(vec!["sender", "name"], &sender.name);
            word(vec!["sender", "address"], &sender.address);
        }
        word(vec!["campaign", "name"], &bundle.name);
        word(vec!["run", "name"], &occasion.run);
        word(vec!["now"], &occasion.scheduled.to_string());
        let names = Names::of(names);
        let links = spec.public_url.as_ref().filter(|_| sending.is_marketing).map(|url| {
            let of = Subscription {
                namespace: bundle.namespace.clone(),
                dataset: bundle.campaign.dataset.to_string(),
                topic: sending.topic.clone(),
                channel: sending.medium.word().to_owned(),
            };
            Links::new(url, of, secret)
        });
        let is_read = sending.template.reads().iter().any(|read| read.names == [PREFERENCES_URL]);
        let pages = spec.public_url.as_ref().filter(|_| is_read).map(|url| {
            let of = (&*bundle.namespace, &*bundle.campaign.dataset);
            preferences::Links::new(url, of, sending.medium.word(), secret)
        });
        let asks = spec.public_url.as_ref().zip(sending.asking.as_ref()).map(|(url, asking)| {
            let of = (&*bundle.namespace, &*bundle.campaign.dataset);
            confirm::Links::new(url, of, (&asking.topic, asking.medium.word()), secret)
        });
        let template = bundle.campaign.steps.get(usize::try_from(step_no).unwrap_or(usize::MAX));
        let template = template.and_then(|step| step.activity.template()).and_then(|name| bundle.templates.get(name));
        let urgency =
            template.and_then(|template| template.push.as_ref()).map_or(Urgency::default(), |push| push.urgency.into());
        let template_hash = digest(&serde_json::to_string(&template).unwrap_or_default(), 8);
        let mark = reference::mark(&bundle.namespace, &occasion.run);
        let references = ReferenceKey::new(secret);
        let tracker = Tracker::new(spec.public_url.as_deref(), &spec.tracking, (&mark, step_no), secret);
        let return_path = spec.email.as_ref().and_then(|email| email.return_path.as_deref()?.rsplit_once('@'));
        let return_path = return_path.map(|(local, domain)| (local.to_owned(), domain.to_owned()));
        let (step, key) = (step.to_owned(), hmac::Key::new(hmac::HMAC_SHA256, secret));
        let purpose = occasion.purpose;
        Ok(Self {
            step,
            step_no,
            from,
            purpose,
            signer,
            names,
            words,
            pages,
            asks,
            links,
            mark,
            references,
            tracker,
            urgency,
            expires: occasion.expires,
            return_path,
            template_hash,
            key,
            pinned,
        })
    }

    /// # Errors
    /// [`store::Error::Internal`] when the pinned revision lacks the step.
    pub fn sending(&self) -> store::Result<&MessagePlan> {
        let found = self.pinned.1.message_numbered(self.step_no);
        found.map(|(_, sending)| sending).ok_or_else(|| store::Error::Internal("a step is gone".to_owned()))
    }

    /// By what the message of a ledger row is named where answers come from.
    pub fn reference(&self, (shard, seq): (i64, i64)) -> String {
        self.references.text(&Reference { step_no: self.step_no, shard, seq, mark: self.mark.clone() })
    }

    /// Where a bounce of the message goes: an address that names it (VERP), if the channel has one.
    pub fn return_path(&self, row: (i64, i64)) -> String {
        match &self.return_path {
            Some((local, domain)) if self.purpose == Purpose::Send => {
                format!("{local}+{}@{domain}", self.reference(row))
            }
            Some((local, domain)) => format!("{local}@{domain}"),
            None => self.from.clone(),
        }
    }

    /// What is kept of a group of messages with their attempts.
    pub fn keep<'a>(&self, messages: impl Iterator<Item = (i64, &'a Said)>) -> store::Result<Option<String>> {
        let kept = said::keep(self.sending()?.record, &self.template_hash, &self.key, messages);
        kept.map_err(|e| store::Error::Internal(e.to_string()))
    }

    /// The message of a ledger row (shard, seq).
    ///
    /// # Errors
    /// Why it cannot be rendered; without personal values.
    pub fn write(&self, row: (i64, i64), profile: Option<&str>, said: &Said, at: Timestamp) -> Result<Content, String> {
        self.written(row, profile, said, at).map(|written| written.content)
    }

    /// The message's words, too.
    ///
    /// # Errors
    /// Why it cannot be rendered; without personal values.
    pub fn written(
        &self,
        row: (i64, i64),
        profile: Option<&str>,
        said: &Said,
        at: Timestamp,
    ) -> Result<Written, String> {
        let sending = self.sending().map_err(|e| e.to_string())?;
        let link = self.links.as_ref().zip(profile).map(|(links, profile)| match self.purpose {
            Purpose::Send => links.to(profile, &said.to),
            Purpose::Preview | Purpose::Proof => links.specimen(),
        });
        let page = self.pages.as_ref().zip(profile).map(|(pages, profile)| match self.purpose {
            Purpose::Send => pages.to(profile, &said.to, said.locale.as_deref()),
            Purpose::Preview | Purpose::Proof => pages.specimen(),
        });
        let ask = self.asks.as_ref().zip(profile).map(|(asks, profile)| match self.purpose {
            Purpose::Send => asks.to(profile, said.locale.as_deref()),
            Purpose::Preview | Purpose::Proof => asks.specimen(),
        });
        let mut values = Vec::with_capacity(said.fields.len() + 3 + self.words.len());
        values.extend(said.fields.iter().cloned());
        values.extend([&link, &page, &ask].map(|link| link.as_deref().map_or(Value::UNDEFINED, Value::from)));
        values.extend(self.words.iter().cloned());
        let mut words = sending.template.render(said.locale.as_deref(), &seen::context(&self.names, values))?;
        if let Some(tracker) = self.tracker.as_ref().filter(|_| self.purpose == Purpose::Send)
            && let Words::Mail { text, html, .. } = &mut words
        {
            let reference = self.reference(row);
            *text = text.take().map(|text| tracker.text(&text, &reference, said.is_tracked));
            *html = html.take().map(|html| tracker.html(&html, &reference, said.is_tracked));
        }
        if self.purpose == Purpose::Proof {
            match &mut words {
                Words::Mail { subject: text, .. } | Words::Text(text) | Words::Push { title: text, .. } => {
                    text.insert_str(0, PROOF);
                }
                Words::Record(_) => {}
            }
        }
        let to = said.to.clone();
        let content = match &words {
            Words::Mail { subject, text, html } => {
                let words = (subject.as_str(), text.as_deref(), html.as_deref());
                Content::Mail(Mail { from: self.return_path(row), bytes: self.mail(row, said, words, link, at)?, to })
            }
            Words::Text(text) => Content::Text(Text { from: None, to, text: text.clone() }),
            Words::Push { title, body, data, collapse } => {
                let (title, body, data, collapse) = (title.clone(), body.clone(), data.clone(), collapse.clone());
                let ttl = self.expires.map_or(sending.expires_after.as_signed(), |expires| expires.duration_since(at));
                let ttl_s = Some(u32::try_from(ttl.as_secs().max(0)).unwrap_or(u32::MAX));
                Content::Push(Notice { to, title, body, data, ttl_s, urgency: self.urgency, collapse })
            }
            Words::Record(values) => Content::Record(Record { to, values: values.clone() }),
        };
        Ok(Written { words, content })
    }

    fn mail(
        &self,
        row: (i64, i64),
        said: &Said,
        (subject, text, html): (&str, Option<&str>, Option<&str>),
        link: Option<String>,
        at: Timestamp,
    ) -> Result<Vec<u8>, String> {
        let sending = self.sending().map_err(|e| e.to_string())?;
        let mut headers = vec![];
        if self.purpose == Purpose::Proof {
            headers.push((PROOF_HEADER, self.step.as_str()));
        }
        let list = link.map(|link| format!("<{link}>"));
        if let Some(list) = &list {
            headers.extend([("List-Unsubscribe", list.as_str()), ("List-Unsubscribe-Post", ONE_CLICK)]);
        }
        let spec = self.pinned.0.channels.get(&sending.channel).ok_or("the channel is not in the revision")?;
        let head = Letterhead::of(spec);
        let domain = self.from.rsplit('@').next().unwrap_or("localhost");
        let message_id = &format!("{}@{domain}", self.reference(row));
        let (from, reply_to) = (head.from, head.reply_to);
        let attached = sending.template.attached(said.locale.as_deref());
        let files = attached.iter().map(|file| self.enclosed(file, domain)).collect::<Result<Vec<_>, _>>()?;
        let shown: Vec<&str> = attached.iter().filter_map(|file| file.inline.as_deref()).collect();
        let html = html.map(|html| if shown.is_empty() { html.into() } else { with_ids(html, &shown, domain).into() });
        let html: Option<&Cow<'_, str>> = html.as_ref();
        let (to, html) = (said.to.as_str(), html.map(|html| &**html));
        let mail = mime::Mail { from, reply_to, to, subject, text, html, message_id, date: at };
        let bytes = mime::bytes_enclosing(&mail, &headers, &files)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(format!("the message is longer than {MESSAGE_BYTES_MAX} bytes"));
        }
        match &self.signer {
            Some(signer) => Ok(signer.sign(&bytes, at)?),
            None => Ok(bytes),
        }
    }

    fn enclosed<'a>(&'a self, file: &'a Attachment, domain: &str) -> Result<Enclosed<'a>, String> {
        let body = file.pinned.as_ref().and_then(|pinned| self.pinned.0.enclosures.get(&pinned.sha256));
        Ok(Enclosed {
            name: &file.name,
            media_type: file.media_type(),
            content_id: file.inline.as_ref().map(|name| format!("{name}@{domain}")),
            body: body.ok_or_else(|| format!("attachment {} is not at hand", file.name))?,
        })
    }
}

fn digest(text: &str, bytes: usize) -> String {
    Sha256::digest(text).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

//! Where everything that comes back is recorded: many facts in one transaction, and who told one is answered when it stands.
//!
//! ```text
//! SMTP, Maildir, callbacks, links ── facts ──> intake ── events, suppression, counts: one commit ──> store
//! ```
//! Who tells waits for the commit: a mail leaves `new/`, a callback is answered 200, once what it says is on the disk. A
//! fact that is told again is known by its id and changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::{
    mail::Class,
    reference::{self, Reference, ReferenceKey},
};
use crate::{
    api::policy::{Suppression, SuppressionScope},
    clock::Clock,
    plan::Bundle,
    send::said,
    store::{
        self, Store, Tx,
        consent::State,
        event::{Event, EventType, MessageKey},
        feedback::{Came, Counted, KeptRun},
        keyed::Keyed,
        ledger::{Part, Topic},
        suppression::{Cause, SoftBounce, Suppressed, WHOLE_STORE},
    },
};

/// Facts of one commit, so that its cost is shared.
const BATCH_MAX: usize = 2_000;
/// Tellers that wait; who comes behind them waits before it is read.
const QUEUE: usize = 1_024;
/// Longer than any message centre tries to deliver a text.
const RECEIPTS_KEPT: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Longer than any replay window may be.
const CALLBACKS_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
const FORGETS_EVERY: Duration = Duration::from_secs(3_600);
const ID_CHARS_MAX: usize = 200;
const URL_CHARS_MAX: usize = 2_000;

/// What somebody tells of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Who tells it, such as `mail` or `twilio`: a word of ours.
    pub source: &'static str,
    pub about: About,
    pub what: Happened,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// One of these texts names it. `id` tells the event from others of the message; `recipient` is whom it was for, as far
    /// as the teller says.
    Message { references: Vec<String>, id: String, recipient: Option<String>, medium: &'static str },
    /// A step of a run, without the person: the run's mark and the step.
    Step { mark: String, step_no: i64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    Delivered,
    Bounced(Class),
    Complained,
    Opened {
        is_machine: bool,
    },
    Clicked {
        url: String,
        is_machine: bool,
    },
    /// Nothing that is an event; the word is counted.
    Nothing(&'static str),
}

impl Happened {
    fn event_type(&self) -> Option<EventType> {
        Some(match self {
            Self::Delivered => EventType::Delivered,
            Self::Bounced(_) => EventType::Bounced,
            Self::Complained => EventType::Complained,
            Self::Opened { .. } => EventType::Opened,
            Self::Clicked { .. } => EventType::Clicked,
            Self::Nothing(_) => return None,
        })
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Nothing(word) => word,
            other => other.event_type().map_or("", EventType::as_str),
        }
    }

    fn is_machine(&self) -> bool {
        matches!(self, Self::Opened { is_machine: true } | Self::Clicked { is_machine: true, .. })
    }
}

/// What became of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Recorded,
    /// It was recorded before, or is nothing to record.
    Known,
    /// Nobody knows which message it is about: why.
    Unknown(&'static str),
}

/// The source of what links tell.
pub const LINK: &str = "link";
/// It names no message.
pub const NO_REFERENCE: &str = "NoReference";
/// It names one, and is not signed by this store.
pub const FORGED: &str = "ForgedReference";
/// The run is not known, or its messages are no longer kept.
pub const UNKNOWN_RUN: &str = "UnknownRun";

/// What a request is remembered by: the same one again is taken no second time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    pub source: String,
    pub id: String,
}

/// What is answered to who tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What became of each fact.
    Taken(Vec<Taken>),
    /// The request was taken before; nothing of it was looked at.
    Replayed,
}

/// Facts that are told together.
struct Told {
    facts: Vec<Fact>,
    once: Option<Once>,
}

type Teller = oneshot::Sender<Result<Answer, String>>;

/// Takes facts. Cloning shares it.
#[derive(Clone)]
pub struct Intake {
    tellers: mpsc::Sender<(Told, Teller)>,
    pub store: Store,
    pub clock: Clock,
}

impl Intake {
    /// Begins to take facts for a store.
    ///
    /// # Errors
    /// Of the store, which keeps what references are signed with.
    pub async fn begin(store: Store, clock: Clock) -> store::Result<Self> {
        let secret = store.secret().await?;
        let desk = Desk {
            store: store.clone(),
            clock,
            key: ReferenceKey::new(&secret),
            addresses: store.address_key().await?,
            runs: HashMap::new(),
            newest: 0,
            policies: HashMap::new(),
        };
        let (tellers, told) = mpsc::channel(QUEUE);
        tokio::spawn(desk.run(told));
        tokio::spawn(forget(store.clone(), clock));
        Ok(Self { tellers, store, clock })
    }

    /// Records facts; the answer comes once they are on the disk.
    ///
    /// # Errors
    /// The store did not take them: nothing of them stands, and they are to be told again.
    pub async fn tell(&self, facts: Vec<Fact>) -> Result<Vec<Taken>, String> {
        match self.ask(Told { facts, once: None }).await? {
            Answer::Taken(taken) => Ok(taken),
            Answer::Replayed => Err("a fact without a request was taken for one".to_owned()),
        }
    }

    /// Records the facts of a request, and in the same transaction that it was taken.
    ///
    /// # Errors
    /// As [`Intake::tell`].
    pub async fn tell_once(&self, facts: Vec<Fact>, once: Once) -> Result<Answer, String> {
        self.ask(Told { facts, once: Some(once) }).await
    }

    async fn ask(&self, told: Told) -> Result<Answer, String> {
        let gone = || "the intake is gone".to_owned();
        let (teller, answered) = oneshot::channel();
        self.tellers.send((told, teller)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// Lets go what nothing asks for any more.
async fn forget(store: Store, clock: Clock) {
    loop {
        let now = clock.now();
        let before = |kept: SignedDuration| now.checked_sub(kept).unwrap_or(Timestamp::MIN);
        let forgotten = async {
            store.forget_receipts(before(RECEIPTS_KEPT)).await?;
            store.forget_soft_bounces(now).await?;
            store.forget_callbacks(before(CALLBACKS_KEPT)).await
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(%error, "old feedback is not forgotten; trying again");
        }
        tokio::time::sleep(FORGETS_EVERY).await;
    }
}

struct Desk {
    store: Store,
    clock: Clock,
    key: ReferenceKey,
    addresses: Keyed,
    /// By mark.
    runs: HashMap<String, Arc<KeptRun>>,
    newest: i64,
    /// By revision.
    policies: HashMap<String, Arc<Pinned>>,
}

/// What a revision says about answers.
struct Pinned {
    suppression: Suppression,
    /// By step: the topic under which a person allows to be told apart by her opens and clicks.
    tracking_topics: BTreeMap<i64, String>,
}

/// Of a batch: what goes into the transaction.
#[derive(Default)]
struct Sheet {
    events: Vec<Event>,
    /// For each event the place of its fact, and its run.
    of: Vec<(usize, Arc<KeptRun>)>,
    links: BTreeMap<Counted, i64>,
    came: BTreeMap<Came, i64>,
    /// Runs of which a status tells more now: namespace and name.
    answered: BTreeSet<(String, String)>,
}

impl Desk {
    async fn run(mut self, mut told: mpsc::Receiver<(Told, Teller)>) {
        while let Some((first, teller)) = told.recv().await {
            let mut count = first.facts.len();
            let (mut all, mut tellers) = (vec![first], vec![teller]);
            while count < BATCH_MAX
                && let Ok((more, teller)) = told.try_recv()
            {
                count += more.facts.len();
                all.push(more);
                tellers.push(teller);
            }
            let answers = self.take(&all).await;
            if let Err(error) = &answers {
                tracing::warn!(%error, "what came back is not recorded; it will be told again");
            }
            let mut answers = answers.map(Vec::into_iter).map_err(|e| e.to_string());
            for teller in tellers {
                let answer = match &mut answers {
                    Ok(answers) => answers.next().ok_or_else(|| "an answer is missing".to_owned()),
                    Err(error) => Err(error.clone()),
                };
                // Who told may be gone; what it told stands.
                let _ = teller.send(answer);
            }
        }
    }

    /// One transaction for all that is told; the answers in the same order.
    async fn take(&mut self, all: &[Told]) -> store::Result<Vec<Answer>> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let requests = all.iter().filter_map(|told| told.once.as_ref());
        let requests: Vec<(&str, &str)> = requests.map(|once| (&*once.source, &*once.id)).collect();
        let mut fresh = tx.remember_callbacks(&requests, now).await?;
        let is_taken: Vec<bool> = all
            .iter()
            .map(|told| told.once.as_ref().is_none_or(|once| fresh.remove(&(once.source.clone(), once.id.clone()))))
            .collect();
        let facts: Vec<&Fact> =
            all.iter().zip(&is_taken).filter(|(_, is_taken)| **is_taken).flat_map(|(told, _)| &told.facts).collect();
        let mut taken = self.record(&mut tx, &facts, now).await?.into_iter();
        tx.commit().await?;
        let answer = |(told, is_taken): (&Told, &bool)| {
            if *is_taken { Answer::Taken(taken.by_ref().take(told.facts.len()).collect()) } else { Answer::Replayed }
        };
        Ok(all.iter().zip(&is_taken).map(answer).collect())
    }

    async fn record(&mut self, tx: &mut Tx, facts: &[&Fact], now: Timestamp) -> store::Result<Vec<Taken>> {
        let mut taken = vec![Taken::Known; facts.len()];
        let mut sheet = Sheet::default();
        for (at, fact) in facts.iter().enumerate() {
            let unknown = self.enter(at, fact, now, &mut sheet).await?;
            if let Some(reason) = unknown {
                taken[at] = Taken::Unknown(reason);
            }
            let came = Came {
                source: fact.source.to_owned(),
                told: fact.what.word().to_owned(),
                reason: unknown.unwrap_or_default().to_owned(),
            };
            *sheet.came.entry(came).or_default() += 1;
        }
        self.keep_apart(tx, &mut sheet).await?;
        let is_new = tx.record_events(&sheet.events).await?;
        let new = sheet.events.iter().zip(&is_new).filter(|(_, is_new)| **is_new).map(|(event, _)| event);
        tx.note_events(new, now).await?;
        for ((event, (at, run)), _) in sheet.events.iter().zip(&sheet.of).zip(&is_new).filter(|(_, is_new)| **is_new) {
            taken[*at] = Taken::Recorded;
            sheet.answered.insert((run.namespace.clone(), run.name.clone()));
            self.suppress(tx, event, facts[*at], run).await?;
        }
        tx.add_links(&sheet.links).await?;
        tx.add_came(&sheet.came).await?;
        for (namespace, run) in &sheet.answered {
            tx.ask_for_look(namespace, run, now).await?;
        }
        Ok(taken)
    }

    /// Finds what a fact is about. Some: why nobody knows.
    async fn enter(
        &mut self,
        at: usize,
        fact: &Fact,
        now: Timestamp,
        sheet: &mut Sheet,
    ) -> store::Result<Option<&'static str>> {
        let Some(ty) = fact.what.event_type() else { return Ok(None) };
        let (references, id) = match &fact.about {
            About::Step { mark, step_no } => {
                let Some(run) = self.run_of(mark).await? else { return Ok(Some(UNKNOWN_RUN)) };
                let part = Part { run_day: run.run_day, run_no: run.no, step_no: *step_no, shard: 0 };
                let url = match &fact.what {
                    Happened::Clicked { url, .. } => clean(&bare(url), URL_CHARS_MAX),
                    _ => String::new(),
                };
                let counted = Counted { part, ty, url, is_machine: fact.what.is_machine() };
                *sheet.links.entry(counted).or_default() += 1;
                sheet.answered.insert((run.namespace.clone(), run.name.clone()));
                return Ok(None);
            }
            About::Message { references, id, .. } => (references, id),
        };
        let reference = references.iter().find_map(|text| self.key.read(text));
        let Some(reference) = reference else {
            return Ok(Some(if references.is_empty() { NO_REFERENCE } else { FORGED }));
        };
        let Some(run) = self.run_of(&reference.mark).await? else { return Ok(Some(UNKNOWN_RUN)) };
        let Reference { step_no, shard, seq, .. } = reference;
        let part = Part { run_day: run.run_day, run_no: run.no, step_no, shard };
        let (reason, url) = match &fact.what {
            Happened::Bounced(class) => (Some(class.as_str().to_owned()), None),
            Happened::Clicked { url, .. } => (None, Some(clean(url, URL_CHARS_MAX))),
            _ => (None, None),
        };
        sheet.events.push(Event {
            message: MessageKey { part, seq },
            id: clean(id, ID_CHARS_MAX),
            ty,
            // Others' clocks are wrong; nothing happened before it could be told.
            at: fact.at.min(now),
            reason,
            url,
            is_machine: fact.what.is_machine(),
        });
        sheet.of.push((at, run));
        Ok(None)
    }

    /// The run of a mark. Runs that came since the last look are read once one is not known.
    async fn run_of(&mut self, mark: &str) -> store::Result<Option<Arc<KeptRun>>> {
        if let Some(run) = self.runs.get(mark) {
            return Ok(Some(run.clone()));
        }
        for run in self.store.kept_runs(self.newest).await? {
            self.newest = self.newest.max(run.no);
            self.runs.insert(reference::mark(&run.namespace, &run.name), Arc::new(run));
        }
        Ok(self.runs.get(mark).cloned())
    }

    async fn pinned(&mut self, run: &KeptRun) -> store::Result<Arc<Pinned>> {
        if let Some(pinned) = self.policies.get(&run.revision) {
            return Ok(pinned.clone());
        }
        let text = self.store.revision(&run.revision).await?;
        // A revision of an earlier version that cannot be read any more has the defaults.
        let bundle = text.and_then(|text| serde_json::from_str::<Bundle>(&text).ok());
        let pinned = Arc::new(bundle.map_or_else(
            || Pinned { suppression: Suppression::default(), tracking_topics: BTreeMap::new() },
            |bundle| Pinned { suppression: bundle.suppression(), tracking_topics: bundle.tracking_topics() },
        ));
        self.policies.insert(run.revision.clone(), pinned.clone());
        Ok(pinned)
    }

    /// Opens and clicks of a person who has not agreed to that, or not any more, are counted without her, whoever tells them.
    async fn keep_apart(&mut self, tx: &mut Tx, sheet: &mut Sheet) -> store::Result<()> {
        let (events, of) = (std::mem::take(&mut sheet.events), std::mem::take(&mut sheet.of));
        for (event, (at, run)) in events.into_iter().zip(of) {
            if matches!(event.ty, EventType::Opened | EventType::Clicked) {
                let pinned = self.pinned(&run).await?;
                let topic = pinned.tracking_topics.get(&event.message.part.step_no);
                let profile = tx.profile_of(event.message).await?;
                let is_granted = match topic.zip(profile.as_deref()) {
                    Some((topic, profile)) => {
                        let (namespace, dataset) = (&*run.namespace, &*run.dataset);
                        let topic = Topic { namespace, dataset, topic, channel: "email" };
                        tx.newest_state(topic, profile).await? == Some(State::Granted)
                    }
                    None => false,
                };
                if !is_granted {
                    let part = Part { shard: 0, ..event.message.part };
                    let url = event.url.as_deref().map(bare).unwrap_or_default();
                    let counted = Counted { part, ty: event.ty, url, is_machine: event.is_machine };
                    *sheet.links.entry(counted).or_default() += 1;
                    sheet.answered.insert((run.namespace.clone(), run.name.clone()));
                    continue;
                }
            }
            sheet.events.push(event);
            sheet.of.push((at, run));
        }
        Ok(())
    }

    async fn suppress(&mut self, tx: &mut Tx, event: &Event, fact: &Fact, run: &KeptRun) -> store::Result<()> {
        let About::Message { recipient, medium, .. } = &fact.about else { return Ok(()) };
        let (cause, is_soft) = match &fact.what {
            Happened::Bounced(class) if class.is_hard() => (Cause::HardBounce, false),
            Happened::Bounced(class) if class.is_soft() => (Cause::SoftBounces, true),
            Happened::Complained => (Cause::Complaint, false),
            _ => return Ok(()),
        };
        // Where it was sent to is surer than where a report says that it went.
        let kept = tx.last_said(event.message).await?;
        let sent_to = kept.and_then(|kept| said::find(&kept, event.message.seq)).map(|said| said.to);
        let Some(address) = sent_to.as_ref().or(recipient.as_ref()) else { return Ok(()) };
        let hash = self.addresses.of_address(address);
        let pinned = self.pinned(run).await?;
        let policy = &pinned.suppression;
        let is_store = policy.scope == SuppressionScope::Store;
        let mut until = None;
        if is_soft {
            let Event { message: MessageKey { part, seq }, id, at, .. } = event;
            let id = format!("{}.{}.{}.{seq}.{id}", part.run_no, part.step_no, part.shard);
            let bounce = SoftBounce { namespace: &run.namespace, medium, hash: &hash, id: &id, at: *at };
            if !tx.count_soft_bounce(&bounce, is_store, &policy.soft_bounces).await? {
                return Ok(());
            }
            until = event.at.checked_add(policy.soft_bounces.suppress_for.as_signed()).ok();
        }
        let namespace = if is_store { WHOLE_STORE.to_owned() } else { run.namespace.clone() };
        let medium = (*medium).to_owned();
        tx.suppress(&[Suppressed { namespace, medium, hash, cause, since: event.at, until }]).await
    }
}

/// A link without what may tell people apart.
fn bare(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// Fit for both databases, and bounded: what came from outside must not break a batch.
fn clean(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

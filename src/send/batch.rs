//! One batch: read its rows, decide who may get the message now, commit the attempts, deliver, record.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use minijinja::Value;
use sha2::{Digest, Sha256};

use super::{
    channel::{Channel, Delivery, Envelope},
    gate::Gate,
    mime,
    providers::Letterhead,
};
use crate::{
    clock::Clock,
    plan::{
        Bundle, Plan,
        message::{Column, EmailPlan},
    },
    rule::schema::FieldType,
    store::{
        self, Row, Sql, Store,
        campaign::Run,
        ledger::{Batch, Deferral, Outcome, Recorded, Topic},
        merge::decimal_text,
    },
};

/// The first retry comes after this, each further one after twice the time.
const RETRY_FIRST: SignedDuration = SignedDuration::from_secs(30);
const RETRY_MAX: SignedDuration = SignedDuration::from_hours(1);
/// A store that does not take outcomes is asked again until it does: they are the only trace of what was sent.
const RECORD_RETRY: Duration = Duration::from_millis(500);

/// Everything a batch needs to be sent.
pub struct Job<'a> {
    pub store: &'a Store,
    pub clock: &'a Clock,
    pub gate: &'a Gate,
    pub run: &'a Run,
    pub bundle: &'a Bundle,
    pub plan: &'a Plan,
    pub step: &'a str,
    pub email: &'a EmailPlan,
    pub expires: Timestamp,
    pub provider: Arc<dyn Channel>,
}

/// A message that may go now.
struct Ready {
    seq: i64,
    item: String,
    attempt: i64,
    to: String,
    locale: Option<String>,
    context: Value,
}

impl Job<'_> {
    /// Works through a batch. False if it may not be sent now; it is then given back.
    pub async fn run(&self, batch: &Batch, is_taken_over: bool) -> store::Result<bool> {
        let mut tx = self.store.begin().await?;
        if !tx.may_send(batch).await? {
            tx.release_batch(batch).await?;
            tx.commit().await?;
            return Ok(false);
        }
        let now = self.clock.now();
        let mut ended = vec![];
        if is_taken_over && self.provider.may_doubt() {
            ended = tx
                .unknown_fates(batch)
                .await?
                .into_iter()
                .map(|(seq, item)| in_doubt(seq, item, "the worker stopped"))
                .collect();
            tx.put_outcomes(batch, &ended, now).await?;
        }
        let skip: Vec<i64> = ended.iter().map(|r| r.seq).collect();
        let rows = tx.fetch(self.waiting(batch)?).await?;
        let (mut ready, mut excluded) = (vec![], vec![]);
        for row in &rows {
            match self.decide(row, now)? {
                Ok(message) if !skip.contains(&message.seq) => ready.push(message),
                Err(record) if !skip.contains(&record.seq) => excluded.push(record),
                _ => {}
            }
        }
        tx.put_outcomes(batch, &excluded, now).await?;
        let attempts: Vec<(i64, i64)> = ready.iter().map(|m| (m.seq, m.attempt)).collect();
        tx.put_attempts(batch, &attempts, now).await?;
        tx.commit().await?;
        let deliveries = self.deliver(batch, ready).await;
        self.record(batch, deliveries).await
    }

    fn waiting(&self, batch: &Batch) -> store::Result<Sql> {
        let dialect = self.plan.dialect;
        let lost = || store::Error::Internal(format!("{} is not in the pinned dataset", self.email.entity));
        let entity = self.bundle.dataset.entities.iter().find(|e| *e.name == *self.email.entity).ok_or_else(lost)?;
        let topic = Topic {
            namespace: &self.bundle.namespace,
            dataset: &self.bundle.campaign.dataset,
            topic: &self.email.topic,
            channel: "email",
        };
        let set = batch.waiting(entity, topic, dialect);
        let carried = ["seq", "item", "profile", "attempts", "granted"];
        let select = self.email.skinny(&self.plan.schema, dialect, set, &carried).ok_or_else(lost)?;
        Sql::query(&select, dialect)
    }

    /// Whether a message may go now, or how it ends. Consent is read here, at every attempt.
    fn decide(&self, row: &Row, now: Timestamp) -> store::Result<Result<Ready, Recorded>> {
        let (seq, item): (i64, String) = (row.get(0)?, row.get(1)?);
        let (attempts, granted): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
        let end = |outcome: Outcome, reason: &str| {
            let reason = Some(reason.to_owned());
            Ok(Err(Recorded { seq, item: item.clone(), outcome, reason, detail: None }))
        };
        if now > self.expires {
            return end(Outcome::Expired, "Expired");
        }
        if self.email.is_marketing && !granted.map_or(self.email.is_in_by_default, |g| g == 1) {
            return end(Outcome::Excluded, "NoConsent");
        }
        let address = row.get::<Option<String>>(5)?.unwrap_or_default();
        let address = address.trim_matches(' ');
        if address.is_empty() {
            return end(Outcome::Excluded, "NoAddress");
        }
        if !mime::is_address(address) {
            return end(Outcome::Excluded, "MalformedAddress");
        }
        let Some(to) = self.gate.pass(address) else { return end(Outcome::Excluded, "NotAllowed") };
        let context = self.context(row)?;
        let (to, locale) = (to.to_owned(), row.get(6)?);
        Ok(Ok(Ready { seq, item, attempt: attempts.unwrap_or(0) + 1, to, locale, context }))
    }

    /// What the template sees: the columns it reads, nested by their names, and the run's own words.
    fn context(&self, row: &Row) -> store::Result<Value> {
        let mut tree = Tree::default();
        for (index, column) in self.email.reads.iter().enumerate() {
            let names: Vec<&str> = column.names.iter().map(String::as_str).collect();
            tree.put(&names, value_of(row, 7 + index, column)?);
        }
        let spec = self.bundle.channels.get(&self.email.channel);
        if let Some(sender) = spec.and_then(|s| Letterhead::of(s).sender) {
            tree.put(&["sender", "name"], Value::from(sender.name.as_str()));
            tree.put(&["sender", "address"], Value::from(sender.address.as_str()));
        }
        tree.put(&["campaign", "name"], Value::from(self.bundle.name.as_str()));
        tree.put(&["run", "name"], Value::from(self.run.name.as_str()));
        tree.put(&["now"], Value::from(self.run.scheduled.to_string()));
        Ok(tree.value())
    }

    async fn deliver(&self, batch: &Batch, ready: Vec<Ready>) -> Vec<(Ready, Result<Delivery, String>)> {
        let deliveries: Vec<_> = ready.into_iter().map(|message| self.deliver_one(batch, message)).collect();
        futures::stream::iter(deliveries).buffer_unordered(self.provider.connections()).collect().await
    }

    async fn deliver_one(&self, batch: &Batch, message: Ready) -> (Ready, Result<Delivery, String>) {
        let delivery = match self.envelope(batch, &message) {
            Ok(envelope) => Ok(self.provider.deliver(&envelope).await),
            Err(reason) => Err(reason),
        };
        (message, delivery)
    }

    fn envelope(&self, batch: &Batch, message: &Ready) -> Result<Envelope, String> {
        let rendered = self.email.template.render(message.locale.as_deref(), &message.context)?;
        let spec = self.bundle.channels.get(&self.email.channel).ok_or("the channel is not in the revision")?;
        let head = Letterhead::of(spec);
        let from = mime::address_of(head.from).ok_or("from is not an address")?;
        let id = format!("{}-{}-{}", self.step, batch.shard, message.seq);
        let domain = from.rsplit('@').next().unwrap_or("localhost");
        let run: String = Sha256::digest(format!("{}/{}", self.run.namespace, self.run.name))
            .iter()
            .take(6)
            .map(|b| format!("{b:02x}"))
            .collect();
        let message_id = format!("{}.{}.{}.{run}@{domain}", batch.step_no, batch.shard, message.seq);
        let mail = mime::Mail {
            from: head.from,
            reply_to: head.reply_to,
            to: &message.to,
            subject: &rendered.subject,
            text: rendered.text.as_deref(),
            html: rendered.html.as_deref(),
            message_id: &message_id,
            date: self.clock.now(),
        };
        let folder: PathBuf =
            [self.run.namespace.as_str(), self.run.campaign.as_str(), self.run.name.as_str()].iter().collect();
        Ok(Envelope { id, from, to: message.to.clone(), bytes: mime::bytes(&mail)?, folder })
    }

    /// Appends the outcomes. They are kept until the store takes them, or the process dies and they are in doubt.
    async fn record(&self, batch: &Batch, deliveries: Vec<(Ready, Result<Delivery, String>)>) -> store::Result<bool> {
        let now = self.clock.now();
        let (mut outcomes, mut deferrals) = (vec![], vec![]);
        for (message, delivery) in deliveries {
            match self.judge(message, delivery, now) {
                Ok(outcome) => outcomes.push(outcome),
                Err(deferral) => deferrals.push(deferral),
            }
        }
        loop {
            match self.try_record(batch, &outcomes, &deferrals, now).await {
                Err(error) if error.is_passing() => {
                    tracing::warn!(run = self.run.name, %error, "the store does not take outcomes; trying again");
                    tokio::time::sleep(RECORD_RETRY).await;
                }
                other => return other,
            }
        }
    }

    async fn try_record(
        &self,
        batch: &Batch,
        outcomes: &[Recorded],
        deferrals: &[Deferral],
        now: Timestamp,
    ) -> store::Result<bool> {
        let mut tx = self.store.begin().await?;
        if !tx.close_batch(batch).await? {
            // Another worker took the batch over: it has made these messages `InDoubt`, and that stands.
            return Ok(false);
        }
        tx.put_outcomes(batch, outcomes, now).await?;
        tx.put_deferrals(batch, deferrals).await?;
        tx.commit().await?;
        Ok(true)
    }

    fn judge(&self, message: Ready, delivery: Result<Delivery, String>, now: Timestamp) -> Result<Recorded, Deferral> {
        let Ready { seq, item, attempt, .. } = message;
        let record = |outcome, reason: Option<&str>, detail: String| {
            let detail = (!detail.is_empty()).then_some(detail);
            Ok(Recorded { seq, item: item.clone(), outcome, reason: reason.map(str::to_owned), detail })
        };
        match delivery {
            Ok(Delivery::Sent { receipt }) => record(Outcome::Sent, None, receipt),
            Ok(Delivery::Refused { reason, detail }) => record(Outcome::Failed, Some(reason.as_str()), detail),
            Ok(Delivery::InDoubt { detail }) => record(Outcome::InDoubt, Some("InDoubt"), detail),
            Ok(Delivery::Later { reason, detail }) => {
                let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(16);
                let wait = RETRY_FIRST.saturating_mul(2_i32.saturating_pow(doublings)).min(RETRY_MAX);
                let due = now.checked_add(wait).unwrap_or(Timestamp::MAX);
                if due > self.expires {
                    return record(Outcome::Failed, Some(reason.as_str()), detail);
                }
                Err(Deferral { seq, attempts: attempt, due, reason: reason.as_str().to_owned() })
            }
            Err(fault) => record(Outcome::Excluded, Some("RenderError"), fault),
        }
    }
}

pub fn in_doubt(seq: i64, item: String, detail: &str) -> Recorded {
    Recorded {
        seq,
        item,
        outcome: Outcome::InDoubt,
        reason: Some("InDoubt".to_owned()),
        detail: Some(detail.to_owned()),
    }
}

/// A column as a template's value; a missing one is undefined, not null.
fn value_of(row: &Row, index: usize, column: &Column) -> store::Result<Value> {
    Ok(match column.ty {
        FieldType::String | FieldType::Date => row.get::<Option<String>>(index)?.map(Value::from),
        FieldType::Integer => row.get::<Option<i64>>(index)?.map(Value::from),
        FieldType::Double => row.get::<Option<f64>>(index)?.map(Value::from),
        FieldType::Boolean => row.get::<Option<bool>>(index)?.map(Value::from),
        FieldType::Timestamp => row.get::<Option<i64>>(index)?.map(|us| Value::from(store::instant(us).to_string())),
        FieldType::Decimal { scale } => match row {
            Row::Sqlite(_) => row.get::<Option<i64>>(index)?.map(|n| Value::from(decimal_text(n, scale))),
            Row::Postgres(_) => row.get::<Option<String>>(index)?.map(Value::from),
        },
    }
    .unwrap_or(Value::UNDEFINED))
}

/// Values nested by names.
#[derive(Default)]
struct Tree {
    here: Option<Value>,
    below: BTreeMap<String, Tree>,
}

impl Tree {
    fn put(&mut self, names: &[&str], value: Value) {
        match names.split_first() {
            Some((first, rest)) => self.below.entry((*first).to_owned()).or_default().put(rest, value),
            None => self.here = Some(value),
        }
    }

    fn value(self) -> Value {
        match self.here {
            Some(value) => value,
            None => {
                Value::from(self.below.into_iter().map(|(name, tree)| (name, tree.value())).collect::<BTreeMap<_, _>>())
            }
        }
    }
}

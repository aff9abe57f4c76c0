//! One channel step of one run, as a worker sends it: who of a group may get the message now, and the message itself.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use minijinja::Value;
use sea_query::{Alias, Query, SelectStatement};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    channel::{Channel, Content, Envelope, Permission},
    dispatch::Watch,
    enriched,
    gate::Gate,
    lease::Lease,
    letter::Letter,
    mailing::Sheet,
    pace::{self, Limits, Slots},
    said::{self, Said},
};
use crate::{
    api::{dataset::Entity, medium::Medium},
    clock::Clock,
    plan::{
        Bundle,
        message::{ERASED, MessagePlan},
    },
    rule::schema::FieldType,
    store::{
        self, Row, Sql, Tx,
        campaign::Run,
        entity::work_table,
        ledger::{self, Deferral, Group, Outcome, Part, Recorded},
    },
};

/// Before the columns that the template reads, those of `enrich` steps, and the refusal: seq, item, profile, attempts,
/// granted, slot, tracked, address, locale.
const CARRIED: usize = 9;

/// Everything a channel step needs to be sent. Made anew for each claim, so that a rotated secret is seen.
pub struct Job {
    pub run: Run,
    pub letter: Letter,
    pub expires: Timestamp,
    /// Where the messages make a file together.
    pub sheet: Option<Sheet>,
    pub provider: Arc<dyn Channel>,
    pub gate: Gate,
    pub clock: Clock,
    pub lease: Arc<Lease>,
    /// A message in doubt is sent again.
    pub resends: bool,
    pub limits: Limits,
    medium: Medium,
    room: Arc<Semaphore>,
    folder: PathBuf,
}

/// A message that may go now.
pub struct Ready {
    pub seq: i64,
    pub item: String,
    pub attempt: i64,
    /// Not earlier, because its domain is paced.
    pub slot: Option<Timestamp>,
    pub said: Said,
    profile: Option<String>,
}

impl Ready {
    /// A first attempt whose commit came through though its answer was lost.
    #[must_use]
    pub fn as_committed(mut self, kept: Option<&str>) -> Self {
        self.attempt = 1;
        if let Some(said) = kept.and_then(|kept| said::find(kept, self.seq)) {
            self.said = said;
        }
        self
    }
}

/// Of long messages under way in a process, as they travel; a provider copies each once more.
pub const ROOM_KIB: usize = 64 * 1024;

/// What a job is made of.
pub struct Parts {
    pub run: Run,
    pub letter: Letter,
    pub expires: Timestamp,
    pub sheet: Option<Sheet>,
    pub provider: Arc<dyn Channel>,
    pub gate: Gate,
    pub clock: Clock,
    pub lease: Arc<Lease>,
    pub room: Arc<Semaphore>,
}

impl Job {
    /// # Errors
    /// [`store::Error::Internal`] when the pinned revision lacks the step or its channel.
    pub fn new(parts: Parts) -> store::Result<Self> {
        let Parts { run, letter, expires, sheet, provider, gate, clock, lease, room } = parts;
        let sending = letter.sending()?;
        let spec = letter.pinned.0.channels.get(&sending.channel);
        let spec = spec.ok_or_else(|| store::Error::Internal(format!("a channel of run {} is gone", run.no)))?;
        let folder = [run.namespace.as_str(), run.campaign.as_str(), run.name.as_str()].iter().collect();
        let limits = Limits::new(&sending.channel, spec, (&run.campaign, &letter.step), sending.throttle);
        let (resends, medium) = (sending.resends, sending.medium);
        Ok(Self { run, letter, expires, sheet, provider, gate, clock, lease, resends, limits, medium, room, folder })
    }

    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// Whether a message may still be handed to the provider. Asked last of all, right before its bytes.
    fn may_go(&self) -> bool {
        self.lease.is_held()
            && !self.lease.is_halted()
            && self.lease.is_open(self.run.no, self.letter.step_no)
            && self.clock.now() <= self.expires
    }

    /// Waits until there is room for a message with what it attaches; it has the room until what is returned is dropped. Many
    /// connections with long messages would not fit into memory otherwise.
    pub async fn wait_for_room(&self) -> Option<OwnedSemaphorePermit> {
        let size = self.sending().map_or(0, |sending| sending.template.attached_bytes_max());
        let kib = u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX).min(ROOM_KIB as u32);
        // It is never closed.
        if kib == 0 { None } else { self.room.clone().acquire_many_owned(kib).await.ok() }
    }

    /// Waits for a message's slot.
    pub async fn wait_for(&self, slot: Option<Timestamp>) {
        let wait = slot.map(|slot| slot.duration_since(self.clock.now()));
        if let Some(wait) = wait.and_then(|w| std::time::Duration::try_from(w).ok()).filter(|w| !w.is_zero()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Attempts that may be under way at once, so that no more can be in doubt.
    pub fn attempts_max(&self) -> usize {
        let sending = self.sending().ok();
        let spec = sending.and_then(|sending| self.bundle().channels.get(&sending.channel));
        spec.map_or(1, |spec| usize::from(spec.connections) * usize::from(spec.depth))
    }

    fn sending(&self) -> store::Result<&MessagePlan> {
        self.letter.sending()
    }

    fn bundle(&self) -> &Bundle {
        &self.letter.pinned.0
    }

    fn entity(&self, sending: &MessagePlan) -> store::Result<&Entity> {
        let lost = || store::Error::Internal(format!("{} is not in the pinned dataset", sending.entity));
        self.bundle().dataset.entity(&sending.entity).ok_or_else(lost)
    }

    /// The SELECT of all that the rows of an `enrich` step's output have.
    fn enriched(&self, output: &str) -> Option<SelectStatement> {
        let (bundle, plan) = (&self.letter.pinned.0, &self.letter.pinned.1);
        let output = plan.output(output)?;
        let entity = bundle.dataset.entity(&output.entity)?;
        let mut select = Query::select();
        for name in entity.key.iter().map(|name| &**name).chain(output.columns.iter().map(|(name, _)| name.as_str())) {
            select.column(Alias::new(name));
        }
        Some(select.from(Alias::new(work_table(self.run.no, &output.name))).to_owned())
    }

    /// The messages of a group that may go now, and the outcomes of those that may not. Consent is read here, in the
    /// transaction that commits the attempts.
    pub async fn decide(
        &self,
        tx: &mut Tx,
        part: Part,
        group: &Group,
        worker: &str,
        now: Timestamp,
    ) -> store::Result<(Vec<Ready>, Vec<Recorded>)> {
        let sending = self.sending()?;
        let (bundle, plan) = (&self.letter.pinned.0, &self.letter.pinned.1);
        let entity = self.entity(sending)?;
        let asks = (sending.asks(bundle), sending.asks_tracking(bundle));
        let set = ledger::waiting(part, group, worker, entity, asks, plan.dialect);
        let enriched = |output: &str| self.enriched(output);
        let carried = ["seq", "item", "profile", "attempts", "granted", "slot", "tracked"];
        let lost = || store::Error::Internal(format!("{} is not in the pinned dataset", sending.entity));
        let select = sending
            .skinny(&plan.schema, plan.dialect, set, &carried, &enriched, Some(sending.asked(bundle, now)))
            .ok_or_else(lost)?;
        let rows = tx.fetch(Sql::query(&select, plan.dialect)?).await?;
        let (mut ready, mut ended) = (Vec::with_capacity(rows.len()), vec![]);
        for row in &rows {
            match self.judge(sending, row, now)? {
                Ok(message) => ready.push(message),
                Err(record) => ended.push(record),
            }
        }
        Ok((ready, ended))
    }

    /// Puts aside what the channel's daily quota or a domain's rate has no room for now. Called in the transaction that
    /// commits the attempts; those put aside are not made.
    pub async fn put_aside(
        &self,
        tx: &mut Tx,
        part: Part,
        ready: Vec<Ready>,
        now: Timestamp,
    ) -> store::Result<Vec<Ready>> {
        let aside = |message: &Ready, due, reason: &str| Deferral {
            seq: message.seq,
            attempts: message.attempt,
            due,
            reason: reason.to_owned(),
        };
        let (mut going, mut deferrals) = (Vec::with_capacity(ready.len()), vec![]);
        let mut room = usize::MAX;
        if let Some(quota) = self.limits.per_day {
            let count = i64::try_from(ready.len()).unwrap_or(i64::MAX);
            let of = (self.run.namespace.as_str(), self.sending()?.channel.as_str());
            room = usize::try_from(tx.take_quota(of, pace::day(now), count, quota).await?).unwrap_or(0);
        }
        let mut paces = self.domain_slots(tx, ready.iter().take(room), now).await?;
        for (index, mut message) in ready.into_iter().enumerate() {
            if index >= room {
                deferrals.push(aside(&message, pace::next_day(now), "DailyQuota"));
                continue;
            }
            if message.slot.is_none()
                && let Some((name, _)) = self.limits.domain(&message.said.to)
                && let Some((slots, used)) = paces.get_mut(&name)
            {
                let slot = slots.of(*used);
                *used += 1;
                if slot.as_microsecond() > now.as_microsecond() + pace::AHEAD_US {
                    deferrals.push(aside(&message, slot, ledger::DOMAIN_RATE));
                    continue;
                }
                message.slot = Some(slot);
            }
            going.push(message);
        }
        tx.put_deferrals(part, &deferrals, now).await?;
        // Who waits for a slot does not hold up those who need none.
        going.sort_by_key(|message| message.slot);
        Ok(going)
    }

    /// The slots of each paced domain, and how many of them are given away. Who was put aside before has its slot.
    async fn domain_slots(
        &self,
        tx: &mut Tx,
        ready: impl Iterator<Item = &Ready>,
        now: Timestamp,
    ) -> store::Result<BTreeMap<String, (Slots, usize)>> {
        let mut counts = BTreeMap::<(String, i64), i64>::new();
        for message in ready.filter(|m| m.slot.is_none()) {
            if let Some(pace) = self.limits.domain(&message.said.to) {
                *counts.entry(pace).or_default() += 1;
            }
        }
        let mut all = BTreeMap::new();
        for ((name, slot_us), count) in counts {
            let start_us = tx.reserve(&self.run.namespace, &name, count, slot_us, now.as_microsecond()).await?;
            all.insert(name, (Slots { start_us, slot_us }, 0));
        }
        Ok(all)
    }

    fn judge(&self, sending: &MessagePlan, row: &Row, now: Timestamp) -> store::Result<Result<Ready, Recorded>> {
        let (seq, item): (i64, String) = (row.get(0)?, row.get(1)?);
        let attempts: Option<i64> = row.get(3)?;
        let end = |item: String, outcome: Outcome, reason: &str| {
            Ok(Err(Recorded { seq, item, outcome, reason: Some(reason.to_owned()), detail: None }))
        };
        let refusal: Option<String> = row.get(CARRIED + sending.reads.len() + sending.extras.len())?;
        if now > self.expires && refusal.as_deref() != Some(ERASED) {
            return end(item, Outcome::Expired, "Expired");
        }
        if let Some(reason) = refusal {
            return end(item, Outcome::Excluded, &reason);
        }
        let address = row.get::<Option<String>>(7)?.unwrap_or_default();
        let address = address.trim_matches(' ');
        let Some(to) = self.gate.pass(sending.medium, address) else {
            return end(item, Outcome::Excluded, "NotAllowed");
        };
        let to = to.to_owned();
        let slot = row.get::<Option<i64>>(5)?.map(store::instant);
        let is_tracked = row.get::<Option<i64>>(6)? == Some(1);
        let said = Said { to, locale: row.get(8)?, fields: fields_of(sending, row, CARRIED)?, is_tracked };
        Ok(Ok(Ready { seq, item, attempt: attempts.unwrap_or(0) + 1, slot, said, profile: row.get(2)? }))
    }

    /// The message, ready to go; `at` is when its attempt was committed.
    ///
    /// # Errors
    /// Why it cannot be rendered; without personal values.
    pub fn envelope(self: &Arc<Self>, shard: i64, message: &Ready, at: Timestamp) -> Result<Envelope, String> {
        let content = self.letter.write((shard, message.seq), message.profile.as_deref(), &message.said, at)?;
        let id = format!("{}-{shard}-{}", self.letter.step, message.seq);
        let job = self.clone();
        let permission = Permission::new(move || job.may_go());
        let reference = self.letter.reference((shard, message.seq));
        Ok(Envelope { id, reference, content, folder: self.folder.clone(), permission })
    }

    /// Where the messages make a file together: adds them to it, in the transaction that commits their attempts. None of
    /// them is handed over then; the outcomes are of those that cannot be written.
    pub async fn collect(
        &self,
        tx: &mut Tx,
        part: Part,
        ready: &[Ready],
        at: Timestamp,
    ) -> store::Result<Vec<Recorded>> {
        let Some(sheet) = &self.sheet else { return Ok(vec![]) };
        let (mut rows, mut faults) = (Vec::with_capacity(ready.len()), vec![]);
        for message in ready {
            let content = self.letter.write((part.shard, message.seq), message.profile.as_deref(), &message.said, at);
            let cells = content.and_then(|content| match content {
                Content::Record(record) => sheet.cells(&record.values),
                _ => Err("this is no letter".to_owned()),
            });
            match cells {
                Ok(cells) => rows.push((message.seq, cells)),
                Err(fault) => faults.push(Recorded {
                    seq: message.seq,
                    item: message.item.clone(),
                    outcome: Outcome::Excluded,
                    reason: Some("RenderError".to_owned()),
                    detail: Some(fault),
                }),
            }
        }
        if !rows.is_empty() {
            tx.collect(part, &rows).await?;
        }
        Ok(faults)
    }

    /// Says that there are outcomes where no recorder does.
    pub fn tell_collected(&self, watch: &dyn Watch) {
        if self.sheet.is_some() {
            watch.progressed(&self.run.namespace, &self.run.name);
        }
    }

    /// Those of a group that are handed over one by one.
    pub fn handed_over(&self, ready: Vec<Ready>) -> Vec<Ready> {
        if self.sheet.is_some() { vec![] } else { ready }
    }

    /// What is kept with the attempts of these messages.
    pub fn keep<'a>(&self, messages: impl Iterator<Item = &'a Ready>) -> store::Result<Option<String>> {
        self.letter.keep(messages.map(|message| (message.seq, &message.said)))
    }
}

/// What the template reads of a row that [`MessagePlan::skinny`] selected, its first column at `first`.
///
/// # Errors
/// Of the store, if a column is not what the plan says.
pub fn fields_of(sending: &MessagePlan, row: &Row, first: usize) -> store::Result<Vec<Value>> {
    let mut fields = Vec::with_capacity(sending.reads.len() + sending.extras.len());
    for (index, column) in sending.reads.iter().enumerate() {
        fields.push(value_of(row, first + index, column.ty)?);
    }
    for (index, extra) in sending.extras.iter().enumerate() {
        fields.push(enriched::value(row, first + sending.reads.len() + index, extra)?);
    }
    Ok(fields)
}

/// A column as a template's value; a missing one is undefined, not null.
pub(super) fn value_of(row: &Row, index: usize, ty: FieldType) -> store::Result<Value> {
    Ok(row.shown(index, ty)?.unwrap_or(Value::UNDEFINED))
}

//! Files of letters: sealed, written and recorded, by one worker each.
//!
//! ```text
//! lanes collect ──> sealed ──> files ──> announced ──> manifest ──> outcomes
//!        withdrawn: left out │  begun again, the same  │  read, if nobody knows whether it is there
//! ```
//! A file is not whole until its manifest is there, so an attempt that fails before it is no more than that: the files are
//! written again under their names, byte for byte the same. Behind it the manifest itself says what happened.

mod file;
mod form;

use std::{io, sync::Arc};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use self::form::Form;
pub use self::form::{Sheet, misfit};
use super::dispatch::{Dispatcher, LOOK};
use crate::{
    api::{access::Access, channel::Way},
    files::target::Target,
    plan::{Bundle, Plan},
    store::{
        self,
        campaign::Run,
        ledger::Outcome,
        mailing::{Ended, Mailing, collected},
    },
};

/// The first try after one that failed comes after this, each further one after twice the time.
const RETRY_FIRST: SignedDuration = SignedDuration::from_secs(30);
const RETRY_MAX: SignedDuration = SignedDuration::from_hours(1);
/// Names that are tried where a finished file has the first one.
const NAMES_MAX: usize = 100;
/// Rows handed over at once, and how many such chunks wait for the disk.
const CHUNK_ROWS: usize = 1_000;
const CHUNKS_WAITING: usize = 2;
/// Why a file was given up.
const WRITE_FAILED: &str = "WriteFailed";

/// Where the channels of this process write files.
#[async_trait]
pub trait Places: Send + Sync {
    /// The file at `url`, as the channel (namespace, name) may reach it.
    ///
    /// # Errors
    /// Why it may not or cannot be written there, in words.
    async fn place(&self, channel: (&str, &str), url: &str, access: &Access) -> Result<Target, String>;
}

/// One mailing in the hands of this worker.
pub(super) struct Press {
    pub dispatcher: Arc<Dispatcher>,
    pub places: Arc<dyn Places>,
    pub mailing: Mailing,
}

/// What a mailing is made for.
struct Task {
    run: Run,
    pinned: Arc<(Bundle, Plan)>,
    step: String,
    form: Form,
}

/// Why a mailing is not made now.
enum Stopped {
    Store(store::Error),
    /// It can be tried again, with the same end.
    Later(String),
    /// Lost to another worker, or not to go on with.
    Left,
}

impl From<store::Error> for Stopped {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Later(error.to_string())
    }
}

impl Press {
    /// Brings the mailing as far as it can be brought now.
    pub async fn run(mut self) {
        if let Err(error) = self.work().await {
            tracing::warn!(run = self.mailing.run_no, %error, "a file of letters waits for the store");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn work(&mut self) -> store::Result<()> {
        let mut tx = self.dispatcher.store.begin().await?;
        let taken = tx.take_mailing(&self.mailing, &self.dispatcher.worker).await?;
        tx.commit().await?;
        let Some(taken) = taken else { return Ok(()) };
        self.mailing = taken;
        let task = self.task().await?;
        let made = match self.make(&task).await {
            Err(Stopped::Later(problem)) => self.put_off(&task, &problem).await,
            Err(Stopped::Store(error)) => Err(error),
            Err(Stopped::Left) | Ok(()) => Ok(()),
        };
        self.dispatcher.watch.progressed(&task.run.namespace, &task.run.name);
        made
    }

    async fn task(&self) -> store::Result<Task> {
        let lost = |what: &str| store::Error::Internal(format!("{what} of run {} is gone", self.mailing.run_no));
        let (run, pinned, channel) = self.dispatcher.channel_of(self.mailing.part()).await?;
        let (step, sending) = pinned.1.message_numbered(self.mailing.step_no).ok_or_else(|| lost("a step"))?;
        let spec = pinned.0.channels.get(&channel).ok_or_else(|| lost("a channel"))?;
        let Way::MailFile(file) = spec.way() else { return Err(lost("the file of a channel")) };
        let template = pinned.0.templates.get(&sending.template_name).ok_or_else(|| lost("a template"))?;
        let form = Form::new(template, file);
        let step = step.to_owned();
        Ok(Task { run, pinned, step, form })
    }

    fn now(&self) -> Timestamp {
        self.dispatcher.clock.now()
    }

    async fn make(&mut self, task: &Task) -> Result<(), Stopped> {
        if self.mailing.sealed.is_none() && !self.seal(task).await? {
            return Ok(());
        }
        let is_late = self.now() > self.mailing.expires;
        if is_late || self.mailing.is_cancelled {
            let problem = self.mailing.problem.clone();
            return self
                .settle(task, is_late, problem.as_deref().unwrap_or("it was not written before it expired"))
                .await;
        }
        let Some(base) = self.base(task).await? else { return Ok(()) };
        let manifest = self.write(task, &base).await?;
        let mut tx = self.dispatcher.store.begin().await?;
        let goes_on = self.holds() && tx.announce_mailing(&self.mailing, self.now()).await?;
        tx.commit().await?;
        if !goes_on {
            return self.give_back().await;
        }
        self.mailing.is_announced = true;
        let target = base.beside(file::MANIFEST);
        blocking(move || file::put(&target, &manifest)).await?;
        self.end(Outcome::Sent, None, &self.shown()).await
    }

    fn holds(&self) -> bool {
        self.dispatcher.lease.is_held() && !self.dispatcher.lease.is_halted()
    }

    /// Leaves out who may not get it any more and closes the mailing; false if there is nothing to write.
    async fn seal(&mut self, task: &Task) -> Result<bool, Stopped> {
        let (bundle, plan) = (&task.pinned.0, &task.pinned.1);
        let gone = || store::Error::Internal(format!("a step of run {} is gone", task.run.no));
        let (_, sending) = plan.message_numbered(self.mailing.step_no).ok_or_else(gone)?;
        let entity = bundle.dataset.entity(&sending.entity).ok_or_else(gone)?;
        let now = self.now();
        let mut tx = self.dispatcher.store.begin().await?;
        if !tx.may_seal(&self.mailing).await? {
            drop(tx);
            self.give_back().await?;
            return Ok(false);
        }
        let mailing = Mailing { sealed: Some(now), ..self.mailing.clone() };
        let set = collected(&mailing, entity, sending.asks(bundle), plan.dialect);
        let asked = sending.asked(bundle, now);
        let refusals = sending.refusals(&plan.schema, plan.dialect, set, &["seq", "shard"], asked).ok_or_else(gone)?;
        let left = tx.leave_out(&mailing, &refusals, now).await?;
        if !tx.seal(&mailing, now).await? {
            return Err(Stopped::Left);
        }
        if left == 0 || now > mailing.expires {
            let ended = Ended { outcome: Outcome::Expired, reason: Some("Expired"), detail: "" };
            tx.end_mailing(&mailing, &ended, now).await?;
        }
        tx.commit().await?;
        self.mailing = mailing;
        Ok(left > 0 && now <= self.mailing.expires)
    }

    /// Where the files go: the place that was chosen before, or the first whose name no finished file has. None if it is
    /// finished already.
    async fn base(&mut self, task: &Task) -> Result<Option<Target>, Stopped> {
        if let Some(known) = self.mailing.file.clone() {
            let base = self.target(task, &known).await?;
            match self.finished(task, &base).await? {
                Finished::No => return Ok(Some(base)),
                Finished::Own => {
                    self.end(Outcome::Sent, None, &self.shown()).await?;
                    return Ok(None);
                }
                Finished::Other => {}
            }
        }
        let name = task.form.name(&task.run, &task.step);
        for number in 1..=NAMES_MAX {
            let numbered = if number == 1 { name.clone() } else { format!("{name}-{number}") };
            let url = self.url(task, &numbered);
            let base = self.target(task, &url).await?;
            if !matches!(self.finished(task, &base).await?, Finished::No) {
                continue;
            }
            let mut tx = self.dispatcher.store.begin().await?;
            let is_placed = tx.place_mailing(&self.mailing, &url).await?;
            tx.commit().await?;
            if is_placed {
                self.mailing.file = Some(url);
                return Ok(Some(base));
            }
        }
        Err(Stopped::Later(format!("{NAMES_MAX} files of that name are there already")))
    }

    /// Where a file of this name stands: below the channel's place or, where the gate is closed, in the outbox.
    fn url(&self, task: &Task, name: &str) -> String {
        if self.dispatcher.providers.gate().is_open() {
            return format!("{}/{name}", task.form.url());
        }
        format!("{}/{}/{}/{name}", task.run.namespace, task.run.campaign, task.run.name)
    }

    async fn target(&self, task: &Task, url: &str) -> Result<Target, Stopped> {
        if self.dispatcher.providers.gate().is_open() {
            let (namespace, name) = &self.mailing.channel;
            return self.places.place((namespace, name), url, task.form.access()).await.map_err(Stopped::Later);
        }
        let (root, url) = (self.dispatcher.providers.outbox().to_owned(), url.to_owned());
        let target = blocking(move || {
            std::fs::create_dir_all(&root)?;
            Target::local(&root, &url).map_err(io::Error::other)
        });
        Ok(target.await?)
    }

    async fn finished(&self, task: &Task, base: &Target) -> Result<Finished, Stopped> {
        let (target, id) = (base.beside(file::MANIFEST), self.id(task));
        let found = blocking(move || target.read()).await?;
        Ok(match found {
            None => Finished::No,
            Some(bytes) if file::id_of(&bytes).as_deref() == Some(&id) => Finished::Own,
            Some(_) => Finished::Other,
        })
    }

    /// What no other mailing has, of this store or another: a file that has it is this one's.
    fn id(&self, task: &Task) -> String {
        let sealed = self.mailing.sealed.map_or(0, Timestamp::as_microsecond);
        format!("{}/{}/{}/{sealed}", task.run.namespace, task.run.name, task.step)
    }

    /// Writes the files; their manifest.
    async fn write(&self, task: &Task, base: &Target) -> Result<Vec<u8>, Stopped> {
        let mut tx = self.dispatcher.store.begin().await?;
        let count = tx.count_mailing(&self.mailing).await?;
        tx.commit().await?;
        let (sender, rows) = mpsc::channel(CHUNKS_WAITING);
        let (form, to, lease) = (task.form.clone(), base.clone(), self.dispatcher.lease.clone());
        let count = u64::try_from(count).unwrap_or(0);
        let writing = tokio::task::spawn_blocking(move || file::write(&form, &to, count, rows, &|| lease.is_held()));
        let read = self.dispatcher.store.stream(self.mailing.rows(), CHUNK_ROWS, &sender).await;
        if read.is_ok() {
            // Told apart from a reader that failed in the middle: only all of the rows are a file.
            let _ = sender.send(vec![]).await;
        }
        drop(sender);
        let written = writing.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        read?;
        let sealed = self.mailing.sealed.unwrap_or(Timestamp::MIN);
        Ok(task.form.manifest(&self.id(task), (&task.run, &task.step), &self.shown(), sealed, &written?))
    }

    /// A mailing that is not to be written any more; its manifest may be there all the same.
    async fn settle(&mut self, task: &Task, is_late: bool, problem: &str) -> Result<(), Stopped> {
        let Some(known) = self.mailing.file.clone() else { return self.give_up(is_late, problem).await };
        let found = match self.target(task, &known).await {
            Ok(base) => self.finished(task, &base).await.map(|found| (base, found)),
            Err(stopped) => Err(stopped),
        };
        match found {
            Ok((_, Finished::Own)) => self.end(Outcome::Sent, None, &self.shown()).await,
            Ok((base, _)) => {
                let (form, to) = (task.form.clone(), base);
                let mut tx = self.dispatcher.store.begin().await?;
                let count = u64::try_from(tx.count_mailing(&self.mailing).await?).unwrap_or(0);
                tx.commit().await?;
                // What is left of it has no manifest; nobody prints it.
                if let Err(error) = blocking(move || file::remove(&form, &to, count)).await {
                    tracing::warn!(run = task.run.name, %error, "files without a manifest are left");
                }
                self.give_up(is_late, problem).await
            }
            // Nobody can say, and nobody is to try again.
            Err(Stopped::Later(why)) if is_late && self.mailing.is_announced => {
                self.end(Outcome::InDoubt, Some(store::ledger::IN_DOUBT), &why).await
            }
            Err(Stopped::Later(why)) if is_late => self.end(Outcome::Failed, Some(WRITE_FAILED), &why).await,
            Err(Stopped::Later(_)) if self.mailing.is_cancelled && !self.mailing.is_announced => {
                self.give_up(false, problem).await
            }
            Err(stopped) => Err(stopped),
        }
    }

    /// There is no file, and there will be none.
    async fn give_up(&mut self, is_late: bool, problem: &str) -> Result<(), Stopped> {
        if !self.mailing.is_cancelled && is_late {
            return self.end(Outcome::Failed, Some(WRITE_FAILED), problem).await;
        }
        let mut tx = self.dispatcher.store.begin().await?;
        tx.unseal(&self.mailing).await?;
        Ok(tx.commit().await?)
    }

    async fn end(&self, outcome: Outcome, reason: Option<&str>, detail: &str) -> Result<(), Stopped> {
        let mut tx = self.dispatcher.store.begin().await?;
        let is_ended = tx.end_mailing(&self.mailing, &Ended { outcome, reason, detail }, self.now()).await?;
        tx.commit().await?;
        if is_ended {
            tracing::info!(run = self.mailing.run_no, outcome = outcome.as_str(), file = detail, "a file of letters");
        }
        Ok(())
    }

    /// The name of its files, without where they are.
    fn shown(&self) -> String {
        let file = self.mailing.file.as_deref().unwrap_or_default();
        file.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Somebody looks at it again, soon.
    async fn give_back(&self) -> Result<(), Stopped> {
        let mut tx = self.dispatcher.store.begin().await?;
        tx.release_mailing(&self.mailing).await?;
        tx.commit().await?;
        Err(Stopped::Left)
    }

    /// It could not be written: later, if there is a later.
    async fn put_off(&mut self, task: &Task, problem: &str) -> store::Result<()> {
        let doublings = u32::try_from(self.mailing.tries).unwrap_or(0).min(16);
        let wait = RETRY_FIRST.saturating_mul(2_i32.saturating_pow(doublings)).min(RETRY_MAX);
        let now = self.now();
        let due = now.checked_add(wait).unwrap_or(Timestamp::MAX);
        tracing::warn!(run = task.run.name, step = task.step, problem, "the file of letters is not written");
        if due > self.mailing.expires && !self.mailing.is_cancelled {
            return match self.settle(task, true, problem).await {
                Err(Stopped::Store(error)) => Err(error),
                _ => Ok(()),
            };
        }
        let mut tx = self.dispatcher.store.begin().await?;
        tx.leave_mailing(&self.mailing, due, problem).await?;
        tx.commit().await
    }
}

/// Whether a file that is whole has a name.
enum Finished {
    No,
    Own,
    /// Another one's.
    Other,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

//! What is remembered under a campaign's name, and its runs.
//!
//! A name outlives its object: deleting and restoring a manifest, or rebuilding a cluster, finds the same
//! rows here and sends nothing again. `run (namespace, name)` is the fence: two controllers that both believe
//! they lead start one run.

use std::str::FromStr;

use jiff::Timestamp;
use sea_query::{Alias, Expr, ExprTrait};

use super::{Bind, Error, Result, Row, Sql, Store, Tx, instant, micros};
use crate::api::CampaignSpec;

/// What a campaign's name carries from one look to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Starts up to this instant have been dealt with.
    pub looked: Timestamp,
    pub skipped: i64,
    pub is_suspended: bool,
    /// Its object was deleted with `onDelete: Hold`.
    pub is_held: bool,
}

/// Where a run is. Every change is one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, not planned: nobody has entered.
    Pending,
    /// Planned: every recipient has a ledger row.
    Sending,
    /// What waits will be cancelled.
    Cancelling,
    Done,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Sending => "Sending",
            Self::Cancelling => "Cancelling",
            Self::Done => "Done",
        }
    }
}

impl FromStr for State {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Pending, Self::Sending, Self::Cancelling, Self::Done]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::Internal(format!("a run in state {text}")))
    }
}

/// What is kept under the names of a campaign and its step. A campaign that was renamed has its earlier names, too: what
/// was sent under them counts before anything else of the rename is done, in a preview as well.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    pub namespace: &'a str,
    pub campaigns: &'a [String],
    pub step: &'a str,
}

impl Owner<'_> {
    /// Whether a row of a table with the columns `namespace`, `campaign` and `step` is its own.
    pub(super) fn owns(self, table: &str) -> Expr {
        let column = |name: &str| Expr::col((Alias::new(table), Alias::new(name)));
        let campaign = match self.campaigns {
            [one] => column("campaign").eq(one.as_str()),
            all => column("campaign").is_in(all.iter().map(String::as_str)),
        };
        column("namespace").eq(self.namespace).and(campaign).and(column("step").eq(self.step))
    }
}

/// Who asked for a run; `once` and the fences differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Schedule,
    Hand,
}

impl Origin {
    /// Who will most likely ask for the next run of a campaign.
    pub fn expected(campaign: &CampaignSpec) -> Self {
        if campaign.schedule.is_some() { Self::Schedule } else { Self::Hand }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "Schedule",
            Self::Hand => "Hand",
        }
    }
}

/// A run as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub no: i64,
    pub namespace: String,
    pub name: String,
    pub campaign: String,
    pub mode: String,
    pub origin: Origin,
    pub scheduled: Timestamp,
    /// Days since the epoch, UTC: the partition key of the ledger.
    pub run_day: i64,
    pub revision: String,
    /// The run whose remainder this one sends.
    pub predecessor: Option<i64>,
    pub state: State,
    /// How it ended, once it is done: a condition reason. `Held` of one that has not begun, or does not go on.
    pub reason: String,
    pub message: String,
    pub delivers: Option<String>,
    pub created: Timestamp,
    pub planned: Option<Timestamp>,
    pub completed: Option<Timestamp>,
    /// When its messages went, because they were past their retention.
    pub retired: Option<Timestamp>,
    /// When the next of its `wait` steps is over; until then it is planned as far as it goes.
    pub resume: Option<Timestamp>,
}

impl Run {
    /// Whether it reached people and ended well: what a later run is compared with.
    pub fn has_ended_well(&self) -> bool {
        self.state == State::Done && self.mode == "Live" && self.reason.starts_with("Completed")
    }

    /// Why nothing can be said or sent of its messages any more, if they were past their retention.
    pub fn retirement(&self) -> Option<String> {
        self.retired.map(|_| format!("the messages of run `{}` are no longer kept", self.name))
    }
}

/// What makes a run.
#[derive(Clone, Debug)]
pub struct NewRun<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub campaign: &'a str,
    /// Whose retention its messages have.
    pub dataset: &'a str,
    pub mode: &'a str,
    pub origin: Origin,
    pub scheduled: Timestamp,
    /// The run whose remainder it sends.
    pub predecessor: Option<i64>,
    /// The hash and the text of everything the run uses.
    pub revision: (&'a str, &'a str),
}

/// One output of one step, counted when it was evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepCount {
    pub name: String,
    pub out: i64,
    pub left: Option<i64>,
    pub table: Option<String>,
    pub state: StepState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    Done,
    /// Its rows are there; they go on then.
    Waiting(Timestamp),
    /// It stands behind a step that waits.
    Pending,
}

impl StepState {
    fn of(state: &str, due: Option<i64>) -> Self {
        match (state, due) {
            ("Waiting", Some(due)) => Self::Waiting(instant(due)),
            ("Pending", _) => Self::Pending,
            _ => Self::Done,
        }
    }

    fn parts(self) -> (&'static str, Option<i64>) {
        match self {
            Self::Done => ("Done", None),
            Self::Waiting(due) => ("Waiting", Some(micros(due))),
            Self::Pending => ("Pending", None),
        }
    }
}

const RUN: &str = "SELECT no, namespace, name, campaign, mode, origin, scheduled_us, run_day, revision, state, reason, \
                   message, delivers, created_us, planned_us, completed_us, predecessor, retired_us, resume_us FROM run";

fn run(row: &Row) -> Result<Run> {
    let origin: String = row.get(5)?;
    Ok(Run {
        no: row.get(0)?,
        namespace: row.get(1)?,
        name: row.get(2)?,
        campaign: row.get(3)?,
        mode: row.get(4)?,
        origin: if origin == "Hand" { Origin::Hand } else { Origin::Schedule },
        scheduled: instant(row.get(6)?),
        run_day: row.get(7)?,
        revision: row.get(8)?,
        state: row.get::<String>(9)?.parse()?,
        reason: row.get(10)?,
        message: row.get(11)?,
        delivers: row.get(12)?,
        created: instant(row.get(13)?),
        planned: row.get::<Option<i64>>(14)?.map(instant),
        completed: row.get::<Option<i64>>(15)?.map(instant),
        predecessor: row.get(16)?,
        retired: row.get::<Option<i64>>(17)?.map(instant),
        resume: row.get::<Option<i64>>(18)?.map(instant),
    })
}

const STEPS: &str =
    "SELECT name, out_count, left_count, work_table, state, due_us FROM run_step WHERE run_no = $1 ORDER BY position";

fn step_count(row: &Row) -> Result<StepCount> {
    let state = StepState::of(&row.get::<String>(4)?, row.get(5)?);
    Ok(StepCount { name: row.get(0)?, out: row.get(1)?, left: row.get(2)?, table: row.get(3)?, state })
}

impl Store {
    /// What is remembered of a campaign; a name seen for the first time begins at `now`, so it never fires for the past.
    pub async fn remember(&self, namespace: &str, campaign: &str, now: Timestamp) -> Result<Memory> {
        let read = "SELECT looked_us, skipped, suspended, held FROM campaign WHERE namespace = $1 AND name = $2";
        let read = Sql::new(read).bind(namespace).bind(campaign);
        if let Some(row) = self.fetch_one(read.clone()).await? {
            return memory(&row);
        }
        let insert = "INSERT INTO campaign (namespace, name, looked_us) VALUES ($1, $2, $3) ON CONFLICT (namespace, name) DO NOTHING";
        self.execute(Sql::new(insert).bind(namespace).bind(campaign).bind(micros(now))).await?;
        let row = self.fetch_one(read).await?;
        memory(&row.ok_or_else(|| Error::Internal("a campaign row vanished".to_owned()))?)
    }

    /// Writes back what a look at the schedule found.
    pub async fn memorize(&self, namespace: &str, campaign: &str, memory: &Memory) -> Result<()> {
        let sql = "UPDATE campaign SET looked_us = $3, skipped = $4, suspended = $5, held = $6 WHERE namespace = $1 AND name = $2";
        let sql = Sql::new(sql)
            .bind(namespace)
            .bind(campaign)
            .bind(micros(memory.looked))
            .bind(memory.skipped)
            .bind(i64::from(memory.is_suspended))
            .bind(i64::from(memory.is_held));
        self.execute(sql).await?;
        Ok(())
    }

    /// Starts a run, once: a name that already ran gets the run it had. The second value says whether it is new.
    pub async fn create_run(&self, new: &NewRun<'_>, now: Timestamp) -> Result<(Run, bool)> {
        let mut tx = self.begin().await?;
        let is_new = tx.insert_run(new, now).await?;
        tx.commit().await?;
        let run = self.run(new.namespace, new.name).await?;
        Ok((run.ok_or_else(|| Error::Internal("a run vanished".to_owned()))?, is_new))
    }

    pub async fn run(&self, namespace: &str, name: &str) -> Result<Option<Run>> {
        let sql = format!("{RUN} WHERE namespace = $1 AND name = $2");
        self.fetch_one(Sql::composed(sql, vec![namespace.into(), name.into()])).await?.as_ref().map(run).transpose()
    }

    pub async fn run_by_no(&self, no: i64) -> Result<Option<Run>> {
        let sql = format!("{RUN} WHERE no = $1");
        self.fetch_one(Sql::composed(sql, vec![no.into()])).await?.as_ref().map(run).transpose()
    }

    /// A campaign's runs, newest first, at most `limit`.
    pub async fn runs(&self, namespace: &str, campaign: &str, limit: i64) -> Result<Vec<Run>> {
        let sql = format!("{RUN} WHERE namespace = $1 AND campaign = $2 ORDER BY no DESC LIMIT $3");
        let binds = vec![namespace.into(), campaign.into(), limit.into()];
        self.fetch(Sql::composed(sql, binds)).await?.iter().map(run).collect()
    }

    /// Which of a campaign's names, the newest first, the store knows it by; the newest where it knows none.
    pub async fn known_as(&self, namespace: &str, names: &[String]) -> Result<String> {
        let [newest, former @ ..] = names else { return Ok(String::new()) };
        // Most campaigns never had another name.
        if former.is_empty() || self.knows(namespace, newest).await? {
            return Ok(newest.clone());
        }
        for name in former {
            if self.knows(namespace, name).await? {
                return Ok(name.clone());
            }
        }
        Ok(newest.clone())
    }

    /// Whether anything is kept under a campaign's name.
    pub(super) async fn knows(&self, namespace: &str, campaign: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM campaign WHERE namespace = $1 AND name = $2 UNION ALL \
                   SELECT 1 FROM run WHERE namespace = $1 AND campaign = $2 LIMIT 1";
        Ok(self.fetch_one(Sql::new(sql).bind(namespace).bind(campaign)).await?.is_some())
    }

    /// Whether this campaign ever ran by its schedule: `immediate` and `at` start once, whatever becomes of the object.
    pub async fn has_run_by_schedule(&self, namespace: &str, campaign: &str) -> Result<bool> {
        let sql = "SELECT no FROM run WHERE namespace = $1 AND campaign = $2 AND origin = 'Schedule' LIMIT 1";
        Ok(self.fetch_one(Sql::new(sql).bind(namespace).bind(campaign)).await?.is_some())
    }

    /// Runs of this campaign that are not done, oldest first.
    pub async fn open_runs(&self, namespace: &str, campaign: &str) -> Result<Vec<Run>> {
        let sql = format!("{RUN} WHERE namespace = $1 AND campaign = $2 AND state <> 'Done' ORDER BY no");
        self.fetch(Sql::composed(sql, vec![namespace.into(), campaign.into()])).await?.iter().map(run).collect()
    }

    /// Moves a run from one state to another; false if it was not in `from`.
    pub async fn move_run(
        &self,
        no: i64,
        from: State,
        to: State,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        let moved = tx.move_run(no, from, to, reason, message, now).await?;
        tx.commit().await?;
        Ok(moved)
    }

    /// Says why a run that has not begun, or does not go on behind its `wait`, is held.
    pub async fn note_held(&self, no: i64, message: &str) -> Result<()> {
        let sql = "UPDATE run SET reason = 'Held', message = $2 WHERE no = $1 AND state IN ('Pending', 'Sending')";
        self.execute(Sql::new(sql).bind(no).bind(message)).await?;
        Ok(())
    }

    /// Has a run that has not begun go by another revision; false if it has begun, or goes by another one already.
    pub async fn repin(&self, run: &Run, (hash, content): (&str, &str), now: Timestamp) -> Result<bool> {
        let mut tx = self.begin().await?;
        tx.put_revision((hash, content), now).await?;
        let sql = "UPDATE run SET revision = $2, reason = '', message = '' \
                   WHERE no = $1 AND state = 'Pending' AND planned_us IS NULL AND revision = $3";
        let taken = tx.execute(Sql::new(sql).bind(run.no).bind(hash).bind(run.revision.as_str())).await? > 0;
        tx.commit().await?;
        Ok(taken)
    }

    pub async fn revision(&self, hash: &str) -> Result<Option<String>> {
        let sql = Sql::new("SELECT content FROM revision WHERE hash = $1").bind(hash);
        self.fetch_one(sql).await?.map(|row| row.get(0)).transpose()
    }

    pub async fn run_steps(&self, run_no: i64) -> Result<Vec<StepCount>> {
        self.fetch(Sql::new(STEPS).bind(run_no)).await?.iter().map(step_count).collect()
    }

    /// A request by a command beside the running home; it is taken once by [`Store::take_requests`].
    pub async fn request(&self, kind: &str, namespace: &str, name: &str, body: &str, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO request (kind, namespace, name, body, at_us) VALUES ($1, $2, $3, $4, $5)";
        self.execute(Sql::new(sql).bind(kind).bind(namespace).bind(name).bind(body).bind(micros(now))).await?;
        Ok(())
    }

    /// Requests in the order they were made: (kind, namespace, name, body).
    pub async fn take_requests(&self) -> Result<Vec<(String, String, String, String)>> {
        if self.fetch_one(Sql::new("SELECT id FROM request LIMIT 1")).await?.is_none() {
            return Ok(vec![]);
        }
        let mut tx = self.begin().await?;
        let rows = tx.fetch(Sql::new("DELETE FROM request RETURNING kind, namespace, name, body, id")).await?;
        tx.commit().await?;
        let mut requests = rows
            .iter()
            .map(|r| Ok((r.get::<i64>(4)?, (r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))))
            .collect::<Result<Vec<(i64, _)>>>()?;
        requests.sort_by_key(|(id, _)| *id);
        Ok(requests.into_iter().map(|(_, request)| request).collect())
    }
}

/// The dataset and the topic that a revision's campaign names; rules over `message` ask for them.
fn campaign_names(content: &str) -> [Option<String>; 2] {
    let content: serde_json::Value = serde_json::from_str(content).unwrap_or_default();
    ["dataset", "topic"].map(|name| content["campaign"][name].as_str().map(str::to_owned))
}

impl Tx {
    /// Keeps a revision, and remembers what it attaches.
    async fn put_revision(&mut self, (hash, content): (&str, &str), now: Timestamp) -> Result<()> {
        let revision = "INSERT INTO revision (hash, content, at_us, dataset, topic) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (hash) DO NOTHING";
        let [dataset, topic] = campaign_names(content);
        let revision = Sql::new(revision).bind(hash).bind(content).bind(micros(now)).bind(dataset).bind(topic);
        self.execute(revision).await?;
        self.put_revision_attachments(hash, content).await
    }

    /// Enters a run; false if its name already ran.
    pub(super) async fn insert_run(&mut self, new: &NewRun<'_>, now: Timestamp) -> Result<bool> {
        self.put_revision(new.revision, now).await?;
        let insert = "INSERT INTO run (namespace, name, campaign, dataset, mode, origin, scheduled_us, run_day, revision, state, reason, message, created_us, predecessor) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'Pending', '', '', $10, $11) ON CONFLICT (namespace, name) DO NOTHING";
        let run_day = new.scheduled.as_second().div_euclid(86_400);
        let insert = Sql::new(insert)
            .bind(new.namespace)
            .bind(new.name)
            .bind(new.campaign)
            .bind(new.dataset)
            .bind(new.mode)
            .bind(new.origin.as_str())
            .bind(micros(new.scheduled))
            .bind(run_day)
            .bind(new.revision.0)
            .bind(micros(now))
            .bind(new.predecessor);
        let is_new = self.execute(insert).await? > 0;
        if is_new {
            self.open_day(run_day).await?;
        }
        Ok(is_new)
    }

    pub async fn move_run(
        &mut self,
        no: i64,
        from: State,
        to: State,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let at = micros(now);
        let done = (to == State::Done).then_some(at);
        let planned = (to == State::Sending).then_some(at);
        let sql = "UPDATE run SET state = $3, reason = $4, message = $5, planned_us = COALESCE($6, planned_us), \
                   completed_us = COALESCE($7, completed_us) WHERE no = $1 AND state = $2";
        let sql = Sql::new(sql)
            .bind(no)
            .bind(from.as_str())
            .bind(to.as_str())
            .bind(reason)
            .bind(message)
            .bind(planned)
            .bind(done);
        Ok(self.execute(sql).await? == 1)
    }

    /// Takes up a run whose `wait` is over; false if another process did, or the run is no longer being sent.
    pub async fn resume_run(&mut self, run: &Run) -> Result<bool> {
        let sql = "UPDATE run SET resume_us = NULL, reason = '', message = '' WHERE no = $1 AND state = 'Sending' AND resume_us = $2";
        Ok(self.execute(Sql::new(sql).bind(run.no).bind(run.resume.map(micros))).await? == 1)
    }

    /// Says when a run goes on.
    pub async fn rest_run(&mut self, run_no: i64, until: Option<Timestamp>) -> Result<()> {
        let sql = "UPDATE run SET resume_us = $2 WHERE no = $1";
        self.execute(Sql::new(sql).bind(run_no).bind(until.map(micros))).await?;
        Ok(())
    }

    pub async fn run_steps(&mut self, run_no: i64) -> Result<Vec<StepCount>> {
        self.fetch(Sql::new(STEPS).bind(run_no)).await?.iter().map(step_count).collect()
    }

    /// The channel steps that have entered the ledger.
    pub async fn run_channels(&mut self, run_no: i64) -> Result<Vec<String>> {
        let rows = self.fetch(Sql::new("SELECT step FROM run_channel WHERE run_no = $1").bind(run_no)).await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Keeps the counts of a run's steps, in their order, in the transaction that made their tables.
    pub async fn put_steps(&mut self, run_no: i64, steps: &[StepCount]) -> Result<()> {
        let sql = "INSERT INTO run_step (run_no, position, name, out_count, left_count, work_table, state, due_us) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (run_no, name) DO UPDATE SET out_count = excluded.out_count, \
                   left_count = excluded.left_count, work_table = excluded.work_table, state = excluded.state, due_us = excluded.due_us";
        let rows = steps.iter().zip(0_i64..).map(|(step, position)| -> Vec<Bind> {
            let (state, due) = step.state.parts();
            vec![
                run_no.into(),
                position.into(),
                (&step.name).into(),
                step.out.into(),
                step.left.into(),
                step.table.clone().into(),
                state.into(),
                due.into(),
            ]
        });
        self.execute_each(sql, rows.collect()).await
    }
}

fn memory(row: &Row) -> Result<Memory> {
    Ok(Memory {
        looked: instant(row.get(0)?),
        skipped: row.get(1)?,
        is_suspended: row.get::<i64>(2)? != 0,
        is_held: row.get::<i64>(3)? != 0,
    })
}

//! What the taking of feedback asks of the store: which run a message is of, where it went, and how much came back.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::{
    Bind, Result, Row, Sql, Store, Tx,
    consent::{ALL, NEWEST_FIRST, State},
    event::{EventType, MessageKey},
    ledger::{OF_PART, Part, Topic},
    micros,
};
use crate::rule::Dialect;

/// Links of one step that are counted apart, beyond which they are counted together.
const LINKS_MAX: i64 = 1_000;
/// The url under which they are then.
const OTHER_LINKS: &str = "";

/// The request to look at a run.
pub const ANSWERED: &str = "Answered";

/// A run whose messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRun {
    pub no: i64,
    pub run_day: i64,
    pub namespace: String,
    pub name: String,
    pub dataset: String,
    pub revision: String,
}

/// What came back: from where, what it told, and why it was not taken (empty if it was).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Came {
    pub source: String,
    pub told: String,
    pub reason: String,
}

/// What is counted of a step without the person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    pub part: Part,
    pub ty: EventType,
    pub url: String,
    pub is_machine: bool,
}

impl Store {
    /// The runs behind a number whose messages are kept.
    pub async fn kept_runs(&self, behind: i64) -> Result<Vec<KeptRun>> {
        let sql = "SELECT no, run_day, namespace, name, dataset, revision FROM run WHERE no > $1 AND retired_us IS NULL ORDER BY no";
        let run = |row: &Row| {
            Ok(KeptRun {
                no: row.get(0)?,
                run_day: row.get(1)?,
                namespace: row.get(2)?,
                name: row.get(3)?,
                dataset: row.get(4)?,
                revision: row.get(5)?,
            })
        };
        self.fetch(Sql::new(sql).bind(behind)).await?.iter().map(run).collect()
    }

    /// The revision of the newest run that sent over a channel.
    pub async fn newest_revision(&self, namespace: &str, channel: &str) -> Result<Option<String>> {
        let sql = "SELECT v.content FROM run r JOIN run_channel c ON c.run_no = r.no JOIN revision v ON v.hash = r.revision \
                   WHERE r.namespace = $1 AND c.channel = $2 ORDER BY r.no DESC LIMIT 1";
        self.fetch_one(Sql::new(sql).bind(namespace).bind(channel)).await?.map(|row| row.get(0)).transpose()
    }

    /// The channels (namespace, name) that runs sent over whose messages are kept, and the newest run of each.
    pub async fn channels_used(&self) -> Result<Vec<(String, String, i64)>> {
        let sql = "SELECT r.namespace, c.channel, max(r.no) FROM run r JOIN run_channel c ON c.run_no = r.no \
                   WHERE r.retired_us IS NULL GROUP BY r.namespace, c.channel ORDER BY r.namespace, c.channel";
        let channel = |row: &Row| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        self.fetch(Sql::new(sql)).await?.iter().map(channel).collect()
    }

    /// How much came back ever.
    pub async fn came_back(&self) -> Result<Vec<(Came, i64)>> {
        let sql = Sql::new("SELECT source, told, reason, n FROM feedback_count ORDER BY source, told, reason");
        let came = |row: &Row| Ok((Came { source: row.get(0)?, told: row.get(1)?, reason: row.get(2)? }, row.get(3)?));
        self.fetch(sql).await?.iter().map(came).collect()
    }

    /// Counts what came back and was not taken.
    pub async fn count_came(&self, came: Came) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.add_came(&BTreeMap::from([(came, 1)])).await?;
        tx.commit().await
    }

    /// Whether a callback was taken before.
    pub async fn knows_callback(&self, source: &str, id: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM callback WHERE source = $1 AND id = $2";
        Ok(self.fetch_one(Sql::new(sql).bind(source).bind(id)).await?.is_some())
    }

    /// Forgets callbacks that are older than anything that is still taken.
    pub async fn forget_callbacks(&self, before: Timestamp) -> Result<u64> {
        self.execute(Sql::new("DELETE FROM callback WHERE at_us < $1").bind(micros(before))).await
    }
}

impl Tx {
    /// Remembers callbacks (source, id); those that are new.
    pub async fn remember_callbacks(
        &mut self,
        callbacks: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<HashSet<(String, String)>> {
        if callbacks.is_empty() {
            return Ok(HashSet::new());
        }
        let (source, binds) = match self.dialect() {
            Dialect::Sqlite => {
                let rows =
                    serde_json::Value::from_iter(callbacks.iter().map(|(source, id)| serde_json::json!([source, id])));
                (
                    "json_extract(value, '$[0]'), json_extract(value, '$[1]'), $2 FROM json_each($1)",
                    vec![rows.to_string().into()],
                )
            }
            Dialect::Postgres => {
                let texts =
                    |of: fn(&(&str, &str)) -> String| Bind::Texts(callbacks.iter().map(|c| Some(of(c))).collect());
                let columns = vec![texts(|(source, _)| (*source).to_owned()), texts(|(_, id)| (*id).to_owned())];
                ("u.source, u.id, $3 FROM unnest($1, $2) AS u (source, id)", columns)
            }
        };
        let sql = format!(
            "INSERT INTO callback (source, id, at_us) SELECT {source} WHERE true ON CONFLICT DO NOTHING RETURNING source, id"
        );
        let binds = binds.into_iter().chain([micros(now).into()]).collect();
        self.fetch(Sql::composed(sql, binds)).await?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// Asks the running home to look at a run, because something came back about it; once until it does.
    pub async fn ask_for_look(&mut self, namespace: &str, run: &str, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO request (kind, namespace, name, body, at_us) SELECT $1, $2, $3, '', $4 WHERE NOT EXISTS \
                   (SELECT 1 FROM request WHERE kind = $1 AND namespace = $2 AND name = $3)";
        let sql = Sql::new(sql).bind(ANSWERED).bind(namespace).bind(run).bind(micros(now));
        self.execute(sql).await?;
        Ok(())
    }

    /// What was kept with the last attempt of a message.
    pub async fn last_said(&mut self, message: MessageKey) -> Result<Option<String>> {
        let sql = format!(
            "SELECT said FROM attempt WHERE {OF_PART} AND first_seq <= $5 AND last_seq >= $5 ORDER BY attempt DESC, at_us DESC LIMIT 1"
        );
        let row = self.fetch_one(Sql::composed(sql, message.part.keyed([message.seq.into()]))).await?;
        Ok(row.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten())
    }

    /// Whom a message is for.
    pub async fn profile_of(&mut self, message: MessageKey) -> Result<Option<String>> {
        let sql = format!("SELECT profile FROM ledger WHERE {OF_PART} AND seq = $5");
        let row = self.fetch_one(Sql::composed(sql, message.part.keyed([message.seq.into()]))).await?;
        Ok(row.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten())
    }

    /// What holds of a person's consent, if anything is recorded.
    pub async fn newest_state(&mut self, topic: Topic<'_>, profile: &str) -> Result<Option<State>> {
        let sql = format!(
            "SELECT state FROM consent WHERE namespace = $1 AND dataset = $2 AND topic IN ($3, '{ALL}') AND channel IN ($4, '{ALL}') \
             AND profile = $5 ORDER BY {NEWEST_FIRST} LIMIT 1"
        );
        let binds = [topic.namespace, topic.dataset, topic.topic, topic.channel, profile].map(Bind::from).into();
        let row = self.fetch_one(Sql::composed(sql, binds)).await?;
        Ok(row.map(|row| row.get::<String>(0)).transpose()?.as_deref().and_then(State::named))
    }

    pub async fn add_came(&mut self, counts: &BTreeMap<Came, i64>) -> Result<()> {
        let sql = "INSERT INTO feedback_count (source, told, reason, n) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (source, told, reason) DO UPDATE SET n = feedback_count.n + excluded.n";
        let row = |(came, n): (&Came, &i64)| -> Vec<Bind> {
            vec![(&came.source).into(), (&came.told).into(), (&came.reason).into(), (*n).into()]
        };
        self.execute_each(sql, counts.iter().map(row).collect()).await
    }

    /// Counts opens and clicks of steps; people's are in the status, too.
    pub async fn add_links(&mut self, counts: &BTreeMap<Counted, i64>) -> Result<()> {
        let known = format!("SELECT count(*) FROM link_count WHERE {OF_PART} AND type = $5");
        let is_there = format!("SELECT 1 FROM link_count WHERE {OF_PART} AND type = $5 AND url = $6 LIMIT 1");
        let add = "INSERT INTO link_count (run_day, run_no, step_no, shard, type, url, machine, n) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                   ON CONFLICT (run_day, run_no, step_no, shard, type, url, machine) DO UPDATE SET n = link_count.n + excluded.n";
        let mut totals = BTreeMap::new();
        for (Counted { part, ty, url, is_machine }, n) in counts {
            let ty_text = || Bind::from(ty.as_str());
            let mut url = url.as_str();
            let there = Sql::composed(is_there.clone(), part.keyed([ty_text(), url.into()]));
            if self.fetch_one(there).await?.is_none() {
                let count = self.fetch_one(Sql::composed(known.clone(), part.keyed([ty_text()]))).await?;
                if count.map_or(Ok(0), |row| row.get::<i64>(0))? >= LINKS_MAX {
                    url = OTHER_LINKS;
                }
            }
            let row = part.keyed([ty_text(), url.into(), i64::from(*is_machine).into(), (*n).into()]);
            self.execute(Sql::composed(add.to_owned(), row)).await?;
            if !is_machine {
                *totals.entry((*part, *ty)).or_default() += n;
            }
        }
        self.add_event_counts(&totals).await
    }
}

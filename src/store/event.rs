//! What happened to messages after they were sent: many events at once, each exactly once.
//!
//! An event is told from the others of its message by its `id`: the provider's own, or a hash. Of each message the first
//! event of a type is counted, in the same transaction, so that a status says how many messages bounced, not how often.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::{Bind, Result, Row, Sql, Tx, ledger::Part, micros};
use crate::rule::Dialect;

/// Rows of one statement: SQLite reads them as one JSON text.
const ROWS_AT_ONCE: usize = 2_000;

/// The types that rules and statuses know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    Delivered,
    Bounced,
    Complained,
    Opened,
    Clicked,
}

impl EventType {
    pub const ALL: [Self; 5] = [Self::Delivered, Self::Bounced, Self::Complained, Self::Opened, Self::Clicked];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "Delivered",
            Self::Bounced => "Bounced",
            Self::Complained => "Complained",
            Self::Opened => "Opened",
            Self::Clicked => "Clicked",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.as_str() == name)
    }
}

/// One row of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    pub part: Part,
    pub seq: i64,
}

impl MessageKey {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self { part: Part::read(row)?, seq: row.get(4)? })
    }

    fn columns(&self) -> [i64; 5] {
        let Part { run_day, run_no, step_no, shard } = self.part;
        [run_day, run_no, step_no, shard, self.seq]
    }
}

/// What happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub message: MessageKey,
    /// Tells it from the message's other events.
    pub id: String,
    pub ty: EventType,
    pub at: Timestamp,
    /// Of a bounce, its class.
    pub reason: Option<String>,
    /// Of a click.
    pub url: Option<String>,
    /// No person did it.
    pub is_machine: bool,
}

const COLUMNS: &str = "run_day, run_no, step_no, shard, seq, id, type, at_us, reason, url, machine";

/// Rows as JSON arrays under the names of their columns.
fn of_json(columns: &[&str]) -> String {
    let columns: Vec<String> =
        columns.iter().enumerate().map(|(at, name)| format!("json_extract(value, '$[{at}]') AS {name}")).collect();
    format!("(SELECT {} FROM json_each($1))", columns.join(", "))
}

impl Tx {
    /// Records events of messages that the ledger has; those that were recorded before stay as they are. For each event
    /// whether it is new. What machines did counts nowhere.
    ///
    /// # Errors
    /// Of the store; then nothing of it stands.
    pub async fn record_events(&mut self, events: &[Event]) -> Result<Vec<bool>> {
        let mut is_new = vec![false; events.len()];
        let mut places = HashMap::with_capacity(events.len());
        for (at, event) in events.iter().enumerate() {
            places.entry((event.message, event.id.as_str())).or_insert(at);
        }
        for chunk in events.chunks(ROWS_AT_ONCE) {
            for row in self.insert_events(chunk).await? {
                let id: String = row.get(5)?;
                if let Some(at) = places.get(&(MessageKey::read(&row)?, id.as_str())) {
                    is_new[*at] = true;
                }
            }
        }
        let mut fresh = BTreeMap::<(MessageKey, EventType), i64>::new();
        for (event, _) in events.iter().zip(&is_new).filter(|(event, is_new)| **is_new && !event.is_machine) {
            *fresh.entry((event.message, event.ty)).or_default() += 1;
        }
        self.count_firsts(&fresh).await?;
        Ok(is_new)
    }

    async fn insert_events(&mut self, events: &[Event]) -> Result<Vec<Row>> {
        let (source, binds) = match self.dialect() {
            Dialect::Sqlite => {
                let row = |e: &Event| {
                    let [run_day, run_no, step_no, shard, seq] = e.message.columns();
                    let machine = i64::from(e.is_machine);
                    serde_json::json!([
                        run_day,
                        run_no,
                        step_no,
                        shard,
                        seq,
                        e.id,
                        e.ty.as_str(),
                        micros(e.at),
                        e.reason,
                        e.url,
                        machine
                    ])
                };
                let columns: Vec<&str> = COLUMNS.split(", ").collect();
                let rows = serde_json::Value::Array(events.iter().map(row).collect());
                (of_json(&columns), vec![rows.to_string().into()])
            }
            Dialect::Postgres => {
                let key = |at: usize| Bind::Ints(events.iter().map(|e| e.message.columns()[at]).collect());
                let texts = |text: fn(&Event) -> Option<String>| Bind::Texts(events.iter().map(text).collect());
                let binds = (0..5).map(key).chain([
                    texts(|e| Some(e.id.clone())),
                    texts(|e| Some(e.ty.as_str().to_owned())),
                    Bind::Ints(events.iter().map(|e| micros(e.at)).collect()),
                    texts(|e| e.reason.clone()),
                    texts(|e| e.url.clone()),
                    Bind::Ints(events.iter().map(|e| i64::from(e.is_machine)).collect()),
                ]);
                (format!("unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS given ({COLUMNS})"), binds.collect())
            }
        };
        let source = if self.dialect() == Dialect::Sqlite { format!("{source} AS given") } else { source };
        let given: Vec<String> = COLUMNS.split(", ").map(|name| format!("given.{name}")).collect();
        // Of messages that are not kept any more nothing is recorded; on PostgreSQL their day has no partition.
        let sql = format!(
            "INSERT INTO message_event ({COLUMNS}) SELECT {} FROM {source} JOIN ledger l ON l.run_day = given.run_day \
             AND l.run_no = given.run_no AND l.step_no = given.step_no AND l.shard = given.shard AND l.seq = given.seq \
             WHERE true ON CONFLICT DO NOTHING RETURNING run_day, run_no, step_no, shard, seq, id",
            given.join(", ")
        );
        self.fetch(Sql::composed(sql, binds)).await
    }

    /// Adds to the counts how many messages have their first event of a type: those that had none beside these new ones.
    async fn count_firsts(&mut self, fresh: &BTreeMap<(MessageKey, EventType), i64>) -> Result<()> {
        let mut counts: BTreeMap<(Part, EventType), i64> =
            fresh.keys().map(|(message, ty)| ((message.part, *ty), 0)).collect();
        // Two processes may record the same message at once: each waits here, in one order, and sees what the other did.
        self.add_event_counts(&counts).await?;
        let keys: Vec<&(MessageKey, EventType)> = fresh.keys().collect();
        for chunk in keys.chunks(ROWS_AT_ONCE) {
            for (row, expected) in self.event_counts(chunk).await?.iter().zip(chunk) {
                if fresh.get(*expected) == Some(row) {
                    *counts.entry((expected.0.part, expected.1)).or_default() += 1;
                }
            }
        }
        counts.retain(|_, n| *n > 0);
        self.add_event_counts(&counts).await
    }

    /// How many events of its type each message has, in the order asked for.
    async fn event_counts(&mut self, keys: &[&(MessageKey, EventType)]) -> Result<Vec<i64>> {
        let names = ["run_day", "run_no", "step_no", "shard", "seq", "type", "place"];
        let (source, binds) = match self.dialect() {
            Dialect::Sqlite => {
                let row = |(at, (message, ty)): (usize, &&(MessageKey, EventType))| {
                    let [run_day, run_no, step_no, shard, seq] = message.columns();
                    serde_json::json!([run_day, run_no, step_no, shard, seq, ty.as_str(), at])
                };
                let rows = serde_json::Value::Array(keys.iter().enumerate().map(row).collect());
                (format!("{} AS given", of_json(&names)), vec![rows.to_string().into()])
            }
            Dialect::Postgres => {
                let key = |at: usize| Bind::Ints(keys.iter().map(|(message, _)| message.columns()[at]).collect());
                let types = Bind::Texts(keys.iter().map(|(_, ty)| Some(ty.as_str().to_owned())).collect());
                let places = Bind::Ints((0..keys.len()).map(|at| i64::try_from(at).unwrap_or(i64::MAX)).collect());
                let binds = (0..5).map(key).chain([types, places]).collect();
                (format!("unnest($1, $2, $3, $4, $5, $6, $7) AS given ({})", names.join(", ")), binds)
            }
        };
        let sql = format!(
            "SELECT given.place, count(*) FROM {source} JOIN message_event e ON e.run_day = given.run_day \
             AND e.run_no = given.run_no AND e.step_no = given.step_no AND e.shard = given.shard AND e.seq = given.seq \
             AND e.type = given.type AND e.machine = 0 GROUP BY given.place"
        );
        let mut counts = vec![0; keys.len()];
        for row in self.fetch(Sql::composed(sql, binds)).await? {
            let at = usize::try_from(row.get::<i64>(0)?).unwrap_or(usize::MAX);
            if let Some(count) = counts.get_mut(at) {
                *count = row.get(1)?;
            }
        }
        Ok(counts)
    }

    /// Adds to the counts of events, in the order of the map.
    pub(crate) async fn add_event_counts(&mut self, counts: &BTreeMap<(Part, EventType), i64>) -> Result<()> {
        if counts.is_empty() {
            return Ok(());
        }
        if self.dialect() == Dialect::Sqlite {
            for ((part, ty), n) in counts.iter().filter(|(_, n)| **n > 0) {
                self.put_tally(*part, &[(ty.as_str(), "", *n)]).await?;
            }
            return Ok(());
        }
        let key = |of: fn(&Part) -> i64| Bind::Ints(counts.keys().map(|(part, _)| of(part)).collect());
        let binds = vec![
            key(|part| part.run_day),
            key(|part| part.run_no),
            key(|part| part.step_no),
            key(|part| part.shard),
            Bind::Texts(counts.keys().map(|(_, ty)| Some(ty.as_str().to_owned())).collect()),
            Bind::Ints(counts.values().copied().collect()),
        ];
        let sql = "INSERT INTO tally (run_day, run_no, step_no, shard, outcome, reason, n) \
                   SELECT u.run_day, u.run_no, u.step_no, u.shard, u.outcome, '', u.n \
                   FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY AS u (run_day, run_no, step_no, shard, outcome, n, place) \
                   ORDER BY u.place \
                   ON CONFLICT (run_day, run_no, step_no, shard, outcome, reason) DO UPDATE SET n = tally.n + excluded.n";
        self.execute(Sql::composed(sql.to_owned(), binds)).await?;
        Ok(())
    }
}

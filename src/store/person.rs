//! Everything that is kept of one person, in one statement: messages with their attempts and events, what she agreed to,
//! and what is withdrawn or suppressed under her addresses.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Bind, Result, Row, Sql, Store, Tx, consent::Entry, consent::State, instant, ledger::Part};
use crate::rule::Dialect;

/// Whose history is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    pub namespace: &'a str,
    pub dataset: &'a str,
    /// The canonical text of her key.
    pub key: &'a str,
    /// What stands in its place once she is erased.
    pub erased: &'a str,
    /// Keyed hashes of her addresses, each with the medium.
    pub addresses: &'a [(String, String)],
}

/// An attempt of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub no: i64,
    pub at: Timestamp,
    /// Why it is known to have failed.
    pub failure: Option<String>,
}

/// What came back about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub ty: String,
    pub at: Timestamp,
    pub reason: Option<String>,
    pub url: Option<String>,
    pub is_machine: bool,
}

/// A message to her.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub campaign: String,
    pub run: String,
    pub mode: String,
    pub step: String,
    pub channel: String,
    pub topic: Option<String>,
    pub item: String,
    /// None while it waits.
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub detail: Option<String>,
    pub planned: Option<Timestamp>,
    /// Of the outcome.
    pub at: Option<Timestamp>,
    /// When it is due again, if it was put aside.
    pub due: Option<Timestamp>,
    pub attempts: Vec<Attempt>,
    pub answers: Vec<Answer>,
}

/// What keeps an address from being written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// As [`super::keyed::Keyed::of_address`] makes it.
    pub address: String,
    pub medium: String,
    /// Or [`super::suppression::WHOLE_STORE`].
    pub namespace: String,
    pub cause: String,
    pub since: Timestamp,
    pub until: Option<Timestamp>,
}

/// Everything, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub erased: Option<Timestamp>,
    pub messages: Vec<Message>,
    pub consent: Vec<Entry>,
    /// What was withdrawn under her addresses; in the place of the profile the hash of the address.
    pub opt_outs: Vec<Entry>,
    pub suppressions: Vec<Suppression>,
}

/// The shard that a person has in every run; `$6` is her key, `$7` how many shards there are.
fn shard(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "CAST(0 * $7 AS BIGINT)",
        Dialect::Postgres => "(('x' || substr(md5(CAST($6 AS TEXT)), 1, 7))::bit(28)::int % CAST($7 AS BIGINT))",
    }
}

/// Her newest messages. No index has the profile, which would cost every message that is planned: a person's rows stand in
/// one shard of each run, and only that is read.
pub(super) fn hers(dialect: Dialect, which: &str) -> String {
    format!(
        "SELECT l.run_day, l.run_no, l.step_no, l.shard, l.seq, l.item, l.reason, r.campaign, r.name, r.mode, r.state, rc.step, \
         rc.channel, v.topic, r.planned_us \
         FROM run r JOIN revision v ON v.hash = r.revision JOIN run_channel rc ON rc.run_no = r.no \
         JOIN ledger l ON l.run_day = r.run_day AND l.run_no = r.no AND l.step_no = rc.step_no AND l.shard = {} \
         WHERE r.namespace = $1 AND r.dataset = $2 AND r.retired_us IS NULL AND l.profile IN ($3, $4) {which}",
        shard(dialect)
    )
}

/// `$1` the namespace, `$2` the dataset, `$3` and `$4` what stands for the profile, `$5` the most messages, `$6` and `$7` see
/// [`shard`], `$8` the most entries of consent.
fn statement(dialect: Dialect, addresses: usize) -> String {
    let on = |alias: &str| {
        let same = ["run_day", "run_no", "step_no", "shard"].map(|key| format!("{alias}.{key} = h.{key}"));
        same.join(" AND ")
    };
    let at = |first: usize| (0..addresses).map(|n| format!("${}", first + 2 * n)).collect::<Vec<_>>().join(", ");
    let (media, hashes) = (9, 10);
    let pairs: Vec<String> =
        (0..addresses).map(|n| format!("(s.medium = ${} AND s.hash = ${})", media + 2 * n, hashes + 2 * n)).collect();
    let of_addresses = if addresses == 0 {
        String::new()
    } else {
        format!(
            " UNION ALL SELECT 'suppression', n, n, n, n, n, s.since_us, s.until_us, n, s.medium, s.namespace, s.hash, t, t, t, t, s.reason, t, t \
             FROM suppression s, absent WHERE s.namespace IN ($1, '*') AND ({}) \
             UNION ALL SELECT 'opt-out', n, n, n, n, n, o.at_us, n, n, t, t, o.address, o.channel, o.topic, t, 'Withdrawn', t, o.source, t \
             FROM opt_out o, absent WHERE o.namespace = $1 AND o.dataset = $2 AND o.address IN ({})",
            pairs.join(" OR "),
            at(hashes)
        )
    };
    format!(
        "WITH absent AS (SELECT CAST(NULL AS TEXT) AS t, CAST(NULL AS BIGINT) AS n), \
         hers AS MATERIALIZED ({hers} ORDER BY l.run_no DESC, l.step_no DESC, l.seq LIMIT $5), \
         agreed AS (SELECT * FROM consent c WHERE c.namespace = $1 AND c.dataset = $2 AND c.profile IN ($3, $4) \
           ORDER BY c.at_us DESC, c.state DESC, c.topic, c.channel LIMIT $8) \
         SELECT 'message' AS kind, h.run_day AS run_day, h.run_no AS run_no, h.step_no AS step_no, h.shard AS shard, h.seq AS seq, h.planned_us AS at_us, o.at_us AS ended_us, d.due_us AS due_us, \
           h.campaign AS a, h.name AS b, h.step AS c, h.channel AS d, h.topic AS e, h.item AS f, o.outcome AS g, \
           coalesce(o.reason, d.reason, CASE WHEN o.outcome IS NULL THEN h.reason END) AS h, o.detail AS i, h.mode AS j \
         FROM hers h LEFT JOIN outcome o ON {outcome} AND o.seq = h.seq LEFT JOIN deferred d ON {deferred} AND d.seq = h.seq \
         UNION ALL SELECT 'attempt', h.run_day, h.run_no, h.step_no, h.shard, h.seq, a.at_us, a.attempt, f.at_us, t, t, t, t, t, t, t, f.reason, t, t \
         FROM absent, hers h JOIN attempt a ON {attempt} AND h.seq BETWEEN a.first_seq AND a.last_seq \
         LEFT JOIN failure f ON {failure} AND f.seq = h.seq AND f.attempt = a.attempt \
         UNION ALL SELECT 'answer', h.run_day, h.run_no, h.step_no, h.shard, h.seq, e.at_us, e.machine, n, t, t, t, t, t, t, e.type, e.reason, e.url, t \
         FROM absent, hers h JOIN message_event e ON {event} AND e.seq = h.seq \
         UNION ALL SELECT 'consent', n, n, n, n, n, c.at_us, n, n, c.profile, t, t, c.channel, c.topic, t, c.state, t, c.source, c.text \
         FROM agreed c, absent \
         UNION ALL SELECT 'erased', n, n, n, n, n, x.at_us, n, n, t, t, t, t, t, t, t, t, t, t FROM erased x, absent \
         WHERE x.namespace = $1 AND x.dataset = $2 AND 'erased:' || x.key = $4{of_addresses} \
         ORDER BY at_us DESC, run_no DESC, step_no DESC, seq, ended_us DESC, g DESC, e, d",
        hers = hers(dialect, ""),
        outcome = on("o"),
        deferred = on("d"),
        attempt = on("a"),
        failure = on("f"),
        event = on("e"),
    )
}

type MessageNo = (i64, i64, i64, i64, i64);

fn number(row: &Row) -> Result<MessageNo> {
    Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

fn time(row: &Row, index: usize) -> Result<Option<Timestamp>> {
    Ok(row.get::<Option<i64>>(index)?.map(instant))
}

/// In the place of a text that is there but for a fault of ours.
fn text(row: &Row, index: usize) -> Result<String> {
    Ok(row.get::<Option<String>>(index)?.unwrap_or_default())
}

impl Store {
    /// Everything that is kept of a person; of her messages and of the entries of her consent no more than the newest, so
    /// many.
    ///
    /// # Errors
    /// Of the store.
    pub async fn history(&self, whose: Whose<'_>, (messages, entries): (i64, i64)) -> Result<History> {
        let mut binds: Vec<Bind> = [whose.namespace, whose.dataset, whose.key, whose.erased].map(Bind::from).into();
        binds.extend([messages.into(), whose.key.into(), self.shards().await?.into(), entries.into()]);
        binds.extend(whose.addresses.iter().flat_map(|(medium, hash)| [Bind::from(medium), hash.into()]));
        let sql = statement(self.dialect(), whose.addresses.len());
        let mut history = History::default();
        let mut places = BTreeMap::<MessageNo, usize>::new();
        let rows = self.fetch(Sql::composed(sql, binds)).await?;
        for row in &rows {
            match text(row, 0)?.as_str() {
                "message" => {
                    places.insert(number(row)?, history.messages.len());
                    history.messages.push(message(row)?);
                }
                "consent" => history.consent.push(entry(row, 9)?),
                "opt-out" => history.opt_outs.push(entry(row, 11)?),
                "suppression" => history.suppressions.push(Suppression {
                    medium: text(row, 9)?,
                    namespace: text(row, 10)?,
                    address: text(row, 11)?,
                    cause: text(row, 16)?,
                    since: time(row, 6)?.unwrap_or_default(),
                    until: time(row, 7)?,
                }),
                "erased" => history.erased = time(row, 6)?,
                _ => {}
            }
        }
        // Time goes on within a message.
        for row in rows.iter().rev() {
            let kind = text(row, 0)?;
            if kind != "attempt" && kind != "answer" {
                continue;
            }
            let Some(message) = places.get(&number(row)?).and_then(|at| history.messages.get_mut(*at)) else {
                continue;
            };
            let at = time(row, 6)?.unwrap_or_default();
            let n: i64 = row.get::<Option<i64>>(7)?.unwrap_or(0);
            let reason = row.get(16)?;
            // A group's attempt is one row, also for those of it that were not to be written to.
            let is_held = matches!(message.outcome.as_deref(), Some("Excluded" | "Expired")) && message.at == Some(at);
            if kind == "attempt" && is_held {
                continue;
            }
            if kind == "attempt" {
                message.attempts.push(Attempt { no: n, at, failure: reason });
            } else {
                message.answers.push(Answer { ty: text(row, 15)?, at, reason, url: row.get(17)?, is_machine: n == 1 });
            }
        }
        Ok(history)
    }
}

fn message(row: &Row) -> Result<Message> {
    Ok(Message {
        planned: time(row, 6)?,
        at: time(row, 7)?,
        due: time(row, 8)?,
        campaign: text(row, 9)?,
        run: text(row, 10)?,
        step: text(row, 11)?,
        channel: text(row, 12)?,
        topic: row.get(13)?,
        item: text(row, 14)?,
        outcome: row.get(15)?,
        reason: row.get(16)?,
        detail: row.get(17)?,
        mode: text(row, 18)?,
        attempts: vec![],
        answers: vec![],
    })
}

fn entry(row: &Row, profile: usize) -> Result<Entry> {
    Ok(Entry {
        profile: text(row, profile)?,
        at: time(row, 6)?.unwrap_or_default(),
        channel: text(row, 12)?,
        topic: text(row, 13)?,
        state: State::named(&text(row, 15)?).unwrap_or(State::Unknown),
        source: text(row, 17)?,
        text: row.get(18)?,
    })
}

/// A message of hers in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hers {
    pub(super) part: Part,
    pub(super) seq: i64,
    pub(super) item: String,
    pub campaign: String,
    pub(super) step: String,
    pub run: String,
    /// Without an outcome.
    pub is_waiting: bool,
}

/// Which of her messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Of runs that go on.
    Open,
    All,
}

/// As `$1` to `$4` of [`hers`], `$6` and `$7` of [`shard`], and `$5` the most of them.
fn listed(dialect: Dialect, which: Which) -> String {
    let which = if which == Which::Open { "AND r.state <> 'Done'" } else { "" };
    format!(
        "SELECT h.run_day, h.run_no, h.step_no, h.shard, h.seq, h.item, h.campaign, h.step, h.name, CAST(CASE WHEN EXISTS \
         (SELECT 1 FROM outcome o WHERE o.run_day = h.run_day AND o.run_no = h.run_no AND o.step_no = h.step_no AND o.shard = h.shard \
         AND o.seq = h.seq) THEN 0 ELSE 1 END AS BIGINT) FROM ({} {which} ORDER BY l.run_no, l.step_no, l.seq LIMIT $5) h \
         ORDER BY h.run_no, h.step_no, h.seq",
        hers(dialect, "")
    )
}

fn listed_one(row: &Row) -> Result<Hers> {
    Ok(Hers {
        part: Part::read(row)?,
        seq: row.get(4)?,
        item: row.get(5)?,
        campaign: row.get(6)?,
        step: row.get(7)?,
        run: row.get(8)?,
        is_waiting: row.get::<i64>(9)? == 1,
    })
}

fn list(whose: Whose<'_>, shards: i64, most: i64) -> Vec<Bind> {
    let of = [whose.namespace, whose.dataset, whose.key, whose.erased].map(Bind::from);
    of.into_iter().chain([most.into(), whose.key.into(), shards.into()]).collect()
}

impl Store {
    /// Her messages, the oldest first; at most so many.
    pub async fn messages_of(&self, whose: Whose<'_>, which: Which, most: i64) -> Result<Vec<Hers>> {
        let binds = list(whose, self.shards().await?, most);
        let sql = Sql::composed(listed(self.dialect(), which), binds);
        self.fetch(sql).await?.iter().map(listed_one).collect()
    }

    /// How many of her messages are at a provider now, or at nobody knows whose: attempted, and not known to have failed.
    pub async fn under_way_of(&self, whose: Whose<'_>, most: i64) -> Result<i64> {
        let sql = format!(
            "SELECT count(*) FROM ({} AND r.state <> 'Done' ORDER BY l.run_no LIMIT $5) h JOIN attempt a ON a.run_day = h.run_day \
             AND a.run_no = h.run_no AND a.step_no = h.step_no AND a.shard = h.shard AND h.seq BETWEEN a.first_seq AND a.last_seq \
             WHERE NOT EXISTS (SELECT 1 FROM outcome o WHERE o.run_day = h.run_day AND o.run_no = h.run_no AND o.step_no = h.step_no \
               AND o.shard = h.shard AND o.seq = h.seq) \
             AND NOT EXISTS (SELECT 1 FROM failure f WHERE f.run_day = h.run_day AND f.run_no = h.run_no AND f.step_no = h.step_no \
               AND f.shard = h.shard AND f.seq = h.seq AND f.attempt = a.attempt) \
             AND NOT EXISTS (SELECT 1 FROM mailing_row x JOIN mailing m ON m.run_day = x.run_day AND m.run_no = x.run_no \
               AND m.step_no = x.step_no AND m.sealed_us IS NULL WHERE x.run_day = h.run_day AND x.run_no = h.run_no \
               AND x.step_no = h.step_no AND x.shard = h.shard AND x.seq = h.seq)",
            hers(self.dialect(), "")
        );
        let binds = list(whose, self.shards().await?, most);
        self.fetch_one(Sql::composed(sql, binds)).await?.map_or(Ok(0), |row| row.get(0))
    }
}

impl Tx {
    /// As [`Store::messages_of`].
    pub async fn messages_of(
        &mut self,
        whose: Whose<'_>,
        which: Which,
        (most, shards): (i64, i64),
    ) -> Result<Vec<Hers>> {
        let sql = Sql::composed(listed(self.dialect(), which), list(whose, shards, most));
        self.fetch(sql).await?.iter().map(listed_one).collect()
    }
}

//! Consent over time: a log of what each person said of each topic and channel, and where.
//!
//! The newest entry holds; of one instant the one that lets least through. An entry may be about every topic or every
//! channel ([`ALL`]): such entries only withdraw. What a person withdraws herself is kept under a keyed hash of her
//! address, too (table `opt_out`), so that it holds for whoever has that address, whatever her key becomes.

use jiff::Timestamp;
use sea_query::Expr;

use super::{Bind, Result, Row, Sql, Store, Tx, erased, instant, keyed, ledger::Topic, micros};
use crate::rule::Query;

/// In an entry: every topic, or every channel.
pub const ALL: &str = "*";

/// What holds of a person, a topic and a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Granted,
    /// Asked for, and to be confirmed by the person (double opt-in).
    Pending,
    /// It was known once and is not known any more.
    Unknown,
    Withdrawn,
}

impl State {
    pub const EACH: [Self; 4] = [Self::Granted, Self::Pending, Self::Unknown, Self::Withdrawn];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "Granted",
            Self::Pending => "Pending",
            Self::Unknown => "Unknown",
            Self::Withdrawn => "Withdrawn",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::EACH.into_iter().find(|state| state.as_str() == name)
    }
}

/// How a sender is written where a channel stands: every message over one Channel, and no other.
pub fn sender(medium: &str, channel: &str) -> String {
    format!("{medium}:{channel}")
}

/// The profiles who asked for a topic by a medium (`?`: namespace, dataset, topic, channel) since an instant, said nothing
/// newer of it, and were not asked yet.
pub const UNCONFIRMED: &str = "SELECT c.profile FROM consent c WHERE c.namespace = ? AND c.dataset = ? AND c.topic = ? AND c.channel = ? \
    AND c.state = 'Pending' AND c.at_us >= ? \
    AND NOT EXISTS (SELECT 1 FROM consent n WHERE n.namespace = c.namespace AND n.dataset = c.dataset AND n.profile = c.profile \
      AND n.topic IN (c.topic, '*') AND n.channel IN (c.channel, '*') \
      AND (n.at_us > c.at_us OR (n.at_us = c.at_us AND n.state > c.state))) \
    AND NOT EXISTS (SELECT 1 FROM confirmation a WHERE a.namespace = c.namespace AND a.dataset = c.dataset AND a.profile = c.profile \
      AND a.topic = c.topic AND a.channel = c.channel AND a.at_us = c.at_us)";

/// Whether the newest that the person `profile` of a row said of a topic is no request that waits for her yes.
pub fn is_settled(query: &Query<'_>, (namespace, dataset): (&str, &str), (topic, medium): (&str, &str)) -> Expr {
    let [namespace, dataset, topic, medium] =
        [namespace, dataset, topic, medium].map(|text| Expr::val(text.to_owned()));
    query.custom(
        &format!(
            "coalesce((SELECT said.state FROM consent said WHERE said.namespace = ? AND said.dataset = ? AND said.profile = ? \
             AND said.topic IN (?, '{ALL}') AND said.channel IN (?, '{ALL}') ORDER BY said.at_us DESC, said.state DESC LIMIT 1), '') <> 'Pending'"
        ),
        [namespace, dataset, Query::set_column("profile"), topic, medium],
    )
}

/// What may have been withdrawn under an address.
#[derive(Clone, Copy, Debug)]
pub struct Objection<'a> {
    pub dataset: &'a str,
    /// None for a Transactional one: only who wants nothing more of the sender is spared it.
    pub topic: Option<&'a str>,
    /// The Channel.
    pub sender: &'a str,
}

/// Which opt-outs hold: `{…}` stand for binds and columns. A later yes of the person herself outlasts one to a topic.
fn held_by_address(
    [namespace, dataset, topic, medium, sender, address, profile]: [&str; 7],
    is_marketing: bool,
) -> String {
    let of = format!(
        "FROM opt_out held WHERE held.namespace = {namespace} AND held.dataset = {dataset} AND held.address = {address}"
    );
    if !is_marketing {
        return format!("{of} AND held.topic = '{ALL}' AND held.channel = {sender}");
    }
    format!(
        "{of} AND held.topic IN ({topic}, '{ALL}') AND held.channel IN ({medium}, {sender}, '{ALL}') AND NOT EXISTS (SELECT 1 FROM consent later \
         WHERE later.namespace = held.namespace AND later.dataset = held.dataset AND later.profile = {profile} \
         AND later.topic = {topic} AND later.channel = {medium} AND later.state = 'Granted' AND later.at_us > held.at_us)"
    )
}

/// Whether a message is withdrawn from under its address, over a set with the column `profile`.
pub fn is_opted_out(
    query: &Query<'_>,
    (namespace, medium): (&str, &str),
    objection: Objection<'_>,
    address: Expr,
) -> Expr {
    let text = |text: &str| Expr::val(text.to_owned());
    let hash = keyed::hash_sql(query.dialect());
    let sender = text(&sender(medium, objection.sender));
    let held = held_by_address(["?", "?", "?", "?", "?", hash, "?"], objection.topic.is_some());
    let mut parts = vec![text(namespace), text(objection.dataset), address];
    match objection.topic {
        None => parts.push(sender),
        Some(topic) => {
            parts.extend([text(topic), text(medium), sender, Query::set_column("profile"), text(topic), text(medium)]);
        }
    }
    query.custom(&format!("EXISTS (SELECT 1 {held})"), parts)
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub profile: String,
    pub topic: String,
    /// A medium such as `email`, a [`sender`], or [`ALL`].
    pub channel: String,
    pub state: State,
    /// When the person said it.
    pub at: Timestamp,
    /// A file, a page, another system.
    pub source: String,
    /// The words that she agreed or objected to, where they are known.
    pub text: Option<String>,
}

impl Entry {
    fn read(row: &Row) -> Result<Self> {
        let state: String = row.get(4)?;
        Ok(Self {
            profile: row.get(0)?,
            topic: row.get(1)?,
            channel: row.get(2)?,
            at: instant(row.get(3)?),
            // The table takes no other.
            state: State::named(&state).unwrap_or(State::Unknown),
            source: row.get(5)?,
            text: row.get(6)?,
        })
    }
}

const COLUMNS: &str = "SELECT profile, topic, channel, at_us, state, source, text FROM consent \
    WHERE namespace = $1 AND dataset = $2 AND profile = $3";
/// Which of several entries holds.
pub(super) const NEWEST_FIRST: &str = "at_us DESC, state DESC";

impl Tx {
    /// Appends entries to the log of a dataset (namespace, name); one that is there already is not entered twice.
    pub async fn put_consent(
        &mut self,
        (namespace, dataset): (&str, &str),
        said: &[Entry],
        now: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO consent (namespace, dataset, profile, topic, channel, at_us, state, source, text, recorded_us) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
        let rows = said.iter().map(|entry| {
            vec![
                Bind::from(namespace),
                dataset.into(),
                (&entry.profile).into(),
                (&entry.topic).into(),
                (&entry.channel).into(),
                micros(entry.at).into(),
                entry.state.as_str().into(),
                (&entry.source).into(),
                entry.text.clone().into(),
                micros(now).into(),
            ]
        });
        self.execute_each(sql, rows.collect()).await
    }

    /// Keeps an opt-out under the keyed hash of an address. Of `said` the topic, the channel, the time and the source count.
    pub async fn put_opt_out(
        &mut self,
        (namespace, dataset): (&str, &str),
        address: &str,
        said: &Entry,
        now: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO opt_out (namespace, dataset, address, topic, channel, at_us, source, recorded_us) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        let sql = Sql::new(sql)
            .bind(namespace)
            .bind(dataset)
            .bind(address)
            .bind(&said.topic)
            .bind(&said.channel)
            .bind(micros(said.at))
            .bind(&said.source)
            .bind(micros(now));
        self.execute(sql).await?;
        Ok(())
    }
}

impl Tx {
    /// As [`Store::newest_consent`].
    pub async fn newest_consent(&mut self, topic: Topic<'_>, profile: &str) -> Result<Option<Entry>> {
        self.fetch_one(newest(topic, profile)).await?.as_ref().map(Entry::read).transpose()
    }
}

impl Tx {
    /// Notes that the people of a channel step of a run are asked to confirm what they asked for.
    pub async fn put_confirmations(
        &mut self,
        topic: Topic<'_>,
        (run_day, run_no, step_no): (i64, i64, i64),
        now: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO confirmation (namespace, dataset, profile, topic, channel, at_us, asked_us, run_no) \
                   SELECT DISTINCT c.namespace, c.dataset, c.profile, c.topic, c.channel, c.at_us, CAST($8 AS BIGINT), l.run_no \
                   FROM ledger l JOIN consent c ON c.namespace = $1 AND c.dataset = $2 AND c.topic = $3 AND c.channel = $4 \
                     AND c.profile = l.profile AND c.state = 'Pending' \
                   WHERE l.run_day = $5 AND l.run_no = $6 AND l.step_no = $7 AND l.reason IS NULL ON CONFLICT DO NOTHING";
        let of = [topic.namespace, topic.dataset, topic.topic, topic.channel].map(Bind::from);
        let numbers = [run_day, run_no, step_no, micros(now)].map(Bind::from);
        self.execute(Sql::composed(sql.to_owned(), of.into_iter().chain(numbers).collect())).await?;
        Ok(())
    }
}

impl Store {
    /// Appends a withdrawal to the consent log. The newest entry wins, so a file that was written before does not undo it.
    /// `hash` is that of the person's key, under which it is entered if she was erased; `address` the keyed hash of where
    /// she said it.
    pub async fn withdraw(
        &self,
        topic: Topic<'_>,
        (profile, hash): (&str, &str),
        address: Option<&str>,
        source: &str,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let of = (topic.namespace, topic.dataset);
        let is_erased = tx.is_person_erased(of, hash).await?;
        let said = Entry {
            profile: if is_erased { erased::text(hash) } else { profile.to_owned() },
            topic: topic.topic.to_owned(),
            channel: topic.channel.to_owned(),
            state: State::Withdrawn,
            at: now,
            source: source.to_owned(),
            text: None,
        };
        tx.put_consent(of, std::slice::from_ref(&said), now).await?;
        if let Some(address) = address {
            tx.put_opt_out(of, address, &said, now).await?;
        }
        tx.commit().await
    }

    /// A person's entries, newest first; at most `limit`.
    pub async fn consent_of(&self, of: (&str, &str), profile: &str, limit: i64) -> Result<Vec<Entry>> {
        let sql = format!("{COLUMNS} ORDER BY {NEWEST_FIRST}, topic, channel LIMIT $4");
        let binds = vec![of.0.into(), of.1.into(), profile.into(), limit.into()];
        self.fetch(Sql::composed(sql, binds)).await?.iter().map(Entry::read).collect()
    }

    /// The newest opt-out under the keyed hash of an address that holds a message back, as [`is_opted_out`] asks it.
    pub async fn opted_out(
        &self,
        (namespace, medium): (&str, &str),
        objection: Objection<'_>,
        (profile, address): (&str, &str),
    ) -> Result<Option<Entry>> {
        let binds = ["$1", "$2", "$3", "$4", "$5", "$6", "$7"];
        let held = held_by_address(binds, objection.topic.is_some());
        let sender = sender(medium, objection.sender);
        let topic = objection.topic.unwrap_or_default();
        // Every bind is named, whatever is asked: PostgreSQL must know the type of each.
        let sql = format!(
            "SELECT '', topic, channel, at_us, 'Withdrawn', source, CAST(NULL AS TEXT) {held} AND coalesce(CAST($3 AS TEXT), \
             CAST($4 AS TEXT), CAST($7 AS TEXT)) IS NOT NULL ORDER BY held.at_us DESC LIMIT 1"
        );
        let values = [namespace, objection.dataset, topic, medium, &sender, address, profile];
        let row = self.fetch_one(Sql::composed(sql, values.map(Bind::from).to_vec())).await?;
        row.as_ref().map(Entry::read).transpose()
    }

    /// What was withdrawn under the keyed hash of an address, newest first.
    pub async fn opt_outs_of(&self, of: (&str, &str), address: &str) -> Result<Vec<Entry>> {
        let sql = "SELECT '', topic, channel, at_us, 'Withdrawn', source, CAST(NULL AS TEXT) FROM opt_out \
                   WHERE namespace = $1 AND dataset = $2 AND address = $3 ORDER BY at_us DESC";
        self.fetch(Sql::new(sql).bind(of.0).bind(of.1).bind(address)).await?.iter().map(Entry::read).collect()
    }

    /// The entry that holds for a person, a topic and a channel.
    pub async fn newest_consent(&self, topic: Topic<'_>, profile: &str) -> Result<Option<Entry>> {
        self.fetch_one(newest(topic, profile)).await?.as_ref().map(Entry::read).transpose()
    }
}

fn newest(topic: Topic<'_>, profile: &str) -> Sql {
    let sql =
        format!("{COLUMNS} AND topic IN ($4, '{ALL}') AND channel IN ($5, '{ALL}') ORDER BY {NEWEST_FIRST} LIMIT 1");
    let of = [topic.namespace, topic.dataset, profile, topic.topic, topic.channel];
    Sql::composed(sql, of.map(Bind::from).to_vec())
}

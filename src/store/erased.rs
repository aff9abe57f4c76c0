//! Who was erased on request: keyed hashes of keys, by which no file and no other system brings the rows back, and the
//! statements that take a person out of what is kept.
//!
//! Where her key stood stands `erased:` and its hash, so that what was counted stays counted. Whoever could write her key
//! or her values once more reads the table `erased` in the transaction that writes; PostgreSQL lets go of that lock with
//! the transaction, and who erases waits for it ([`Tx::close_erased`]).

use std::collections::HashSet;

use jiff::Timestamp;
use sea_query::{Alias, Expr, Query as Statement, SelectStatement};

use super::{
    Error, Result, Sql, Store, Tx,
    consent::ALL,
    entity::{Place, quoted, table_ref},
    keyed::{Keyed, Label},
    ledger::OF_PART,
    micros,
    person::Hers,
};
use crate::{
    api::dataset::Entity,
    rule::{Dialect, Query},
};

/// What stands before the hash where a key stood.
pub(super) const ERASED: &str = "erased:";
/// What is an erased key, and no key that begins alike: so many characters has a hash.
pub(super) const PATTERN: &str = "erased:________________________________";
/// Whoever sends waits behind who erases, so that one gives up soon and tries again.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '500ms'";
/// The source of the entry that ends an erased person's consent.
const SOURCE: &str = "erased";

/// What stands in the place of a key that was erased; `hash` is its keyed hash.
pub fn text(hash: &str) -> String {
    format!("{ERASED}{hash}")
}

/// Whose erasure a message is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Erasing<'a> {
    pub dataset: &'a str,
    /// The profile.
    pub entity: &'a str,
    /// Its rows are another system's, and go on standing there.
    pub is_in_place: bool,
}

/// Whether the person `profile` of a row was erased, over a set with that column.
pub fn is_erased(query: &Query<'_>, namespace: &str, of: Erasing<'_>) -> Expr {
    let text = |text: &str| Expr::val(text.to_owned());
    let start = ERASED.len() + 1;
    let hidden = format!("substr(?, {start})");
    let mut parts = vec![text(namespace), text(of.dataset), text(of.entity), Query::set_column("profile")];
    let keys = if of.is_in_place {
        parts.push(Query::set_column("profile"));
        format!("{hidden}, campanile_keyed((SELECT kept.key_pads FROM home kept WHERE kept.id = 1), ?)")
    } else {
        hidden
    };
    query.custom(
        &format!(
            "EXISTS (SELECT 1 FROM erased gone WHERE gone.namespace = ? AND gone.dataset = ? AND gone.entity = ? AND gone.key IN ({keys}))"
        ),
        parts,
    )
}

const IS_ERASED: &str = "SELECT 1 FROM erased WHERE namespace = $1 AND dataset = $2 AND entity = $3 AND key = $4";

impl Store {
    /// Whether the row of an entity was erased; `key` is the keyed hash of its key. `of`: namespace and dataset.
    pub async fn is_erased(&self, of: (&str, &str), entity: &str, key: &str) -> Result<bool> {
        Ok(self.fetch_one(Sql::new(IS_ERASED).bind(of.0).bind(of.1).bind(entity).bind(key)).await?.is_some())
    }

    /// The keyed hashes of an entity's erased rows.
    pub async fn erased_of(&self, place: Place<'_>, entity: &str) -> Result<HashSet<String>> {
        let sql = "SELECT key FROM erased WHERE namespace = $1 AND dataset = $2 AND entity = $3";
        let rows = self.fetch(Sql::composed(sql.to_owned(), place.key(entity))).await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The key for hashes of rows' keys. From then on the databases know it, too: whoever erases asks here.
    pub async fn erasing_key(&self) -> Result<Keyed> {
        let keyed = self.keyed(Label::Key).await?;
        self.execute(Sql::new("UPDATE home SET key_pads = $1 WHERE id = 1 AND key_pads IS NULL").bind(keyed.pads()))
            .await?;
        Ok(keyed)
    }

    /// The tables in which keys of a dataset's audiences are kept, each with the entity of its keys.
    pub async fn kept_tables(&self, place: Place<'_>) -> Result<Vec<(String, String)>> {
        // Before it was noted whose they are, a namespace with one dataset tells as well.
        let sql = "SELECT table_name, entity FROM audience WHERE namespace = $1 AND table_name IS NOT NULL AND entity IS NOT NULL \
                   AND (dataset = $2 OR (dataset IS NULL AND (SELECT count(*) FROM declared_dataset d WHERE d.namespace = $1) <= 1)) \
                   ORDER BY name";
        let rows = self.fetch(Sql::new(sql).bind(place.namespace).bind(place.dataset)).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// The audiences of a namespace that were exported.
    pub async fn exported_audiences(&self, namespace: &str) -> Result<Vec<String>> {
        let sql = "SELECT name FROM audience WHERE namespace = $1 AND exported IS NOT NULL ORDER BY name";
        self.fetch(Sql::new(sql).bind(namespace)).await?.iter().map(|row| row.get(0)).collect()
    }

    /// The revisions (campaign, hash) of a dataset's runs; of those that go on, or of all.
    pub async fn revisions_of(&self, place: Place<'_>, is_open: bool) -> Result<Vec<(String, String)>> {
        let sql = "SELECT DISTINCT campaign, revision FROM run WHERE namespace = $1 AND dataset = $2 AND ($3 = 0 OR state <> 'Done') \
                   ORDER BY campaign, revision";
        let sql = Sql::new(sql).bind(place.namespace).bind(place.dataset).bind(i64::from(is_open));
        self.fetch(sql).await?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// The work tables (output, table) of runs with a revision; of those that go on, or of all.
    pub async fn work_tables_of(
        &self,
        namespace: &str,
        revision: &str,
        is_open: bool,
    ) -> Result<Vec<(String, String)>> {
        let sql = "SELECT DISTINCT s.name, s.work_table FROM run r JOIN run_step s ON s.run_no = r.no WHERE r.namespace = $1 \
                   AND r.revision = $2 AND s.work_table IS NOT NULL AND ($3 = 0 OR r.state <> 'Done') ORDER BY s.work_table";
        let sql = Sql::new(sql).bind(namespace).bind(revision).bind(i64::from(is_open));
        self.fetch(sql).await?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// Lets SQLite put what was erased out of the log that stands beside its file, if nobody reads it now.
    pub async fn settle_erased(&self) -> Result<()> {
        if self.dialect() == Dialect::Sqlite {
            self.fetch(Sql::new("PRAGMA wal_checkpoint(TRUNCATE)")).await?;
        }
        Ok(())
    }
}

impl Tx {
    /// As [`Store::is_erased`].
    pub async fn is_erased(&mut self, of: (&str, &str), entity: &str, key: &str) -> Result<bool> {
        Ok(self.fetch_one(Sql::new(IS_ERASED).bind(of.0).bind(of.1).bind(entity).bind(key)).await?.is_some())
    }

    /// Whether a person was erased, whichever entity of the dataset she is.
    pub async fn is_person_erased(&mut self, (namespace, dataset): (&str, &str), key: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM erased WHERE namespace = $1 AND dataset = $2 AND key = $3";
        Ok(self.fetch_one(Sql::new(sql).bind(namespace).bind(dataset).bind(key)).await?.is_some())
    }

    /// How many rows of an entity were erased.
    pub async fn erased_count(&mut self, place: Place<'_>, entity: &str) -> Result<i64> {
        let sql = "SELECT count(*) FROM erased WHERE namespace = $1 AND dataset = $2 AND entity = $3";
        let row = self.fetch_one(Sql::composed(sql.to_owned(), place.key(entity))).await?;
        row.map_or(Ok(0), |row| row.get(0))
    }

    /// Lets nobody be erased before this transaction ends. Of one that froze its moment it is the first statement.
    pub async fn hold_erased(&mut self) -> Result<()> {
        if self.dialect() == Dialect::Postgres {
            self.execute(Sql::new("LOCK TABLE erased IN ACCESS SHARE MODE")).await?;
        }
        Ok(())
    }

    /// Waits a moment for whoever may still write somebody's key or values; false if they took longer.
    pub async fn close_erased(&mut self) -> Result<bool> {
        match self.dialect() {
            Dialect::Sqlite => {
                // What is deleted is overwritten, too.
                self.fetch(Sql::new("PRAGMA secure_delete = ON")).await?;
                Ok(true)
            }
            Dialect::Postgres => {
                self.execute(Sql::new(LOCK_TIMEOUT)).await?;
                match self.execute(Sql::new("LOCK TABLE erased IN ACCESS EXCLUSIVE MODE")).await {
                    Ok(_) => {
                        self.execute(Sql::new("SET LOCAL lock_timeout = 0")).await?;
                        Ok(true)
                    }
                    Err(error) if error.is_lock_timeout() => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Remembers that a row was erased, by the keyed hash of its key; false if that was known.
    pub async fn put_erased(&mut self, place: Place<'_>, entity: &str, key: &str, now: Timestamp) -> Result<bool> {
        let sql = "INSERT INTO erased (namespace, dataset, entity, key, at_us) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let binds = place.key(entity).into_iter().chain([key.into(), micros(now).into()]).collect();
        Ok(self.execute(Sql::composed(sql.to_owned(), binds)).await? == 1)
    }

    /// Deletes rows of a table that has the key fields of an entity; `keys` selects them under their names. How many.
    pub async fn erase_rows(&mut self, table: &str, entity: &Entity, keys: &SelectStatement) -> Result<u64> {
        self.delete_rows(Alias::new(table), entity, keys).await
    }

    /// Deletes rows of an entity, and what is remembered of their deletion. How many rows.
    pub async fn erase_entity_rows(
        &mut self,
        place: Place<'_>,
        entity: &Entity,
        keys: &SelectStatement,
    ) -> Result<u64> {
        if entity.version.is_some() {
            self.delete_rows(table_ref(&place.tombstones(&entity.name)), entity, keys).await?;
        }
        self.delete_rows(table_ref(&place.table(&entity.name)), entity, keys).await
    }

    async fn delete_rows(
        &mut self,
        table: impl sea_query::IntoTableRef,
        entity: &Entity,
        keys: &SelectStatement,
    ) -> Result<u64> {
        let columns: Vec<Expr> = entity.key.iter().map(|name| Expr::col(Alias::new(&**name))).collect();
        let mut delete = Statement::delete();
        delete.from_table(table).and_where(sea_query::ExprTrait::in_subquery(Expr::tuple(columns), keys.clone()));
        let dialect = self.dialect();
        self.execute(Sql::query(&delete, dialect)?).await
    }

    /// Keeps what a person agreed to under `erased` instead of her key, without her words, and ends it. How many entries.
    pub async fn erase_consent(
        &mut self,
        (namespace, dataset): (&str, &str),
        (key, erased): (&str, &str),
        now: Timestamp,
    ) -> Result<u64> {
        let of = |text: &'static str| Sql::new(text).bind(namespace).bind(dataset).bind(key);
        let keep = "INSERT INTO consent (namespace, dataset, profile, topic, channel, at_us, state, source, recorded_us) \
                    SELECT namespace, dataset, CAST($4 AS TEXT), topic, channel, at_us, state, source, recorded_us FROM consent \
                    WHERE namespace = $1 AND dataset = $2 AND profile = $3 ON CONFLICT DO NOTHING";
        self.execute(of(keep).bind(erased)).await?;
        let gone = "DELETE FROM consent WHERE namespace = $1 AND dataset = $2 AND profile = $3";
        let entries = self.execute(of(gone)).await?;
        let asked = "DELETE FROM confirmation WHERE namespace = $1 AND dataset = $2 AND profile = $3";
        self.execute(of(asked)).await?;
        // What she agreed to, such as to be told apart by her clicks, ends here.
        let end = "INSERT INTO consent (namespace, dataset, profile, topic, channel, at_us, state, source, recorded_us) \
                   SELECT $1, $2, $3, $4, $4, $5, 'Withdrawn', $6, $5 WHERE NOT EXISTS (SELECT 1 FROM consent \
                   WHERE namespace = $1 AND dataset = $2 AND profile = $3 AND source = $6) ON CONFLICT DO NOTHING";
        let end = Sql::new(end).bind(namespace).bind(dataset).bind(erased).bind(ALL).bind(micros(now)).bind(SOURCE);
        self.execute(end).await?;
        Ok(entries)
    }

    /// Takes a person out of one of her messages: its row, what a provider answered, where she clicked, what keeps it from
    /// being sent again. One that waits is looked at at once.
    pub(super) async fn erase_message(
        &mut self,
        namespace: &str,
        message: &Hers,
        (erased, keyed): (&str, &Keyed),
        now: Timestamp,
    ) -> Result<()> {
        let (part, seq) = (message.part, message.seq);
        let of = |text: &str, more: Vec<super::Bind>| {
            let binds = part.keyed([seq.into()].into_iter().chain(more));
            Sql::composed(text.replace("OF_PART", OF_PART), binds)
        };
        let item =
            if message.item.starts_with(ERASED) { message.item.clone() } else { text(&keyed.hash(&message.item)) };
        let rename = "UPDATE ledger SET item = $6, profile = $7, device = NULL WHERE OF_PART AND seq = $5";
        self.execute(of(rename, vec![(&item).into(), erased.into()])).await?;
        for forget in [
            "UPDATE outcome SET detail = NULL WHERE OF_PART AND seq = $5 AND detail IS NOT NULL",
            "UPDATE message_event SET url = NULL WHERE OF_PART AND seq = $5 AND url IS NOT NULL",
            // When its file is sealed she is left out of it; one that is sealed takes its rows along.
            "UPDATE mailing_row SET cells = '[]' WHERE OF_PART AND seq = $5 AND NOT EXISTS (SELECT 1 FROM mailing m \
             WHERE m.run_day = $1 AND m.run_no = $2 AND m.step_no = $3 AND m.sealed_us IS NOT NULL)",
        ] {
            self.execute(of(forget, vec![])).await?;
        }
        let soon = "UPDATE deferred SET due_us = $6 WHERE OF_PART AND seq = $5 AND worker IS NULL AND due_us > $6";
        self.execute(of(soon, vec![micros(now).into()])).await?;
        let fence =
            "UPDATE once_fence SET item = $4 WHERE namespace = $1 AND campaign = $2 AND step = $3 AND item = $5";
        let fence = Sql::new(fence).bind(namespace).bind(&message.campaign).bind(&message.step).bind(&item);
        self.execute(fence.bind(&message.item)).await?;
        Ok(())
    }

    /// Under what a campaign's step is remembered of a row of hers: `once`, and what `incremental` took.
    pub async fn erase_fence(
        &mut self,
        (namespace, campaign, step): (&str, &str, &str),
        (key, erased): (&str, &str),
    ) -> Result<()> {
        for table in ["once_fence", "incremental"] {
            let sql = format!(
                "UPDATE {} SET item = $4 WHERE namespace = $1 AND campaign = $2 AND step = $3 AND item = $5",
                quoted(table)
            );
            let binds = [namespace, campaign, step, erased, key].map(super::Bind::from).to_vec();
            self.execute(Sql::composed(sql, binds)).await?;
        }
        Ok(())
    }

    /// What is kept of the words of a message's attempts: (first seq, attempt, text).
    pub(super) async fn said_of(&mut self, message: &Hers) -> Result<Vec<(i64, i64, String)>> {
        let sql = format!(
            "SELECT first_seq, attempt, said FROM attempt WHERE {OF_PART} AND first_seq <= $5 AND last_seq >= $5 AND said IS NOT NULL{}",
            self.row_lock("FOR UPDATE")
        );
        let rows = self.fetch(Sql::composed(sql, message.part.keyed([message.seq.into()]))).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).collect()
    }

    pub(super) async fn put_said(&mut self, message: &Hers, (first, attempt): (i64, i64), said: &str) -> Result<()> {
        let sql = format!("UPDATE attempt SET said = $7 WHERE {OF_PART} AND first_seq = $5 AND attempt = $6");
        let binds = message.part.keyed([first.into(), attempt.into(), said.into()]);
        self.execute(Sql::composed(sql, binds)).await?;
        Ok(())
    }
}

/// What became of a person's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    pub messages: u64,
    /// Of them, without an outcome.
    pub waiting: u64,
}

/// Takes her part out of what is kept of a group's words; none where nothing of hers is in it.
pub type Unsay<'a> = &'a (dyn Fn(&str, i64) -> Option<String> + Sync);

impl Tx {
    /// Takes a person out of messages that [`Store::messages_of`] or [`Tx::messages_of`] gave.
    ///
    /// # Errors
    /// Of the store.
    pub async fn erase_messages(
        &mut self,
        namespace: &str,
        messages: &[Hers],
        (erased, keyed): (&str, &Keyed),
        unsay: Unsay<'_>,
        now: Timestamp,
    ) -> Result<()> {
        for message in messages {
            self.erase_message(namespace, message, (erased, keyed), now).await?;
            for (first, attempt, said) in self.said_of(message).await? {
                if let Some(said) = unsay(&said, message.seq) {
                    self.put_said(message, (first, attempt), &said).await?;
                }
            }
        }
        Ok(())
    }
}

impl Error {
    /// What a person is told who must try again.
    pub fn busy() -> Self {
        Self::Refused("the store is being read or planned on; nothing was erased: try again".to_owned())
    }
}

//! What a file says into an entity's table: the stage is cleaned of what does not count, then applied as a set.
//!
//! What counts is decided first, so that each later statement is plain: of several rows of one key the highest version,
//! then the last; of a row and what the table (or a tombstone) holds, the higher version, then the later file's name. All
//! of it is one transaction with the note that the file was read, so it counts exactly once, whenever the process dies.

use jiff::Timestamp;

use super::{
    Bind, Result, Sql, Tx,
    consent::NEWEST_FIRST,
    entity::{FILE_COLUMN, Place, canonical_key, quoted},
    micros,
};
use crate::{
    api::dataset::{Category, DatasetSpec, Entity, Requires},
    rule::Dialect,
};

/// Which field of the profile says what a person agreed to.
#[derive(Clone, Copy, Debug)]
pub struct ConsentRule<'a> {
    pub topic: &'a str,
    pub channel: &'a str,
    pub field: &'a str,
    pub changed_at: Option<&'a str>,
    /// The field that says whether the person has confirmed, where she must: else what a file grants is pending.
    pub confirmed: Option<&'a str>,
    pub must_confirm: bool,
    pub source: &'a str,
}

/// The consent fields of an entity, if it is the profile.
pub fn consent_rules<'a>(dataset: &'a DatasetSpec, entity: &'a Entity, source: &'a str) -> Vec<ConsentRule<'a>> {
    if dataset.profile.entity != entity.name {
        return vec![];
    }
    let topics = dataset.topics.iter().filter(|t| t.category == Category::Marketing || t.consent.is_some());
    topics
        .flat_map(|topic| topic.consent.iter().flat_map(|consent| consent.all()).map(move |of| (topic, of)))
        .map(|(topic, (medium, consent))| ConsentRule {
            topic: &topic.name,
            channel: medium.word(),
            field: &consent.field,
            changed_at: consent.changed_at.as_deref(),
            confirmed: consent.confirmed.as_deref(),
            must_confirm: topic.requires == Some(Requires::Confirmed),
            source,
        })
        .collect()
}

/// A stage that becomes part of its entity.
#[derive(Clone, Copy, Debug)]
pub struct Merge<'a> {
    pub place: Place<'a>,
    pub entity: &'a Entity,
    /// The file's name; of several that are one snapshot the last one's.
    pub path: &'a str,
    /// The file's number, by which the table remembers where a row is from.
    pub file_no: i64,
    pub has_deletes: bool,
}

impl Merge<'_> {
    fn table(&self) -> String {
        self.place.table_name(&self.entity.name)
    }

    fn tombstones(&self) -> String {
        self.place.tombstones_name(&self.entity.name)
    }

    fn keys(&self) -> String {
        self.entity.key.iter().map(|k| quoted(k)).collect::<Vec<_>>().join(", ")
    }

    /// `a.key = b.key`, for each part of the key.
    fn same_key(&self, a: &str, b: &str) -> String {
        self.entity.key.iter().map(|k| format!("{a}.{0} = {b}.{0}", quoted(k))).collect::<Vec<_>>().join(" AND ")
    }

    fn version(&self) -> Option<String> {
        self.entity.version.as_ref().map(|v| quoted(v))
    }

    /// Statements that compare with files of other names have the entity's key and this file's name as `$1` to `$4`.
    fn earlier_files(&self) -> (&'static str, Vec<Bind>) {
        let sql = "SELECT no FROM file WHERE namespace = $1 AND dataset = $2 AND entity = $3 AND path <= $4";
        (sql, self.place.key(&self.entity.name).into_iter().chain([self.path.into()]).collect())
    }
}

fn composed(text: String) -> Sql {
    Sql::composed(text, vec![])
}

impl Tx {
    /// Whether neither a row nor a tombstone stands in the way of loading the table itself.
    pub async fn is_empty(&mut self, place: Place<'_>, entity: &Entity) -> Result<bool> {
        let mut tables = vec![place.table_name(&entity.name)];
        if entity.version.is_some() {
            tables.push(place.tombstones_name(&entity.name));
        }
        for table in tables {
            if self.fetch_one(composed(format!("SELECT 1 FROM {table} LIMIT 1"))).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Leaves one row of each key in the stage.
    pub async fn keep_last_of_each_key(&mut self, merge: &Merge<'_>) -> Result<()> {
        let keys = merge.keys();
        let twice = format!("SELECT 1 FROM stage GROUP BY {keys} HAVING count(*) > 1 LIMIT 1");
        if self.fetch_one(composed(twice)).await?.is_none() {
            return Ok(());
        }
        let mut newest = String::new();
        if let Some(v) = merge.version() {
            if merge.has_deletes {
                // A delete without a version deletes what stands before it.
                self.execute(composed(format!("CREATE INDEX stage_key ON stage ({keys})"))).await?;
                let fill = format!(
                    "UPDATE stage SET {v} = (SELECT max(b.{v}) FROM stage b WHERE {} AND b.seq_no < stage.seq_no) \
                     WHERE is_delete AND {v} IS NULL",
                    merge.same_key("b", "stage")
                );
                self.execute(composed(fill)).await?;
            }
            newest = format!("{v} DESC NULLS LAST, ");
        }
        let drop = format!(
            "DELETE FROM stage WHERE seq_no IN (SELECT seq_no FROM (SELECT seq_no, row_number() OVER \
             (PARTITION BY {keys} ORDER BY {newest}seq_no DESC) AS rank_no FROM stage) r WHERE rank_no > 1)"
        );
        self.execute(composed(drop)).await?;
        Ok(())
    }

    /// Takes out of the stage what the table knows better, or what was deleted since.
    pub async fn drop_stale(&mut self, merge: &Merge<'_>) -> Result<()> {
        let Some(v) = merge.version() else { return Ok(()) };
        let (earlier, binds) = merge.earlier_files();
        let file = quoted(FILE_COLUMN);
        for old in [merge.table(), merge.tombstones()] {
            if self.fetch_one(composed(format!("SELECT 1 FROM {old} LIMIT 1"))).await?.is_none() {
                continue;
            }
            let is_newer = format!(
                "(o.{v} IS NULL OR s.{v} > o.{v} OR (s.{v} = o.{v} AND (o.{file} IS NULL OR o.{file} IN ({earlier}))))"
            );
            let drop = format!(
                "DELETE FROM stage AS s WHERE (NOT s.is_delete OR s.{v} IS NOT NULL) AND EXISTS (SELECT 1 FROM {old} o \
                 WHERE {} AND NOT COALESCE({is_newer}, FALSE))",
                merge.same_key("o", "s")
            );
            self.execute(Sql::composed(drop, binds.clone())).await?;
        }
        Ok(())
    }

    /// Takes out of the stage what the table holds already as it is.
    pub async fn drop_unchanged(&mut self, merge: &Merge<'_>) -> Result<()> {
        let same = match merge.place.dialect {
            Dialect::Sqlite => "IS",
            Dialect::Postgres => "IS NOT DISTINCT FROM",
        };
        let all: Vec<String> =
            merge.entity.fields.iter().map(|f| format!("o.{0} {same} s.{0}", quoted(&f.name))).collect();
        let drop = format!(
            "DELETE FROM stage AS s WHERE NOT s.is_delete AND EXISTS (SELECT 1 FROM {} o WHERE {} AND {})",
            merge.table(),
            merge.same_key("o", "s"),
            all.join(" AND ")
        );
        self.execute(composed(drop)).await?;
        Ok(())
    }

    /// How many rows the table has, and how many of them the stage has not.
    pub async fn absent(&mut self, merge: &Merge<'_>) -> Result<(i64, i64)> {
        let table = merge.table();
        let all = self.fetch_one(composed(format!("SELECT count(*) FROM {table}"))).await?;
        let sql = format!(
            "SELECT count(*) FROM {table} o WHERE NOT EXISTS (SELECT 1 FROM stage s WHERE {})",
            merge.same_key("s", "o")
        );
        let absent = self.fetch_one(composed(sql)).await?;
        let count = |row: Option<super::Row>| row.map_or(Ok(0), |row| row.get(0));
        Ok((count(all)?, count(absent)?))
    }

    /// Deletes the rows that the stage has not.
    pub async fn delete_absent(&mut self, merge: &Merge<'_>) -> Result<()> {
        let sql = format!(
            "DELETE FROM {} AS o WHERE NOT EXISTS (SELECT 1 FROM stage s WHERE {})",
            merge.table(),
            merge.same_key("s", "o")
        );
        self.execute(composed(sql)).await?;
        Ok(())
    }

    /// Applies a stage that [`Tx::keep_last_of_each_key`] and [`Tx::drop_stale`] have cleaned.
    pub async fn apply_stage(&mut self, merge: &Merge<'_>) -> Result<()> {
        let (table, keys) = (merge.table(), merge.keys());
        let mut columns: Vec<String> = merge.entity.fields.iter().map(|f| quoted(&f.name)).collect();
        let mut values = columns.clone();
        let mut binds: Vec<Bind> = vec![];
        if merge.entity.version.is_some() {
            columns.push(quoted(FILE_COLUMN));
            values.push("CAST($1 AS BIGINT)".to_owned());
            binds.push(merge.file_no.into());
        }
        let is_key = |column: &String| merge.entity.key.iter().any(|k| quoted(k) == *column);
        let sets: Vec<String> = columns.iter().filter(|c| !is_key(c)).map(|c| format!("{c} = excluded.{c}")).collect();
        let update = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) };
        let upsert = format!(
            "INSERT INTO {table} ({}) SELECT {} FROM stage WHERE NOT is_delete ON CONFLICT ({keys}) DO {update}",
            columns.join(", "),
            values.join(", ")
        );
        self.execute(Sql::composed(upsert, binds)).await?;
        if merge.entity.version.is_some() {
            self.keep_tombstones(merge).await?;
        }
        if merge.has_deletes {
            let delete = format!(
                "DELETE FROM {table} AS o WHERE EXISTS (SELECT 1 FROM stage s WHERE s.is_delete AND {})",
                merge.same_key("s", "o")
            );
            self.execute(composed(delete)).await?;
        }
        // Else it would lie on the server's disk as long as this connection lives.
        self.execute(Sql::new("DROP TABLE stage")).await?;
        Ok(())
    }

    /// What came back has no tombstone; what is deleted leaves one, with the version that it had.
    async fn keep_tombstones(&mut self, merge: &Merge<'_>) -> Result<()> {
        let (Some(v), tombstones, keys) = (merge.version(), merge.tombstones(), merge.keys()) else { return Ok(()) };
        let back = format!(
            "DELETE FROM {tombstones} AS t WHERE EXISTS (SELECT 1 FROM stage s WHERE NOT s.is_delete AND {})",
            merge.same_key("s", "t")
        );
        self.execute(composed(back)).await?;
        if !merge.has_deletes {
            return Ok(());
        }
        let of_stage: Vec<String> = merge.entity.key.iter().map(|k| format!("s.{}", quoted(k))).collect();
        let file = quoted(FILE_COLUMN);
        let put = format!(
            "INSERT INTO {tombstones} ({keys}, {v}, {file}) SELECT {}, COALESCE(s.{v}, o.{v}), CAST($1 AS BIGINT) FROM stage s \
             LEFT JOIN {} o ON {} WHERE s.is_delete AND COALESCE(s.{v}, o.{v}) IS NOT NULL \
             ON CONFLICT ({keys}) DO UPDATE SET {v} = excluded.{v}, {file} = excluded.{file}",
            of_stage.join(", "),
            merge.table(),
            merge.same_key("o", "s")
        );
        self.execute(Sql::composed(put, vec![merge.file_no.into()])).await?;
        Ok(())
    }

    /// Appends to the consent log what the rows of `from` change, before they are in the table.
    ///
    /// A row enters the log only where the field differs from what the table holds, stamped with `changedAt`.
    /// A time that is still to come would outlast what the person says in between: it counts as now.
    /// Without `changedAt` a file may withdraw, but never grant again after a recorded opt-out. Where a topic `requires:
    /// Confirmed` a file only asks for it.
    pub async fn log_consent(
        &mut self,
        merge: &Merge<'_>,
        consent: &ConsentRule<'_>,
        from: Consenting,
        now: Timestamp,
    ) -> Result<()> {
        let (place, entity, table) = (merge.place, merge.entity, merge.table());
        let field = quoted(consent.field);
        let profile = canonical_key(place.dialect, entity, "s");
        let at = consent.changed_at.map_or_else(
            || "CAST(NULL AS BIGINT)".to_owned(),
            |c| micros_of(place.dialect, &format!("s.{}", quoted(c))),
        );
        let differs = match place.dialect {
            Dialect::Sqlite => format!("s.{field} IS NOT old.{field}"),
            Dialect::Postgres => format!("s.{field} IS DISTINCT FROM old.{field}"),
        };
        let rows = match from {
            Consenting::Stage => {
                format!(
                    "stage s LEFT JOIN {table} old ON {} WHERE NOT s.is_delete AND {differs}",
                    merge.same_key("old", "s")
                )
            }
            Consenting::Table => format!("{table} s WHERE TRUE"),
        };
        let granted = match consent.confirmed {
            _ if !consent.must_confirm => "'Granted'".to_owned(),
            None => "'Pending'".to_owned(),
            Some(confirmed) => format!("CASE WHEN s.{} THEN 'Granted' ELSE 'Pending' END", quoted(confirmed)),
        };
        let of = "c.namespace = $1 AND c.dataset = $2 AND c.profile = q.profile AND c.topic IN ($3, '*') AND c.channel IN ($4, '*')";
        // Who has confirmed need not do it again because a file says once more what it said.
        let sql = format!(
            "INSERT INTO consent (namespace, dataset, topic, channel, profile, at_us, state, source, recorded_us) \
             SELECT $1, $2, $3, $4, q.profile, CASE WHEN q.changed_us < $5 THEN q.changed_us ELSE $5 END, q.state, $6, $5 FROM ( \
               SELECT {profile} AS profile, {at} AS changed_us, CASE WHEN s.{field} THEN {granted} ELSE 'Withdrawn' END AS state \
               FROM {rows} AND s.{field} IS NOT NULL) q \
             WHERE (q.state = 'Withdrawn' OR q.changed_us IS NOT NULL \
                 OR NOT EXISTS (SELECT 1 FROM consent c WHERE {of} AND c.state = 'Withdrawn')) \
               AND (q.state <> 'Pending' OR coalesce((SELECT c.state FROM consent c WHERE {of} ORDER BY {NEWEST_FIRST} LIMIT 1), '') <> 'Granted') \
             ON CONFLICT DO NOTHING"
        );
        let binds = vec![
            place.namespace.into(),
            place.dataset.into(),
            consent.topic.into(),
            consent.channel.into(),
            micros(now).into(),
            consent.source.into(),
        ];
        self.execute(Sql::composed(sql, binds)).await?;
        Ok(())
    }
}

/// Whose consent is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consenting {
    /// The stage's rows, against the table.
    Stage,
    /// The table's, which was empty before.
    Table,
}

fn micros_of(dialect: Dialect, column: &str) -> String {
    match dialect {
        Dialect::Sqlite => column.to_owned(),
        Dialect::Postgres => format!("CAST(extract(epoch FROM {column}) * 1000000 AS BIGINT)"),
    }
}

/// `12345` at scale 2 as `123.45`.
pub fn decimal_text(scaled: i64, scale: u8) -> String {
    if scale == 0 {
        return scaled.to_string();
    }
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", scaled.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{part}", if scaled < 0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_scale_and_sign() {
        let written = [(12345, 2), (5, 2), (-5, 2), (-12345, 0), (0, 3)].map(|(n, s)| decimal_text(n, s));
        assert_eq!(written, ["123.45", "0.05", "-0.05", "-12345", "0.000"]);
    }
}

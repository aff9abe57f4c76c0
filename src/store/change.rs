//! Rows that another system changes in part, such as an address: by the entity's version, as a file's rows are.

use tokio::sync::mpsc;

use super::{
    Error, Result, Sql, Tx,
    entity::{FILE_COLUMN, Place, quoted},
    rows::{Batch, Target},
};
use crate::api::dataset::Entity;

/// What became of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Applied,
    /// The row, or its deletion, is as new or newer.
    Older,
    /// There is no such row.
    Missing,
}

impl Tx {
    /// Changes rows of an entity with versions. `part` has the fields that `rows` give: the key, what changes, and the
    /// version; no key comes twice. A row that is missing is made if `may_insert`. What became of each, in their order.
    pub async fn change_rows(
        &mut self,
        place: Place<'_>,
        (part, may_insert): (&Entity, bool),
        rows: Batch,
    ) -> Result<Vec<Changed>> {
        let version = part.version.as_ref().ok_or_else(|| Error::Internal("a change without a version".to_owned()))?;
        self.open_stage(place, part).await?;
        let (sender, mut batches) = mpsc::channel(1);
        // There is room for one.
        let _ = sender.send(rows).await;
        drop(sender);
        self.load(place, part, Target::Stage, &mut batches).await?;
        let (table, tombstones) = (place.table_name(&part.name), place.tombstones_name(&part.name));
        let v = quoted(version);
        let same =
            |a: &str| part.key.iter().map(|k| format!("{a}.{0} = s.{0}", quoted(k))).collect::<Vec<_>>().join(" AND ");
        let is_newer = format!("(o.{v} IS NULL OR s.{v} > o.{v})");
        let first = quoted(&part.key[0]);
        let look = format!(
            "SELECT CASE WHEN o.{first} IS NOT NULL THEN CASE WHEN {is_newer} THEN 'Applied' ELSE 'Older' END \
             WHEN t.{v} >= s.{v} THEN 'Older' ELSE 'Missing' END \
             FROM stage s LEFT JOIN {table} o ON {} LEFT JOIN {tombstones} t ON {} ORDER BY s.seq_no",
            same("o"),
            same("t")
        );
        let found = self.fetch(Sql::composed(look, vec![])).await?;
        let words: Vec<String> = found.iter().map(|row| row.get(0)).collect::<Result<_>>()?;
        let sets: Vec<String> = part
            .fields
            .iter()
            .filter(|field| !part.key.contains(&field.name))
            .map(|field| format!("{0} = s.{0}", quoted(&field.name)))
            .chain([format!("{} = NULL", quoted(FILE_COLUMN))])
            .collect();
        let update =
            format!("UPDATE {table} AS o SET {} FROM stage s WHERE {} AND {is_newer}", sets.join(", "), same("o"));
        self.execute(Sql::composed(update, vec![])).await?;
        if may_insert {
            let columns: Vec<String> = part.fields.iter().map(|field| quoted(&field.name)).collect();
            let values: Vec<String> = columns.iter().map(|column| format!("s.{column}")).collect();
            let insert = format!(
                "INSERT INTO {table} ({}) SELECT {} FROM stage s WHERE NOT EXISTS (SELECT 1 FROM {table} o WHERE {}) \
                 AND NOT EXISTS (SELECT 1 FROM {tombstones} t WHERE {} AND t.{v} >= s.{v})",
                columns.join(", "),
                values.join(", "),
                same("o"),
                same("t")
            );
            self.execute(Sql::composed(insert, vec![])).await?;
            let back = format!(
                "DELETE FROM {tombstones} AS t WHERE EXISTS (SELECT 1 FROM stage s JOIN {table} o ON {} WHERE {})",
                same("o"),
                same("t")
            );
            self.execute(Sql::composed(back, vec![])).await?;
        }
        self.execute(Sql::new("DROP TABLE stage")).await?;
        let read = |word: &String| match word.as_str() {
            "Applied" => Changed::Applied,
            "Older" => Changed::Older,
            _ if may_insert => Changed::Applied,
            _ => Changed::Missing,
        };
        Ok(words.iter().map(read).collect())
    }

    /// Takes an entered event back: nothing came of it.
    pub async fn forget_event(&mut self, (namespace, dataset): (&str, &str), (source, id): (&str, &str)) -> Result<()> {
        let sql = "DELETE FROM cloud_event WHERE namespace = $1 AND dataset = $2 AND source = $3 AND id = $4";
        self.execute(Sql::new(sql).bind(namespace).bind(dataset).bind(source).bind(id)).await?;
        Ok(())
    }

    /// Enters an event of another system, by its source and id; false if it was taken before.
    pub async fn take_event(
        &mut self,
        (namespace, dataset): (&str, &str),
        (source, id): (&str, &str),
        now: jiff::Timestamp,
    ) -> Result<bool> {
        let sql = "INSERT INTO cloud_event (namespace, dataset, source, id, at_us) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let sql = Sql::new(sql).bind(namespace).bind(dataset).bind(source).bind(id).bind(super::micros(now));
        Ok(self.execute(sql).await? == 1)
    }
}

//! A file's rows into an entity's table: staged, compared with what is there, merged.
//!
//! A file is merged in one transaction with the note that it was read, so it counts exactly once, whenever the
//! process dies. PostgreSQL takes the rows by `COPY`, SQLite by INSERTs of many rows.

use jiff::Timestamp;
use sea_query::{Alias, ColumnDef, Table as TableStatement};

use super::{
    Bind, Result, Sql, Tx,
    entity::{FileRead, Place, canonical_key, column, quoted},
    micros,
};
use crate::{
    api::dataset::{Category, Entity},
    rule::Dialect,
};

/// Rows of one INSERT into SQLite's stage: below its 32,766 binds for any entity of up to 64 fields.
const STAGE_ROWS: usize = 200;

/// One value of a row, typed as its field is, in the form in which the database stores it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Missing,
    Text(String),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    /// Scaled by ten to the field's `scale`.
    Decimal(i64),
    /// `2026-03-31`
    Date(jiff::civil::Date),
    Timestamp(Timestamp),
}

/// A row that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub line: i64,
    pub field: Option<String>,
    pub reason: String,
}

/// Which field of the profile says what a person agreed to.
#[derive(Clone, Copy, Debug)]
pub struct ConsentRule<'a> {
    pub topic: &'a str,
    pub channel: &'a str,
    pub field: &'a str,
    pub changed_at: Option<&'a str>,
    pub source: &'a str,
}

/// The consent fields of an entity, if it is the profile.
pub fn consent_rules<'a>(
    dataset: &'a crate::api::DatasetSpec,
    entity: &'a Entity,
    source: &'a str,
) -> Vec<ConsentRule<'a>> {
    if dataset.profile.entity != entity.name {
        return vec![];
    }
    let topics = dataset.topics.iter().filter(|t| t.category == Category::Marketing || t.consent.is_some());
    topics
        .filter_map(|topic| {
            let email = topic.consent.as_ref()?.email.as_ref()?;
            let changed_at = email.changed_at.as_deref();
            Some(ConsentRule { topic: &topic.name, channel: "email", field: &email.field, changed_at, source })
        })
        .collect()
}

impl Tx {
    /// Makes an empty stage for one file's rows: `seq_no` is the line, the other columns are the entity's.
    pub async fn open_stage(&mut self, place: Place<'_>, entity: &Entity) -> Result<()> {
        self.execute(Sql::new("DROP TABLE IF EXISTS stage")).await?;
        let mut create = TableStatement::create();
        create.table(Alias::new("stage")).temporary().col(ColumnDef::new(Alias::new("seq_no")).big_integer());
        for field in &entity.fields {
            create.col(column(
                &field.name,
                field.kind,
                field.precision.unwrap_or(18),
                field.scale.unwrap_or(0),
                place.dialect,
            ));
        }
        self.execute(Sql::define(&create, place.dialect)).await?;
        Ok(())
    }

    /// Adds rows to the stage; each is its line and its cells in the order of the entity's fields.
    pub async fn stage(&mut self, entity: &Entity, rows: &[(i64, Vec<Cell>)]) -> Result<()> {
        match self.dialect() {
            Dialect::Postgres => {
                let data: String = rows.iter().map(|(line, cells)| copy_line(*line, cells, entity)).collect();
                self.copy_in("COPY stage FROM STDIN", data.as_bytes()).await?;
            }
            Dialect::Sqlite => {
                for chunk in rows.chunks(STAGE_ROWS) {
                    self.stage_sqlite(entity, chunk).await?;
                }
            }
        }
        Ok(())
    }

    async fn stage_sqlite(&mut self, entity: &Entity, rows: &[(i64, Vec<Cell>)]) -> Result<()> {
        let one = format!("(?{})", ", ?".repeat(entity.fields.len()));
        let text = format!("INSERT INTO stage VALUES {}", vec![one; rows.len()].join(", "));
        let mut binds = Vec::with_capacity(rows.len() * (entity.fields.len() + 1));
        for (line, cells) in rows {
            binds.push((*line).into());
            binds.extend(cells.iter().map(sqlite_bind));
        }
        self.execute(Sql::composed(text, binds)).await?;
        Ok(())
    }

    /// Merges the stage into the entity's table: per key the highest version wins, then the last line.
    pub async fn merge_stage(&mut self, place: Place<'_>, entity: &Entity) -> Result<()> {
        let table = place.table_name(&entity.name);
        let columns: Vec<String> = entity.fields.iter().map(|f| quoted(&f.name)).collect();
        let key: Vec<String> = entity.key.iter().map(|k| quoted(k)).collect();
        let newest = entity.version.as_ref().map_or(String::new(), |v| format!("{} DESC NULLS LAST, ", quoted(v)));
        let sets: Vec<String> =
            columns.iter().filter(|c| !key.contains(c)).map(|c| format!("{c} = excluded.{c}")).collect();
        let update = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) };
        let guard = match &entity.version {
            Some(v) if !sets.is_empty() => {
                let v = quoted(v);
                format!(" WHERE old.{v} IS NULL OR excluded.{v} >= old.{v}")
            }
            _ => String::new(),
        };
        let sql = format!(
            "INSERT INTO {table} AS old ({columns}) SELECT {columns} FROM (SELECT {columns}, \
               row_number() OVER (PARTITION BY {key} ORDER BY {newest}seq_no DESC) AS rank_no FROM stage) s WHERE rank_no = 1 \
             ON CONFLICT ({key}) DO {update}{guard}",
            columns = columns.join(", "),
            key = key.join(", "),
        );
        self.execute(Sql::composed(sql, vec![])).await?;
        Ok(())
    }

    /// Appends to the consent log what the stage changes, before it is merged.
    ///
    /// A row enters the log only where the field differs from what the table holds, stamped with `changedAt`.
    /// Without `changedAt` a file may withdraw, but never grant again after a recorded opt-out.
    pub async fn log_consent(
        &mut self,
        place: Place<'_>,
        entity: &Entity,
        consent: &ConsentRule<'_>,
        now: Timestamp,
    ) -> Result<()> {
        let table = place.table_name(&entity.name);
        let (field, version) = (quoted(consent.field), entity.version.as_ref().map(|v| quoted(v)));
        let profile = canonical_key(place.dialect, entity, "s");
        let on: Vec<String> = entity.key.iter().map(|k| format!("old.{0} = s.{0}", quoted(k))).collect();
        let at = consent.changed_at.map_or_else(
            || "CAST(NULL AS BIGINT)".to_owned(),
            |c| micros_of(place.dialect, &format!("s.{}", quoted(c))),
        );
        let differs = match place.dialect {
            Dialect::Sqlite => format!("s.{field} IS NOT old.{field}"),
            Dialect::Postgres => format!("s.{field} IS DISTINCT FROM old.{field}"),
        };
        let newer = version.as_ref().map_or(String::new(), |v| format!(" AND (old.{v} IS NULL OR s.{v} >= old.{v})"));
        let newest = version.as_ref().map_or(String::new(), |v| format!("{v} DESC NULLS LAST, "));
        let key: Vec<String> = entity.key.iter().map(|k| quoted(k)).collect();
        let sql = format!(
            "INSERT INTO consent (namespace, dataset, topic, channel, profile, at_us, granted, source, recorded_us) \
             SELECT $1, $2, $3, $4, q.profile, COALESCE(q.changed_us, $5), q.granted, $6, $5 FROM ( \
               SELECT {profile} AS profile, {at} AS changed_us, CASE WHEN s.{field} THEN 1 ELSE 0 END AS granted \
               FROM (SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY {newest}seq_no DESC) AS rank_no FROM stage) s \
               LEFT JOIN {table} old ON {on} WHERE s.rank_no = 1 AND s.{field} IS NOT NULL AND {differs}{newer}) q \
             WHERE q.granted = 0 OR q.changed_us IS NOT NULL OR NOT EXISTS (SELECT 1 FROM consent c WHERE c.namespace = $1 \
               AND c.dataset = $2 AND c.topic = $3 AND c.channel = $4 AND c.profile = q.profile AND c.granted = 0) \
             ON CONFLICT DO NOTHING",
            keys = key.join(", "),
            on = on.join(" AND "),
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

    /// Notes that a file was read, with its rejects, in the transaction that merged it.
    pub async fn note_file(
        &mut self,
        place: Place<'_>,
        entity: &str,
        file: &FileRead,
        rejects: &[Reject],
        now: Timestamp,
    ) -> Result<()> {
        let with = |more: Vec<Bind>| place.key(entity).into_iter().chain(more).collect::<Vec<Bind>>();
        let sql = "INSERT INTO file (namespace, dataset, entity, path, stamp, shape, row_count, rejected, problem, at_us) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (namespace, dataset, entity, path) DO UPDATE SET \
                   stamp = excluded.stamp, shape = excluded.shape, row_count = excluded.row_count, rejected = excluded.rejected, \
                   problem = excluded.problem, at_us = excluded.at_us";
        let binds = with(vec![
            (&file.path).into(),
            (&file.stamp).into(),
            (&file.shape).into(),
            file.rows.into(),
            file.rejected.into(),
            file.problem.clone().into(),
            micros(now).into(),
        ]);
        self.execute(Sql::composed(sql.to_owned(), binds)).await?;
        let clear = "DELETE FROM reject WHERE namespace = $1 AND dataset = $2 AND entity = $3 AND path = $4";
        self.execute(Sql::composed(clear.to_owned(), with(vec![(&file.path).into()]))).await?;
        let insert = "INSERT INTO reject (namespace, dataset, entity, path, line, field, reason, at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        let rows = rejects.iter().map(|r| {
            with(vec![
                (&file.path).into(),
                r.line.into(),
                r.field.clone().into(),
                (&r.reason).into(),
                micros(now).into(),
            ])
        });
        self.execute_each(insert, rows.collect()).await
    }
}

fn micros_of(dialect: Dialect, column: &str) -> String {
    match dialect {
        Dialect::Sqlite => column.to_owned(),
        Dialect::Postgres => format!("CAST(extract(epoch FROM {column}) * 1000000 AS BIGINT)"),
    }
}

fn sqlite_bind(cell: &Cell) -> Bind {
    match cell {
        Cell::Missing => Bind::Text(None),
        Cell::Text(text) => text.into(),
        Cell::Integer(n) | Cell::Decimal(n) => (*n).into(),
        Cell::Double(x) => Bind::Real(Some(*x)),
        Cell::Boolean(b) => (*b).into(),
        Cell::Date(date) => date.to_string().into(),
        Cell::Timestamp(at) => micros(*at).into(),
    }
}

/// One line of PostgreSQL's COPY text format: tab between columns, `\N` for missing, backslash escapes.
fn copy_line(line: i64, cells: &[Cell], entity: &Entity) -> String {
    use std::fmt::Write;
    let mut text = line.to_string();
    for (cell, field) in cells.iter().zip(&entity.fields) {
        text.push('\t');
        // Writing to a String cannot fail.
        let _ = match cell {
            Cell::Missing => write!(text, "\\N"),
            Cell::Text(value) => {
                super::db::copy_text(&mut text, value);
                Ok(())
            }
            Cell::Integer(n) => write!(text, "{n}"),
            Cell::Decimal(n) => write!(text, "{}", decimal_text(*n, field.scale.unwrap_or(0))),
            Cell::Double(x) => write!(text, "{x}"),
            Cell::Boolean(b) => write!(text, "{b}"),
            Cell::Date(date) => write!(text, "{date}"),
            Cell::Timestamp(at) => write!(text, "{at}"),
        };
    }
    text.push('\n');
    text
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

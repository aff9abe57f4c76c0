//! Rows into the store: PostgreSQL takes them by one `COPY` in its binary format, SQLite by INSERTs of many rows.

use sea_query::{Alias, ColumnDef, Table as TableStatement};
use tokio::sync::mpsc;

use super::{
    Bind, Error, Result, Sql, Tx,
    entity::{FILE_COLUMN, Place, column, quoted},
    rows::{Batch, Target},
};
use crate::{api::dataset::Entity, rule::Dialect};

/// SQLite takes 32,766 values in a statement; this many rows are enough to make its start cheap.
const STATEMENT_BINDS_MAX: usize = 32_000;
const STATEMENT_ROWS_MAX: usize = 200;
/// What a binary COPY begins with: a signature, no flags, no extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TRAILER: &[u8] = &[0xff, 0xff];

impl Tx {
    /// Makes an empty stage: a number, the kind of change, and the entity's columns.
    pub async fn open_stage(&mut self, place: Place<'_>, entity: &Entity) -> Result<()> {
        self.execute(Sql::new("DROP TABLE IF EXISTS stage")).await?;
        let mut create = TableStatement::create();
        create.table(Alias::new("stage")).temporary().col(ColumnDef::new(Alias::new("seq_no")).big_integer());
        create.col(ColumnDef::new(Alias::new("is_delete")).boolean());
        for field in &entity.fields {
            let (precision, scale) = (field.precision.unwrap_or(18), field.scale.unwrap_or(0));
            create.col(column(&field.name, field.kind, precision, scale, place.dialect));
        }
        self.execute(Sql::define(&create, place.dialect)).await?;
        Ok(())
    }

    /// Takes batches until their sender is gone.
    ///
    /// # Errors
    /// [`Error::is_duplicate`] where the target is the table and two rows have one key.
    pub async fn load(
        &mut self,
        place: Place<'_>,
        entity: &Entity,
        target: Target,
        batches: &mut mpsc::Receiver<Batch>,
    ) -> Result<()> {
        let mut columns: Vec<String> = entity.fields.iter().map(|f| quoted(&f.name)).collect();
        let table = match target {
            Target::Stage => {
                columns.splice(0..0, ["seq_no".to_owned(), "is_delete".to_owned()]);
                "stage".to_owned()
            }
            Target::Table => {
                if entity.version.is_some() {
                    columns.insert(0, quoted(FILE_COLUMN));
                }
                place.table_name(&entity.name)
            }
        };
        match self.dialect() {
            Dialect::Postgres => {
                let copy = format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", columns.join(", "));
                self.copy_batches(&copy, batches).await
            }
            Dialect::Sqlite => {
                while let Some(batch) = batches.recv().await {
                    let Batch::Binds(rows) = batch else {
                        return Err(Error::Internal("a batch for another database".to_owned()));
                    };
                    self.insert_rows(&table, &columns, rows).await?;
                }
                Ok(())
            }
        }
    }

    async fn copy_batches(&mut self, statement: &str, batches: &mut mpsc::Receiver<Batch>) -> Result<()> {
        let mut copy = self.copy_in(statement).await?;
        copy.send(COPY_HEADER).await?;
        while let Some(batch) = batches.recv().await {
            let Batch::Copy(bytes) = batch else {
                return Err(Error::Internal("a batch for another database".to_owned()));
            };
            copy.send(bytes).await?;
        }
        copy.send(COPY_TRAILER).await?;
        copy.finish().await?;
        Ok(())
    }

    async fn insert_rows(&mut self, table: &str, columns: &[String], mut rows: Vec<Vec<Bind>>) -> Result<()> {
        let at_once = (STATEMENT_BINDS_MAX / columns.len().max(1)).clamp(1, STATEMENT_ROWS_MAX);
        let one = format!("(?{})", ", ?".repeat(columns.len() - 1));
        while !rows.is_empty() {
            let rest = rows.split_off(rows.len().min(at_once));
            let values = vec![&*one; rows.len()].join(", ");
            let text = format!("INSERT INTO {table} ({}) VALUES {values}", columns.join(", "));
            self.execute(Sql::composed(text, rows.into_iter().flatten().collect())).await?;
            rows = rest;
        }
        Ok(())
    }
}

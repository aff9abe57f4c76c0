//! Export of an audience: its rows into a file or an object for others to read, in the order of their key.

use std::io;

use serde_json::Value;
use tokio::sync::mpsc;

use super::audiences::Ground;
use crate::{
    api::{audience::Export, channel::Compression, dataset::FileFormat},
    files::{
        table::{Column, Table},
        target::Target,
    },
    plan::{audience::Set, message::portable},
    rule::{Query, check_path, schema::FieldType},
    store::{
        self, Row, Sql, Store,
        audience::{Kept, kept_keys},
    },
};

/// Rows handed over at once, and how many such chunks wait for the disk.
const CHUNK_ROWS: usize = 1_000;
const CHUNKS_WAITING: usize = 2;

/// Writes the rows of a set that is kept to `target`; how many there were.
///
/// # Errors
/// The store's; within, why the file could not be written.
pub async fn export(
    store: &Store,
    ground: &Ground<'_>,
    set: &Set,
    kept: &Kept,
    (export, target): (&Export, Target),
) -> store::Result<Result<u64, String>> {
    let gone = || store::Error::Internal(format!("entity {} is gone", set.entity));
    let entity = ground.schema.entity(&set.entity).ok_or_else(gone)?;
    let keys = kept_keys(&kept.table, entity.key.iter().map(String::as_str));
    let mut query = Query::over_set(ground.schema, entity, ground.dialect, keys);
    let fields = if export.fields.is_empty() { &entity.key } else { &export.fields };
    let mut columns = vec![];
    for (index, field) in fields.iter().enumerate() {
        // Checked where the audience was: see `plan::audience`.
        let reached = check_path(field, ground.schema, &set.entity).map_err(|p| store::Error::Internal(p.message))?;
        let ty = reached.field_type(ground.schema).unwrap_or(FieldType::String);
        let value = query.path(&reached);
        let value = portable(&query, value, ty);
        query.column(value, &format!("c{index}"));
        columns.push(Column { name: field.clone(), ty });
    }
    query.key().into_iter().for_each(|key| query.order_by(key));
    let select = Sql::query(&query.finish(), ground.dialect)?;
    let (sender, rows) = mpsc::channel(CHUNKS_WAITING);
    let format = export.format;
    let writing = tokio::task::spawn_blocking(move || write(&target, format, &columns, rows));
    let read = store.stream(select, CHUNK_ROWS, &sender).await;
    if read.is_ok() {
        // Told apart from a reader that failed in the middle: only a whole set gets its name.
        let _ = sender.send(vec![]).await;
    }
    drop(sender);
    let written = writing.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    read?;
    Ok(written.map_err(|error| error.to_string()))
}

fn write(
    target: &Target,
    format: FileFormat,
    columns: &[Column],
    mut rows: mpsc::Receiver<Vec<Row>>,
) -> io::Result<u64> {
    let mut table = Table::new(&format.into(), columns, (Compression::None, target.begin()?))?;
    while let Some(chunk) = rows.blocking_recv() {
        if chunk.is_empty() {
            return table.commit().map(|(rows, _)| rows);
        }
        for row in &chunk {
            let values = columns.iter().enumerate();
            let values = values.map(|(index, column)| Ok(row.shown(index, column.ty)?.unwrap_or(Value::Null)));
            table.row(values.collect::<store::Result<_>>().map_err(io::Error::other)?)?;
        }
    }
    Err(io::Error::other("the rows did not come to their end"))
}

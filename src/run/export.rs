//! Export of an audience: its rows into a file for others to read, written beside and renamed into place.
//!
//! Rows are in the order of their key. A missing value is an empty field in CSV and `null` in JSONL; a Decimal and a
//! Timestamp are texts in JSONL, as a number there would lose digits.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Component, Path, PathBuf},
};

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::audiences::Ground;
use crate::{
    api::audience::{Export, ExportFormat},
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

/// What stands in one column.
struct Column {
    name: String,
    ty: FieldType,
}

/// Writes the rows of a set that is kept to `path`; how many there were.
///
/// # Errors
/// The store's; within, why the file could not be written.
pub async fn export(
    store: &Store,
    ground: &Ground<'_>,
    set: &Set,
    kept: &Kept,
    (export, path): (&Export, PathBuf),
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
    let writing = tokio::task::spawn_blocking(move || write(&path, format, &columns, rows));
    let read = store.stream(select, CHUNK_ROWS, &sender).await;
    if read.is_ok() {
        // Told apart from a reader that failed in the middle: only a whole set gets its name.
        let _ = sender.send(vec![]).await;
    }
    drop(sender);
    let written = writing.await.unwrap_or_else(|e| Err(e.to_string()));
    read?;
    Ok(written)
}

fn write(
    path: &Path,
    format: ExportFormat,
    columns: &[Column],
    mut rows: mpsc::Receiver<Vec<Row>>,
) -> Result<u64, String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let wrote = write_beside(&beside, format, columns, &mut rows).and_then(|count| {
        if let Some(count) = count {
            fs::rename(&beside, path)?;
            return Ok(count);
        }
        Err(io::Error::other("the rows did not come to their end"))
    });
    wrote.map_err(|error| {
        let _ = fs::remove_file(&beside);
        error.to_string()
    })
}

/// How many rows were written; none if they ended before their end was said.
fn write_beside(
    beside: &Path,
    format: ExportFormat,
    columns: &[Column],
    rows: &mut mpsc::Receiver<Vec<Row>>,
) -> io::Result<Option<u64>> {
    let mut out = BufWriter::new(File::create(beside)?);
    if format == ExportFormat::CSV {
        record(&mut out, columns.iter().map(|c| c.name.clone()))?;
    }
    let (mut count, mut is_whole) = (0, false);
    while let Some(chunk) = rows.blocking_recv() {
        is_whole = chunk.is_empty();
        for row in &chunk {
            let values: store::Result<Vec<Value>> = columns
                .iter()
                .enumerate()
                .map(|(index, column)| Ok(row.shown(index, column.ty)?.unwrap_or(Value::Null)))
                .collect();
            let values = values.map_err(io::Error::other)?;
            match format {
                ExportFormat::CSV => record(&mut out, values.iter().map(text))?,
                ExportFormat::JSONL => {
                    let names = columns.iter().map(|c| c.name.clone());
                    let object: Map<String, Value> = names.zip(values).collect();
                    serde_json::to_writer(&mut out, &object)?;
                    out.write_all(b"\n")?;
                }
            }
            count += 1;
        }
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(is_whole.then_some(count))
}

fn record(out: &mut impl Write, fields: impl Iterator<Item = String>) -> io::Result<()> {
    let mut writer = csv::WriterBuilder::new().from_writer(out);
    writer.write_record(fields)?;
    writer.flush()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The file that `url` names below `root`, whose folder is made. It cannot leave `root`, through links neither.
///
/// # Errors
/// Why it cannot be written there.
pub fn target(root: &Path, url: &str) -> Result<PathBuf, String> {
    let relative = Path::new(url.strip_prefix("file://").unwrap_or(url));
    let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let is_hidden = relative.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    if !is_plain || is_hidden || url.contains("://") && !url.starts_with("file://") {
        return Err(format!("`{url}` is not a file below {}", root.display()));
    }
    let path = root.join(relative);
    let folder = path.parent().unwrap_or(root);
    let failed = |error: io::Error| format!("`{url}`: {error}");
    fs::create_dir_all(folder).map_err(failed)?;
    let (real, root) = (folder.canonicalize().map_err(failed)?, root.canonicalize().map_err(failed)?);
    if !real.starts_with(&root) {
        return Err(format!("`{url}` leads out of {}", root.display()));
    }
    Ok(path)
}

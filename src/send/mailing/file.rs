//! The bytes of a file of letters, and of its manifest. All of it blocks.

use std::io::{self, Write};

use serde_json::Value;
use tokio::sync::mpsc;

use super::form::{Form, Made};
use crate::{
    files::{
        table::{Column, Table},
        target::Target,
    },
    rule::schema::FieldType,
    store::Row,
};

/// What the name of a manifest ends in.
pub const MANIFEST: &str = ".manifest.json";
/// By what a manifest says whose it is.
const ID: &str = "id";

/// Writes the rows that come, `count` of them, and the seeds behind them. An empty chunk says that these are all.
///
/// # Errors
/// If a file is not whole, the rows are not all there, or `may_go_on` says no: then the last file is not written.
pub(super) fn write(
    form: &Form,
    base: &Target,
    count: u64,
    mut rows: mpsc::Receiver<Vec<Row>>,
    may_go_on: &dyn Fn() -> bool,
) -> io::Result<Vec<Made>> {
    let mut sheets = Sheets { form, base, may_go_on, made: vec![], open: None };
    let mut left = count;
    loop {
        let chunk = rows.blocking_recv().ok_or_else(|| io::Error::other("the rows did not come to their end"))?;
        if chunk.is_empty() {
            break;
        }
        for row in &chunk {
            let cells: String = row.get(0).map_err(io::Error::other)?;
            sheets.add(serde_json::from_str(&cells)?, false)?;
            left = left.saturating_sub(1);
        }
    }
    if left > 0 {
        return Err(io::Error::other("the rows are not all there"));
    }
    for seed in &form.seeds {
        sheets.add(seed.iter().map(|text| Value::from(text.as_str())).collect(), true)?;
    }
    sheets.close()?;
    Ok(sheets.made)
}

/// The files that are being written, one after the other.
struct Sheets<'a> {
    form: &'a Form,
    base: &'a Target,
    may_go_on: &'a dyn Fn() -> bool,
    made: Vec<Made>,
    open: Option<Open>,
}

struct Open {
    table: Table,
    suffix: String,
    rows: u64,
    seeds: u64,
}

impl Sheets<'_> {
    fn add(&mut self, cells: Vec<Value>, is_seed: bool) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| Some(open.rows) == self.form.rows_max) {
            self.close()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        open.table.row(cells)?;
        open.rows += 1;
        open.seeds += u64::from(is_seed);
        self.open = Some(open);
        Ok(())
    }

    fn begin(&self) -> io::Result<Open> {
        let column = |name: &String| Column { name: name.clone(), ty: FieldType::String };
        let columns: Vec<Column> = self.form.columns.iter().map(column).collect();
        let suffix = self.form.suffix(self.made.len());
        let target = self.base.beside(&suffix);
        target.sweep()?;
        let table = Table::new(&self.form.layout, &columns, (self.form.compression, target.begin()?))?;
        Ok(Open { table, suffix, rows: 0, seeds: 0 })
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(Open { table, suffix, rows, seeds }) = self.open.take() else { return Ok(()) };
        if !(self.may_go_on)() {
            return Err(io::Error::other("this process may not go on"));
        }
        let (_, written) = table.commit()?;
        self.made.push(Made { suffix, rows, seeds, bytes: written.bytes, sha256: written.sha256 });
        Ok(())
    }
}

/// Takes files away that have no manifest.
///
/// # Errors
/// If one of them may still be there.
pub(super) fn remove(form: &Form, base: &Target, count: u64) -> io::Result<()> {
    let rows = count + form.seeds.len() as u64;
    let files = form.rows_max.map_or(1, |most| rows.div_ceil(most.max(1)));
    (0..files).try_for_each(|number| {
        let target = base.beside(&form.suffix(usize::try_from(number).unwrap_or(usize::MAX)));
        target.sweep()?;
        target.remove()
    })
}

/// Writes a small file whole.
///
/// # Errors
/// If it is not there.
pub(super) fn put(target: &Target, bytes: &[u8]) -> io::Result<()> {
    target.sweep()?;
    let mut out = target.begin()?;
    out.write_all(bytes)?;
    out.commit().map(drop)
}

/// Whose manifest it is.
pub(super) fn id_of(manifest: &[u8]) -> Option<String> {
    let all: Value = serde_json::from_slice(manifest).ok()?;
    all[ID].as_str().map(str::to_owned)
}

//! A file with keys: what an audience that was made elsewhere is imported from.

use tokio::sync::mpsc;

use super::{Found, csv};
use crate::{
    api::dataset::Entity,
    store::merge::{Cell, Reject},
};

/// What a file of keys held, beside them.
#[derive(Debug, Default)]
pub struct Held {
    pub rows: i64,
    pub rejected: i64,
    pub rejects: Vec<Reject>,
}

/// Reads keys in a thread of its own; `keys` has the key's fields under the names of the file's columns.
///
/// # Errors
/// Why the file cannot be read at all.
pub async fn read_keys(
    file: &Found,
    keys: &Entity,
    sender: mpsc::Sender<Vec<(i64, Vec<Cell>)>>,
) -> Result<Held, String> {
    let reader = csv::Reader::new(file.path.clone(), keys.clone());
    let read = tokio::task::spawn_blocking(move || reader.run(&sender)).await;
    let counts = read.unwrap_or_else(|e| Err(format!("the reader stopped: {e}")))?;
    Ok(Held { rows: counts.rows, rejected: counts.rejected, rejects: counts.rejects })
}

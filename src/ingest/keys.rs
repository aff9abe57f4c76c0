//! A file with keys: what an audience that was made elsewhere is imported from.

use tokio::sync::mpsc;

use super::{
    feed::{Erased, Feed},
    format::{self, Halt, Reading},
};
use crate::{
    api::dataset::{Entity, FileFormat},
    files::{Found, Site},
    rule::Dialect,
    store::{
        files::Reject,
        rows::{Batch, Target},
    },
};

/// What a file of keys held, beside them.
#[derive(Debug, Default)]
pub struct Held {
    pub rows: i64,
    pub rejected: i64,
    pub rejects: Vec<Reject>,
}

/// Why a file of keys was not read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is wrong as a whole.
    Refused(String),
    /// Another look may find it again.
    Lost(String),
}

/// Reads keys in a thread of its own; `keys` has the key's fields under the names of the file's columns.
///
/// # Errors
/// Why the file cannot be read.
pub async fn read_keys(
    (site, file): (&Site, &Found),
    format: FileFormat,
    (keys, dialect): (&Entity, Dialect),
    erased: Erased,
    sender: mpsc::Sender<Batch>,
) -> Result<Held, Unread> {
    let reading = Reading::of(keys, None, false).map_err(Unread::Refused)?;
    let mut feed = Feed::new(dialect, keys, Target::Stage, None, erased, sender);
    let (site, file) = (site.clone(), file.clone());
    let read = tokio::task::spawn_blocking(move || {
        let input = site.open(&file, format != FileFormat::Parquet).map_err(Halt::Lost)?;
        format::read(format, input, &reading, &mut feed)?;
        feed.end_file();
        feed.finish()
    });
    let counts = read.await.map_err(|e| Unread::Lost(format!("the reader stopped: {e}")))?;
    let counts = counts.map_err(|halt| match halt {
        Halt::Refused(message) => Unread::Refused(message),
        Halt::Lost(message) => Unread::Lost(message),
        Halt::Enough => Unread::Lost("the store stopped taking rows".to_owned()),
    })?;
    let counts = counts.into_iter().next().unwrap_or_default();
    Ok(Held { rows: counts.rows, rejected: counts.rejected, rejects: counts.rejects })
}

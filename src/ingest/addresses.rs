//! A file with addresses that are written to no more. Each is hashed as it is read: no address comes further than here.

use tokio::sync::mpsc;

use super::{
    format::{self, Halt, Reading, Record, Sink},
    keys::Unread,
};
use crate::{
    api::{
        dataset::{Entity, Field, FieldKind, FileFormat},
        medium::Medium,
    },
    files::{Found, Site},
    send::address,
    store::{files::Reject, keyed::Keyed, rows::Value},
};

/// Hashes of one commit.
const HASHES_AT_ONCE: usize = 10_000;
/// Rejects kept of one file; all are counted.
const REJECTS_KEPT_MAX: usize = 10_000;
const MISSING: &str = "there is no address";
const MALFORMED: &str = "it is no address";

/// What a list held, beside the hashes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub rows: i64,
    pub rejected: i64,
    pub rejects: Vec<Reject>,
}

/// How a list is read.
pub struct List<'a> {
    pub format: FileFormat,
    pub column: &'a str,
    pub medium: Medium,
    pub keyed: Keyed,
}

/// Reads a list in a thread of its own and sends the hashes of its addresses, many at once.
///
/// # Errors
/// Why the file cannot be read to its end.
pub async fn read_addresses(
    (site, file): (&Site, &Found),
    list: List<'_>,
    sender: mpsc::Sender<Vec<String>>,
) -> Result<Listed, Unread> {
    let reading = Reading::of(&shape(list.column), None, false).map_err(Unread::Refused)?;
    let mut hashes =
        Hashes { medium: list.medium, keyed: list.keyed, hashes: vec![], sender, listed: Listed::default() };
    let (site, file, format) = (site.clone(), file.clone(), list.format);
    let read = tokio::task::spawn_blocking(move || {
        let input = site.open(&file, format != FileFormat::Parquet).map_err(Halt::Lost)?;
        format::read(format, input, &reading, &mut hashes)?;
        hashes.send()?;
        Ok(hashes.listed)
    });
    let listed = read.await.map_err(|e| Unread::Lost(format!("the reader stopped: {e}")))?;
    listed.map_err(|halt| match halt {
        Halt::Refused(message) => Unread::Refused(message),
        Halt::Lost(message) => Unread::Lost(message),
        Halt::Enough => Unread::Lost("the store stopped taking rows".to_owned()),
    })
}

/// A list as a file of rows with one field.
fn shape(column: &str) -> Entity {
    let field = Field {
        name: column.into(),
        kind: FieldKind::String,
        precision: None,
        scale: None,
        required: false,
        reveal: false,
    };
    Entity {
        name: "address".into(),
        key: vec![column.into()],
        version: None,
        fields: vec![field],
        links: vec![],
        source: None,
        freshness: None,
    }
}

struct Hashes {
    medium: Medium,
    keyed: Keyed,
    hashes: Vec<String>,
    sender: mpsc::Sender<Vec<String>>,
    listed: Listed,
}

impl Hashes {
    fn send(&mut self) -> Result<(), Halt> {
        // Why nobody receives, the store says itself.
        self.sender.blocking_send(std::mem::take(&mut self.hashes)).map_err(|_| Halt::Enough)
    }
}

impl Sink for Hashes {
    fn take(&mut self, line: i64, record: &impl Record) -> Result<(), Halt> {
        let text = match record.value(0) {
            Ok(Value::Text(text)) => address::plain(self.medium, text),
            Ok(_) => return self.reject(line, MISSING.to_owned()),
            Err(why) => return self.reject(line, why.to_owned()),
        };
        if text.is_empty() {
            return self.reject(line, MISSING.to_owned());
        }
        if !address::is_fit(self.medium, &text) {
            return self.reject(line, MALFORMED.to_owned());
        }
        self.hashes.push(self.keyed.of_address(&text));
        self.listed.rows += 1;
        if self.hashes.len() >= HASHES_AT_ONCE { self.send() } else { Ok(()) }
    }

    fn reject(&mut self, line: i64, reason: String) -> Result<(), Halt> {
        self.listed.rejected += 1;
        if self.listed.rejects.len() < REJECTS_KEPT_MAX {
            self.listed.rejects.push(Reject { line, field: None, reason });
        }
        Ok(())
    }

    fn ignore(&mut self, _columns: usize) {}
}

//! Direct mail: the file that a printing house gets, one for each run and step.
//!
//! ```yaml
//! directMail:
//!   file:
//!     url: s3://printer/letters          # a folder; or one below the manifest's own
//!     name: "{run}-{step}"               # and what the format adds: `.csv.gz`
//!     format: CSV                        # CSV | FixedWidth | JSONL | Parquet
//!     compression: Gzip                  # None | Gzip | Zstd
//!     rowsMax: 50000                     # more rows make several files
//!     secretRef: {name: printer}
//!     seeds: [{values: {name: "Ada Seed", street: "Via Roma 1", city: Milano}}]
//! ```

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Sender, is_default};
use crate::api::access::Access;

/// Letters are printed elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectMailChannel {
    pub file: MailFile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
}

/// A file for each run and step, with a manifest beside it (`.manifest.json`: rows, bytes, SHA-256, columns, run) that is
/// written last: a file without one is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "self.format != 'Parquet' || !has(self.compression) || self.compression == 'None'",
    "Parquet is compressed inside; compression is None"
), validation = (
    "!has(self.delimiter) || self.format == 'CSV'",
    "delimiter belongs to CSV"
))]
pub struct MailFile {
    /// The folder that gets the files: relative to the manifest's own (in a cluster: to the namespace's below
    /// `--exports`), or of an object store (`s3://`, `gs://`, `az://`).
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    #[serde(flatten)]
    pub access: Access,
    /// The file's name without what its format adds; `{namespace}`, `{campaign}`, `{run}` and `{step}` stand for names, and
    /// `{run}` is there. Where a finished file of another run has it, a number follows.
    #[serde(default = "name", skip_serializing_if = "is_name")]
    #[schemars(length(min = 5, max = 128), regex(pattern = r"^[A-Za-z0-9_{][A-Za-z0-9_.{}-]*$"))]
    pub name: String,
    pub format: MailFormat,
    /// Between the fields of a CSV file.
    #[serde(default, skip_serializing_if = "is_default")]
    pub delimiter: Delimiter,
    #[serde(default, skip_serializing_if = "is_default")]
    pub compression: Compression,
    /// More rows than these make several files, whose names end in `-1`, `-2` and so on, under one manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub rows_max: Option<u32>,
    /// Addresses of one's own that stand behind the others: whether letters arrive, and how they look. The manifest counts
    /// them apart, and nothing else counts them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub seeds: Vec<Seed>,
}

/// A row by its columns; what is not there is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Seed {
    #[schemars(extend("minProperties" = 1, "maxProperties" = 128), extend("additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub values: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MailFormat {
    /// With a header (RFC 4180).
    CSV,
    /// A line for each letter, each column as wide as its template says, filled up with blanks; no header.
    FixedWidth,
    /// One JSON object in each line.
    JSONL,
    Parquet,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Delimiter {
    #[default]
    Comma,
    /// As spreadsheets write it where the comma is a decimal one.
    Semicolon,
    Tab,
}

fn name() -> String {
    "{run}-{step}".to_owned()
}

fn is_name(text: &str) -> bool {
    text == name()
}

impl MailFile {
    /// The file's name, with names in the place of words; without what its format adds.
    pub fn named(&self, names: &[(&str, &str)]) -> String {
        names.iter().fold(self.name.clone(), |text, (word, name)| text.replace(&format!("{{{word}}}"), name))
    }

    /// What its files' names end in.
    pub fn extension(&self) -> String {
        format!(".{}{}", self.format.extension(), self.compression.extension())
    }
}

impl MailFormat {
    /// Of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::CSV => "csv",
            Self::FixedWidth => "txt",
            Self::JSONL => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::CSV => "CSV",
            Self::FixedWidth => "FixedWidth",
            Self::JSONL => "JSONL",
            Self::Parquet => "Parquet",
        }
    }
}

impl Compression {
    /// What it adds to a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Gzip => "Gzip",
            Self::Zstd => "Zstd",
        }
    }
}

impl Delimiter {
    pub fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
        }
    }
}

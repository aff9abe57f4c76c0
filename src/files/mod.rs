//! Where files are: folders of this machine and object stores; what is there, how it is read, and how it is written whole.
//!
//! | file | what |
//! | --- | --- |
//! | [`address`] | what the text of a URL alone says of a place |
//! | [`site`] | a place that is looked at, and what is found there |
//! | `arrivals` | which of a folder's files were renamed into place |
//! | [`remote`], [`http`] | object stores, and the client that they are reached by |
//! | [`target`] | a file or an object that is written whole, or not at all |
//! | [`table`] | rows in it: CSV, JSON Lines, Parquet |
//! | [`reach`] | what a namespace may reach |

pub mod address;
mod arrivals;
pub mod http;
pub mod reach;
pub mod remote;
pub mod site;
pub mod table;
pub mod target;

use std::{fs::File, io, io::Read, sync::Arc};

pub use self::{
    arrivals::Arrivals,
    site::{Found, SETTLED, Site},
};

/// What a file's bytes come from.
pub enum Input {
    File(File),
    Stream(Box<dyn Read + Send>),
    Ranges(Arc<dyn Ranges>),
}

/// Something of which parts are read.
pub trait Ranges: Send + Sync {
    fn size(&self) -> u64;
    /// Reads exactly `length` bytes.
    ///
    /// # Errors
    /// If they are not there.
    fn read(&self, start: u64, length: usize) -> io::Result<bytes::Bytes>;
}

/// Whether a URL leads off this machine.
pub fn is_remote(url: &str) -> bool {
    url.contains("://") && !url.starts_with("file://")
}

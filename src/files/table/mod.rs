//! Rows as files for others to read: CSV, JSON Lines, Parquet, fields of a fixed width; compressed where that is asked for.
//!
//! A missing value is an empty field in CSV and blank in a fixed width, and `null` elsewhere; a Decimal and a Timestamp are
//! texts in CSV and JSON Lines, as a number there would lose digits, and typed in Parquet.

mod packing;
mod parquet;
mod text;

use std::io::{self, Write};

use serde_json::Value;

use self::{packing::Packed, parquet::Parquet, text::Csv, text::Fixed, text::Jsonl};
use super::target::{Pending, Written};
use crate::{
    api::{channel::Compression, dataset::FileFormat},
    rule::schema::FieldType,
};

/// How rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// With what stands between its fields.
    Csv(u8),
    Jsonl,
    Parquet,
    /// A line for each row, without a header; the widths of its fields in characters.
    Fixed(Vec<usize>),
}

impl From<FileFormat> for Layout {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::CSV => Self::Csv(b','),
            FileFormat::JSONL => Self::Jsonl,
            FileFormat::Parquet => Self::Parquet,
        }
    }
}

/// What stands in one column.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub ty: FieldType,
}

/// Takes rows, in order.
trait Rows {
    fn row(&mut self, values: Vec<Value>) -> io::Result<()>;
    /// Writes what is left, and hands back where it was written.
    fn finish(self: Box<Self>) -> io::Result<Packed>;
}

/// A table that is being written; blocks.
pub struct Table {
    rows: Box<dyn Rows + Send>,
    count: u64,
}

impl Table {
    /// # Errors
    /// If it cannot be written to.
    pub fn new(layout: &Layout, columns: &[Column], (compression, out): (Compression, Pending)) -> io::Result<Self> {
        let out = Packed::new(compression, out)?;
        let rows: Box<dyn Rows + Send> = match layout {
            Layout::Csv(delimiter) => Box::new(Csv::new(*delimiter, columns, out)?),
            Layout::Jsonl => Box::new(Jsonl::new(columns, out)),
            Layout::Parquet => Box::new(Parquet::new(columns, out)?),
            Layout::Fixed(widths) => Box::new(Fixed::new(widths.clone(), out)),
        };
        Ok(Self { rows, count: 0 })
    }

    /// Writes a row: for each column its value as [`Row::shown`](crate::store::Row::shown) gives it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn row(&mut self, values: Vec<Value>) -> io::Result<()> {
        self.count += 1;
        self.rows.row(values)
    }

    /// Gives the file its name; how many rows it has, and what it is.
    ///
    /// # Errors
    /// If it is not whole there; nothing of it is left then.
    pub fn commit(self) -> io::Result<(u64, Written)> {
        let mut out = self.rows.finish()?.finish()?;
        out.flush()?;
        Ok((self.count, out.commit()?))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, path::Path};

    use super::*;
    use crate::files::target::Target;

    fn write(
        folder: &Path,
        layout: &Layout,
        compression: Compression,
        rows: &[[&str; 2]],
    ) -> io::Result<(u64, Written)> {
        let columns = ["name", "city"].map(|name| Column { name: name.to_owned(), ty: FieldType::String });
        let target = Target::local(folder, "letters").unwrap();
        let mut table = Table::new(layout, &columns, (compression, target.begin()?))?;
        for row in rows {
            table.row(row.iter().map(|text| Value::from(*text)).collect())?;
        }
        table.commit()
    }

    fn unpacked(bytes: &[u8], compression: Compression) -> Vec<u8> {
        let mut out = vec![];
        match compression {
            Compression::None => out.extend_from_slice(bytes),
            Compression::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
            Compression::Zstd => drop(zstd::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap()),
        }
        out
    }

    #[test]
    fn a_file_is_what_was_asked_for_and_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [["Zoë", "Rome, IT"], ["Ann", ""]];
        let cases = [
            (Layout::Csv(b';'), "name;city\nZoë;Rome, IT\nAnn;\n"),
            (Layout::Csv(b','), "name,city\nZoë,\"Rome, IT\"\nAnn,\n"),
            (Layout::Jsonl, "{\"name\":\"Zoë\",\"city\":\"Rome, IT\"}\n{\"name\":\"Ann\",\"city\":\"\"}\n"),
            (Layout::Fixed(vec![5, 9]), "Zoë  Rome, IT \nAnn           \n"),
        ];
        for (layout, expected) in &cases {
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let (count, written) = write(folder.path(), layout, compression, &rows).unwrap();
                let bytes = fs::read(folder.path().join("letters")).unwrap();
                assert_eq!((count, written.bytes), (2, bytes.len() as u64));
                let sha256: String =
                    <sha2::Sha256 as sha2::Digest>::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(written.sha256, sha256, "{layout:?} {compression:?}");
                assert_eq!(String::from_utf8(unpacked(&bytes, compression)).unwrap(), *expected);
                assert_eq!(write(folder.path(), layout, compression, &rows).unwrap().1, written);
            }
        }
    }

    #[test]
    fn what_does_not_fit_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::Fixed(vec![5, 5]);
        for row in [["Joséphine", ""], ["Ann", "a\nb"]] {
            assert!(write(folder.path(), &layout, Compression::None, &[["Ann", "Rome"], row]).is_err());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}

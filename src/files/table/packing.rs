//! Compression on the way into a file.

use std::io::{self, Write};

use flate2::write::GzEncoder;

use crate::{api::channel::Compression, files::target::Pending};

/// Takes bytes as they are, and hands them on compressed. The same bytes give the same file: no time stands in it.
pub(super) enum Packed {
    Plain(Pending),
    Gzip(GzEncoder<Pending>),
    Zstd(zstd::Encoder<'static, Pending>),
}

impl Packed {
    pub fn new(compression: Compression, out: Pending) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(out),
            Compression::Gzip => Self::Gzip(GzEncoder::new(out, flate2::Compression::default())),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Writes what is left, and hands back where it was written.
    pub fn finish(self) -> io::Result<Pending> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            // A block of its own for each flush would make the file larger.
            Self::Gzip(_) | Self::Zstd(_) => Ok(()),
        }
    }
}

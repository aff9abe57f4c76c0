//! `outbox: {}` writes what would be sent, for email one `.eml` per message.
//!
//! The default of every home: nothing leaves the machine. A file is renamed into place, so it is never half, and a
//! message that is written again after a crash is the same file: an outbox is never in doubt.

use std::{fs, io, path::{Path, PathBuf}};

use async_trait::async_trait;

use super::{Channel, Delivery, Envelope, Refusal, detail};

/// Files written at once: enough to keep a disk busy, few enough for its handles.
const CONNECTIONS: usize = 16;

pub struct Outbox {
    root: PathBuf,
}

impl Outbox {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

#[async_trait]
impl Channel for Outbox {
    async fn deliver(&self, message: &Envelope) -> Delivery {
        let (folder, name, bytes) = (self.root.join(&message.folder), message.id.clone(), message.bytes.clone());
        let written = tokio::task::spawn_blocking(move || write(&folder, &name, &bytes)).await;
        match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => Delivery::Sent { receipt: String::new() },
            Err(error) => Delivery::Later { reason: Refusal::WriteFailed, detail: detail(&error.to_string()) },
        }
    }

    fn may_doubt(&self) -> bool {
        false
    }

    fn connections(&self) -> usize {
        CONNECTIONS
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let hidden = folder.join(format!(".{name}.part"));
    fs::write(&hidden, bytes)?;
    fs::rename(&hidden, folder.join(format!("{name}.eml")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Envelope {
        let folder = PathBuf::from("default/hello/hello-1");
        Envelope { id: "1-0-0".into(), from: "a@b.c".into(), to: "d@e.f".into(), bytes: b"Subject: x\r\n\r\n".to_vec(), folder }
    }

    #[tokio::test]
    async fn a_message_written_twice_is_one_file() {
        let root = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(root.path());
        for _ in 0..2 {
            assert!(matches!(outbox.deliver(&message()).await, Delivery::Sent { .. }));
        }
        let files: Vec<_> = fs::read_dir(root.path().join("default/hello/hello-1")).unwrap().collect();
        assert_eq!(files.len(), 1);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_tried_later() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("default"), "a file where the folder should be").unwrap();
        let delivery = Outbox::new(root.path()).deliver(&message()).await;
        assert!(matches!(delivery, Delivery::Later { reason: Refusal::WriteFailed, .. }), "{delivery:?}");
    }
}

//! `outbox: {}` writes what would be sent, a file per message: `.eml` for mail, `.txt` for a text, `.json` for the rest.
//!
//! The default of every home: nothing leaves the machine. A file is written aside, forced to the disk and renamed into
//! place, so it is never half, and it is there before the store records it as sent. A message that is written again
//! after a crash is the same file: an outbox is never in doubt.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Component, Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc::UnboundedSender};

use super::{Channel, Delivery, Done, Envelope, Refusal};

/// Files written at once: enough to keep a disk busy, few enough for its handles.
const CONNECTIONS: usize = 16;

/// Two writers of one message, of which one was thought dead, must not write into one file.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

pub struct Outbox {
    root: PathBuf,
    places: Arc<Semaphore>,
}

impl Outbox {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), places: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

#[async_trait]
impl Channel for Outbox {
    async fn submit(&self, tag: u64, message: Envelope, done: &UnboundedSender<Done>) {
        let place = self.places.clone().acquire_owned().await;
        let (root, done) = (self.root.clone(), done.clone());
        // A disk blocks: each file has a thread of its own, never one of the runtime's.
        tokio::task::spawn_blocking(move || {
            let may_go = message.permission.is_given();
            let delivery = if may_go { deliver(&root, &message) } else { Delivery::Unsent };
            drop(place);
            // Nobody may be left to hear of it.
            let _ = done.send(Done { tag, delivery });
        });
    }

    fn may_doubt(&self) -> bool {
        false
    }

    fn connections(&self) -> usize {
        CONNECTIONS
    }
}

fn deliver(root: &Path, message: &Envelope) -> Delivery {
    if !stays_below(&message.folder) || !is_file_name(&message.id) {
        let detail = "the message's name leads out of the outbox".to_owned();
        return Delivery::Refused { reason: Refusal::WriteFailed, detail };
    }
    let (extension, bytes) = message.content.file();
    match write(root, &message.folder, (&message.id, extension), &bytes) {
        Ok(()) => Delivery::Sent { receipt: String::new() },
        Err(error) => Delivery::later(Refusal::WriteFailed, &error.to_string()),
    }
}

fn stays_below(folder: &Path) -> bool {
    folder.components().all(|part| matches!(part, Component::Normal(_)))
}

/// A leading dot would hide the file, and is how those being written are named.
fn is_file_name(id: &str) -> bool {
    !id.is_empty() && !id.starts_with('.') && !id.contains(['/', '\\', '\0'])
}

fn write(root: &Path, folder: &Path, (name, extension): (&str, &str), bytes: &[u8]) -> io::Result<()> {
    let target = root.join(folder);
    if !target.is_dir() {
        create_folders(root, folder)?;
    }
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let aside = target.join(format!(".{name}.{}-{number}.part", process::id()));
    let written = put(&aside, bytes).and_then(|()| fs::rename(&aside, target.join(format!("{name}.{extension}"))));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
        return written;
    }
    sync_folder(&target)
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A new folder is on the disk once the one that it stands in is.
fn create_folders(root: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(root.join(folder))?;
    folder.ancestors().skip(1).try_for_each(|above| sync_folder(&root.join(above)))
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file, and a rename is on the disk when it returns.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::channel::{Content, Mail};

    fn message() -> Envelope {
        let folder = PathBuf::from("default/hello/hello-1");
        let content = mail(b"Subject: x\r\n\r\n".to_vec());
        Envelope { id: "1-0-0".into(), reference: String::new(), content, folder, permission: Default::default() }
    }

    fn mail(bytes: Vec<u8>) -> Content {
        Content::Mail(Mail { from: "a@b.c".into(), to: "d@e.f".into(), bytes })
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_message_written_twice_is_one_file() {
        let root = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(root.path());
        for _ in 0..2 {
            assert!(matches!(outbox.deliver(message()).await, Delivery::Sent { .. }));
        }
        let folder = root.path().join("default/hello/hello-1");
        assert_eq!(files(&folder), ["1-0-0.eml"]);
        assert_eq!(fs::read(folder.join("1-0-0.eml")).unwrap(), b"Subject: x\r\n\r\n");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_writers_of_one_message_leave_a_whole_file() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("default/hello/hello-1");
        let large = Envelope { content: mail(vec![b'x'; 1 << 20]), ..message() };
        let writers: Vec<_> = (0..16)
            .map(|_| {
                let (outbox, large) = (Outbox::new(root.path()), large.clone());
                tokio::spawn(async move { outbox.deliver(large).await })
            })
            .collect();
        for writer in writers {
            let delivery = writer.await.unwrap();
            assert!(matches!(delivery, Delivery::Sent { .. }), "{delivery:?}");
            assert_eq!(fs::read(folder.join("1-0-0.eml")).unwrap().len(), 1 << 20, "never half");
        }
        assert_eq!(files(&folder), ["1-0-0.eml"]);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_tried_later() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("default"), "a file where the folder should be").unwrap();
        let delivery = Outbox::new(root.path()).deliver(message()).await;
        assert!(matches!(delivery, Delivery::Later { reason: Refusal::WriteFailed, .. }), "{delivery:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_said_and_leaves_nothing() {
        let error = put(Path::new("/dev/full"), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("No space left"));
    }

    #[tokio::test]
    async fn nothing_is_written_outside() {
        let root = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(root.path().join("in"));
        for (folder, id) in
            [("../out", "1"), ("/tmp", "1"), ("a/../../b", "1"), ("a", "../1"), ("a", ""), ("a", ".x"), ("a", "b/c")]
        {
            let delivery = outbox.deliver(Envelope { id: id.into(), folder: folder.into(), ..message() }).await;
            assert!(
                matches!(delivery, Delivery::Refused { reason: Refusal::WriteFailed, .. }),
                "{folder} {id}: {delivery:?}"
            );
        }
        assert_eq!(files(root.path()), Vec::<String>::new());
    }
}

//! Channels: one file per provider. A provider takes a ready message and says what became of it.

pub mod outbox;
pub mod smtp;

use std::path::PathBuf;

use async_trait::async_trait;

/// Server text in a record is cut to this; it is for a person who looks for the cause.
const DETAIL_CHARS_MAX: usize = 200;

/// One ready message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The ledger's id of the message; fit for a file's name.
    pub id: String,
    /// RFC 5321 addresses, without names.
    pub from: String,
    pub to: String,
    pub bytes: Vec<u8>,
    /// `namespace/campaign/run`, for channels that write files.
    pub folder: PathBuf,
}

/// Why a provider did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    ConnectFailed,
    TlsFailed,
    AuthFailed,
    SenderRefused,
    RecipientRefused,
    DataRefused,
    Timeout,
    ProtocolError,
    WriteFailed,
}

impl Refusal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "ConnectFailed",
            Self::TlsFailed => "TlsFailed",
            Self::AuthFailed => "AuthFailed",
            Self::SenderRefused => "SenderRefused",
            Self::RecipientRefused => "RecipientRefused",
            Self::DataRefused => "DataRefused",
            Self::Timeout => "Timeout",
            Self::ProtocolError => "ProtocolError",
            Self::WriteFailed => "WriteFailed",
        }
    }
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    Sent { receipt: String },
    /// For good.
    Refused { reason: Refusal, detail: String },
    /// Another attempt may succeed; this one surely did not.
    Later { reason: Refusal, detail: String },
    /// The message may have arrived.
    InDoubt { detail: String },
}

#[async_trait]
pub trait Channel: Send + Sync {
    async fn deliver(&self, message: &Envelope) -> Delivery;

    /// Whether an attempt can end without anyone knowing its fate.
    fn may_doubt(&self) -> bool;

    /// How many messages may be under way at once.
    fn connections(&self) -> usize;
}

/// Text for a record: cut, one line, and without addresses, which are personal.
pub fn detail(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if word.contains('@') { "<address>" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(DETAIL_CHARS_MAX).collect()
}

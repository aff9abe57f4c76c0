//! Channels: one file per provider. A provider takes a ready message and says what became of it.

pub mod apns;
mod content;
pub mod direct_mail;
pub mod exchange;
pub mod fcm;
pub mod http;
pub mod jwt;
mod notice;
pub mod outbox;
pub mod posted;
pub mod smpp;
pub mod smtp;
pub mod twilio;
pub mod web_push;

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use jiff::SignedDuration;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

pub use self::{
    content::{Content, Mail, Record, Text},
    notice::{Notice, Urgency},
};

/// Server text in a record is cut to this; it is for a person who looks for the cause.
const DETAIL_CHARS_MAX: usize = 200;
const HIDDEN: &str = "<address>";
/// Of a key that tells messages apart: two of 2^64 messages may share one.
const KEY_BYTES: usize = 16;

/// One ready message.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The ledger's id of the message, of those of its run; fit for a file's name.
    pub id: String,
    /// By what the message is named where answers come from; empty where none is awaited.
    pub reference: String,
    pub content: Content,
    /// `namespace/campaign/run`, for channels that write files.
    pub folder: PathBuf,
    pub permission: Permission,
}

impl Envelope {
    /// The same for every attempt of a message, and another for every other message of the store.
    pub fn key(&self) -> String {
        let digest = Sha256::new().chain_update(self.folder.as_os_str().as_encoded_bytes()).chain_update("/");
        let digest = digest.chain_update(&self.id).finalize();
        digest.iter().take(KEY_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whether a message may go; a provider asks right before its bytes, however long it stood in a queue.
#[derive(Clone, Default)]
pub struct Permission(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Permission {
    pub fn new(may_go: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(may_go)))
    }

    pub fn is_given(&self) -> bool {
        self.0.as_ref().is_none_or(|may_go| may_go())
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permission({})", self.is_given())
    }
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
    /// The address is known, and leads to nobody any more.
    Unregistered,
    /// The person wants nothing more of the sender, says the provider, who was told.
    OptedOut,
    /// The provider wants less at once.
    Throttled,
    /// The provider is there, and not able to.
    Unavailable,
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
            Self::Unregistered => "Unregistered",
            Self::OptedOut => "OptedOut",
            Self::Throttled => "Throttled",
            Self::Unavailable => "Unavailable",
        }
    }
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    Sent {
        receipt: String,
    },
    /// For good.
    Refused {
        reason: Refusal,
        detail: String,
    },
    /// Another attempt may succeed; this one surely did not.
    Later {
        reason: Refusal,
        detail: String,
        /// When, if the provider says it (`Retry-After`).
        after: Option<SignedDuration>,
    },
    /// The message may have arrived.
    InDoubt {
        detail: String,
    },
    /// It was not begun: the sender may not go on, or the message has expired.
    Unsent,
}

impl Delivery {
    /// [`Later`](Self::Later), whenever the sender likes; what the server said is cut and names nobody.
    pub fn later(reason: Refusal, text: &str) -> Self {
        Self::Later { reason, detail: detail(text), after: None }
    }

    /// Of a message of another medium, which no plan hands to a provider.
    pub fn foreign() -> Self {
        Self::Refused { reason: Refusal::ProtocolError, detail: "it carries no such message".to_owned() }
    }
}

/// A finished delivery, told exactly once for each message that was submitted.
#[derive(Debug)]
pub struct Done {
    pub tag: u64,
    pub delivery: Delivery,
}

#[async_trait]
pub trait Channel: Send + Sync {
    /// Takes a message. Returns once it stands in the channel's bounded queue, not when it is delivered; `tag` comes
    /// back with its delivery through `done`.
    async fn submit(&self, tag: u64, message: Envelope, done: &UnboundedSender<Done>);

    /// One message, to its end.
    async fn deliver(&self, message: Envelope) -> Delivery {
        let (done, mut ended) = unbounded_channel();
        self.submit(0, message, &done).await;
        drop(done);
        let lost = || Delivery::InDoubt { detail: "the channel broke".to_owned() };
        ended.recv().await.map_or_else(lost, |done| done.delivery)
    }

    /// Whether an attempt can end without anyone knowing its fate.
    fn may_doubt(&self) -> bool;

    /// Whether what becomes of a message is told under its receipt, and not under our reference.
    fn is_told_by_receipt(&self) -> bool {
        false
    }

    /// How many messages may be under way at once.
    fn connections(&self) -> usize;
}

/// Text for a record: cut, one line, printable, and without addresses, which are personal.
pub fn detail(text: &str) -> String {
    // PostgreSQL takes no NUL and a terminal obeys the rest.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let is_address = |word: &str| word.contains('@') || word.contains(HIDDEN);
    let words = text.split_whitespace().map(|word| if is_address(word) { HIDDEN } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(DETAIL_CHARS_MAX).collect()
}

/// The same about a message between two addresses: servers also name people by the part before the `@`.
pub fn detail_about(text: &str, addresses: [&str; 2]) -> String {
    if is_plain(text, addresses) {
        return text.to_owned();
    }
    let mut text = text.to_owned();
    for address in addresses {
        let local = address.rsplit_once('@').map_or("", |(local, _)| local);
        // Two letters are found in any word, and name nobody.
        for name in [address, local, digits_of(address)].into_iter().filter(|name| name.len() > 2) {
            text = without(&text, name);
        }
    }
    detail(&text)
}

/// Whether a text can stay as it is. Nearly every receipt can, and one comes with each message: nothing is allocated.
fn is_plain(text: &str, addresses: [&str; 2]) -> bool {
    let bytes = text.as_bytes();
    let names = |address: &str| {
        let local = address.rsplit_once('@').map_or(digits_of(address), |(local, _)| local).as_bytes();
        local.len() > 2 && bytes.windows(local.len()).any(|window| window.eq_ignore_ascii_case(local))
    };
    bytes.len() <= DETAIL_CHARS_MAX
        && bytes.iter().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'@' | b'<'))
        && text.trim_ascii().len() == text.len()
        && !text.contains("  ")
        && !addresses.into_iter().any(names)
}

/// A phone number as others write it.
fn digits_of(address: &str) -> &str {
    address.strip_prefix('+').unwrap_or(address)
}

/// Hides a name as a whole word, however its letters are written.
fn without(text: &str, name: &str) -> String {
    let (lower, name) = (text.to_ascii_lowercase(), name.to_ascii_lowercase());
    let is_word = |at: Option<char>| at.is_some_and(char::is_alphanumeric);
    let (mut out, mut end) = (String::new(), 0);
    for (at, _) in lower.match_indices(&name) {
        let behind = at + name.len();
        if !is_word(lower[..at].chars().next_back()) && !is_word(lower[behind..].chars().next()) {
            out += &text[end..at];
            out += HIDDEN;
            end = behind;
        }
    }
    out + &text[end..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_short_and_name_nobody() {
        let of = |text: &str| detail_about(text, ["Mary.Smith@example.org", "shop@example.com"]);
        assert_eq!(of("550 <mary.smith@example.org>: no\r\n mary.smith"), "550 <address> no <address>");
        assert_eq!(of("550 rosemary.smithers stays, SHOP goes"), "550 rosemary.smithers stays, <address> goes");
        assert_eq!(of("250 2.0.0 Ok: queued as 4XyZ"), "250 2.0.0 Ok: queued as 4XyZ");
        assert_eq!(of(" 250  ok "), "250 ok");
        assert_eq!(of("a\0b\u{1b}[31m"), "a b [31m");
        assert_eq!(of(&"é".repeat(500)).chars().count(), DETAIL_CHARS_MAX);
        let of = |text: &str| detail_about(text, ["+393331234567", "Shop"]);
        assert_eq!(of("'To' +393331234567 is no phone, 393331234567."), "'To' <address> is no phone, <address>");
    }

    #[test]
    fn a_key_is_of_one_message() {
        let of = |folder: &str, id: &str| {
            let content = Content::Text(Text { from: None, to: String::new(), text: String::new() });
            Envelope {
                id: id.into(),
                reference: String::new(),
                content,
                folder: folder.into(),
                permission: Permission::default(),
            }
            .key()
        };
        assert_eq!(of("shop/news/news-1", "mail-0-1"), of("shop/news/news-1", "mail-0-1"));
        let others = [
            of("shop/news/news-1", "mail-0-1"),
            of("shop/news/news-1", "mail-0-2"),
            of("shop/news/news-2", "mail-0-1"),
        ];
        assert!(others[0] != others[1] && others[0] != others[2] && others[0].len() == 32);
    }
}

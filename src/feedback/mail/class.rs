//! Why a message did not arrive.

use std::fmt;

/// An enhanced status code (RFC 3463), such as 5.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl Status {
    /// `5.1.1`, or the text behind it: `5.1.1 (bad destination)`.
    pub fn parse(text: &str) -> Option<Self> {
        let word: String = text.trim().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let mut parts = word.split('.');
        let class = parts.next().filter(|text| matches!(*text, "2" | "4" | "5"))?.parse().ok()?;
        let mut number = || parts.next().filter(|text| (1..=3).contains(&text.len()))?.parse().ok();
        let status = Self { class, subject: number()?, detail: number()? };
        parts.next().is_none().then_some(status)
    }

    /// The first one in a text, such as a server's answer.
    pub fn find(text: &str) -> Option<Self> {
        let is_of = |c: char| c.is_ascii_digit() || c == '.';
        let words = text.split(|c: char| !is_of(c)).map(|word| word.trim_end_matches('.'));
        words.filter(|word| word.matches('.').count() == 2).find_map(Self::parse)
    }

    pub fn is_permanent(self) -> bool {
        self.class == 5
    }
}

/// Why a message did not arrive. The first four are of the address: no other message arrives there either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    UnknownMailbox,
    UnknownDomain,
    MailboxDisabled,
    /// The mailbox moved, and does not say to where.
    MailboxMoved,
    MailboxFull,
    MessageTooLarge,
    ContentRefused,
    /// For what the sender is or did: a list, a reputation, a policy.
    Blocked,
    /// SPF, DKIM or DMARC do not vouch for the sender.
    Unauthenticated,
    /// Too many messages in too short a time.
    RateLimited,
    /// The other side was not reached in the time there was, or was not ready.
    Unreachable,
    /// The server does not take mail for that domain, or wants a login.
    RelayDenied,
    Undetermined,
}

impl Class {
    pub const ALL: [Self; 13] = [
        Self::UnknownMailbox,
        Self::UnknownDomain,
        Self::MailboxDisabled,
        Self::MailboxMoved,
        Self::MailboxFull,
        Self::MessageTooLarge,
        Self::ContentRefused,
        Self::Blocked,
        Self::Unauthenticated,
        Self::RateLimited,
        Self::Unreachable,
        Self::RelayDenied,
        Self::Undetermined,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownMailbox => "UnknownMailbox",
            Self::UnknownDomain => "UnknownDomain",
            Self::MailboxDisabled => "MailboxDisabled",
            Self::MailboxMoved => "MailboxMoved",
            Self::MailboxFull => "MailboxFull",
            Self::MessageTooLarge => "MessageTooLarge",
            Self::ContentRefused => "ContentRefused",
            Self::Blocked => "Blocked",
            Self::Unauthenticated => "Unauthenticated",
            Self::RateLimited => "RateLimited",
            Self::Unreachable => "Unreachable",
            Self::RelayDenied => "RelayDenied",
            Self::Undetermined => "Undetermined",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// A hard bounce: no other message would arrive at that address either.
    pub fn is_hard(self) -> bool {
        self.is_of_mailbox()
    }

    /// A soft bounce: of the mailbox, too, but not for good. The others are of the message or its sender; that the relay is
    /// on a list must not suppress anybody.
    pub fn is_soft(self) -> bool {
        matches!(self, Self::MailboxFull | Self::Unreachable | Self::Undetermined)
    }

    fn is_of_mailbox(self) -> bool {
        matches!(self, Self::UnknownMailbox | Self::UnknownDomain | Self::MailboxDisabled | Self::MailboxMoved)
    }

    /// Of the words of a server and the codes in front of them. Where a code is vague, or is used by large systems for
    /// something else than RFC 3463 says, the words decide.
    pub fn of(status: Option<Status>, words: &str) -> Self {
        let words = words.to_lowercase();
        let said = Self::of_words(&words);
        let coded = status.and_then(Self::of_status);
        let class = match (coded, said) {
            (Some(coded), Some(said)) if !is_vague(status) => {
                // 5.1.1 with `mailbox full`, as some systems write it: the person is there.
                if coded.is_of_mailbox() && said == Self::MailboxFull { said } else { coded }
            }
            (_, Some(said)) => said,
            (Some(coded), None) => coded,
            (None, None) => Self::Undetermined,
        };
        // What is only temporary says nothing of the address for good, although nobody tries any longer.
        if class.is_of_mailbox() && status.is_some_and(|status| !status.is_permanent()) {
            return if class == Self::UnknownDomain { Self::Unreachable } else { Self::Undetermined };
        }
        class
    }

    fn of_status(status: Status) -> Option<Self> {
        Some(match (status.subject, status.detail) {
            (1, 0 | 1 | 3 | 4) => Self::UnknownMailbox,
            // 5.1.10: the domain says that it takes no mail (RFC 7505, section 4.2).
            (1, 2 | 10) | (4, 3 | 4) => Self::UnknownDomain,
            (1, 6) => Self::MailboxMoved,
            (1, 7 | 8) => Self::Blocked,
            (2, 0 | 1) => Self::MailboxDisabled,
            (2, 2) | (3, 1) => Self::MailboxFull,
            (2, 3) | (3, 4) => Self::MessageTooLarge,
            (3, 2 | 3 | 5) | (4, 0..=2 | 5..=7) => Self::Unreachable,
            (6, _) => Self::ContentRefused,
            // RFC 7372, and what Gmail and Yahoo made of it.
            (7, 5 | 7 | 9 | 20..=27 | 30) => Self::Unauthenticated,
            (7, 28) => Self::RateLimited,
            (7, _) => Self::Blocked,
            _ => return None,
        })
    }

    fn of_words(words: &str) -> Option<Self> {
        PHRASES.iter().find(|(phrases, _)| phrases.iter().any(|phrase| words.contains(phrase))).map(|(_, class)| *class)
    }
}

/// Codes that say little, or that are used for everything: x.0.0, 5.7.1, 5.3.0, 5.5.x, and 5.4.1, by which Exchange says that
/// nobody is there, as it does by 5.1.10.
fn is_vague(status: Option<Status>) -> bool {
    status.is_none_or(|status| {
        matches!((status.subject, status.detail), (0 | 5, _) | (1..=4, 0) | (1, 10) | (7, 0 | 1 | 509) | (4, 1))
    })
}

/// Parts of what servers say, in lower case. The first that is found decides, so the special come before the general.
const PHRASES: [(&[&str], Class); 12] = [
    (
        &[
            "mailbox full",
            "mailbox is full",
            "over quota",
            "overquota",
            "quota exceeded",
            "exceeded quota",
            "over the quota",
            "exceeded storage",
            "out of storage",
            "insufficient system storage",
            "quotaexceeded",
            "inbox is full",
            "exceeded its quota",
            "disk quota",
        ],
        Class::MailboxFull,
    ),
    (
        &[
            "message size exceeds",
            "message too large",
            "message too big",
            "size limit",
            "too large",
            "exceeds size",
            "maximum message size",
            "message length exceeds",
        ],
        Class::MessageTooLarge,
    ),
    (
        &[
            "domain not found",
            "host or domain name not found",
            "couldn't find any host",
            "could not find any host",
            "name service error",
            "no such domain",
            "nullmx",
            "domain does not exist",
            "unrouteable mail domain",
            "domain couldn't be found",
            "unknown domain",
            "does not accept mail (nullmx)",
            "host unknown",
            "mx records point to non-existent",
            "dns error: domain",
            "bad destination system address",
        ],
        Class::UnknownDomain,
    ),
    (
        &[
            "account is disabled",
            "account disabled",
            "mailbox disabled",
            "mailbox is disabled",
            "account that you tried to reach is disabled",
            "is inactive",
            "account inactive",
            "account has been disabled",
            "account is suspended",
            "mailbox is inactive",
            "account has been suspended",
            "deactivated",
            "account closed",
            "no longer active",
            "user is disabled",
            "mailbox not accepting",
            "inactive user",
        ],
        Class::MailboxDisabled,
    ),
    (
        &["has moved", "user has left", "no longer works", "no longer employed", "no longer with us"],
        Class::MailboxMoved,
    ),
    (
        &[
            "unauthenticated email",
            "dmarc",
            "spf check",
            "spf fail",
            "dkim",
            "sender policy framework",
            "not authenticated",
            "authentication checks",
        ],
        Class::Unauthenticated,
    ),
    (
        &[
            "user unknown",
            "unknown user",
            "no such user",
            "does not exist",
            "doesn't exist",
            "user not found",
            "recipient not found",
            "mailbox not found",
            "no mailbox here",
            "unknown recipient",
            "invalid recipient",
            "invalid mailbox",
            "address not found",
            "no such recipient",
            "no such mailbox",
            "recipnotfound",
            "recipientnotfound",
            "mailbox unavailable",
            "unknown or illegal alias",
            "not a valid mailbox",
            "not our customer",
            "no such address",
            "address rejected: undeliverable",
            "couldn't be found",
            "wasn't found",
            "unrouteable address",
            "unknown local part",
            "unknown address",
            "recipient address rejected: access denied",
            "unknown mailbox",
            "invalid address",
            "no account by that name",
            "recipient unknown",
            "user doesn't have",
            "account has been deleted",
            "account not found",
            "nobody here by that name",
        ],
        Class::UnknownMailbox,
    ),
    (
        &[
            "rate limit",
            "ratelimit",
            "too many",
            "throttl",
            "greylist",
            "graylist",
            "unusual rate",
            "temporarily deferred",
            "try again later",
            "[tss0",
            "[ts0",
        ],
        Class::RateLimited,
    ),
    (
        &[
            "spam",
            "blacklist",
            "blocklist",
            "block list",
            "blocked",
            "reputation",
            "rbl",
            "spamhaus",
            "unsolicited",
            "banned",
            "policy",
            "poor sender",
            "access denied",
            "listed by",
            "restricted",
            "not permitted",
            "not allowed",
            "prohibited",
            "permission to send",
            "sender rejected",
            "not accepting mail from",
        ],
        Class::Blocked,
    ),
    (
        &[
            "virus",
            "malware",
            "attachment",
            "content rejected",
            "message content",
            "message rejected",
            "malformed",
            "bare lf",
        ],
        Class::ContentRefused,
    ),
    (&["relay", "authentication required", "authentication is required", "rcpthosts"], Class::RelayDenied),
    (
        &[
            "timed out",
            "timeout",
            "connection refused",
            "no route to host",
            "could not connect",
            "unreachable",
            "lost connection",
            "unable to connect",
            "wasn't able to establish",
            "connection reset",
            "delivery time expired",
            "retry timeout",
            "queue too long",
            "been in the queue too long",
            "message expired",
            "not been able to deliver",
            "delivery temporarily suspended",
            "loops back",
            "mail loop",
            "too many hops",
            "unable to deliver",
            "conversation with",
            "service unavailable",
            "not responding",
            "hop count",
            "server busy",
        ],
        Class::Unreachable,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_in_answers() {
        let of = |text: &str| Status::find(text).map(|status| status.to_string());
        assert_eq!(of("smtp; 550-5.1.1 The email account"), Some("5.1.1".to_owned()));
        assert_eq!(of("host mx.example.com[192.0.2.1] said: 554 5.7.1 <a@b.c>: denied"), Some("5.7.1".to_owned()));
        assert_eq!(of("552 mailbox full. 4.2.2."), Some("4.2.2".to_owned()));
        for wrong in ["", "550", "6.1.1", "192.0.2.1", "5.1", "5.1.1111", "3.1.1"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn words_decide_where_a_code_is_vague() {
        let of = |code: &str, words: &str| Class::of(Status::parse(code), words);
        assert_eq!(of("5.7.1", "Recipient address rejected: user unknown"), Class::UnknownMailbox);
        assert_eq!(of("5.7.1", ""), Class::Blocked);
        assert_eq!(of("5.1.1", "blocked by policy"), Class::UnknownMailbox);
        assert_eq!(of("5.1.1", "mailbox full"), Class::MailboxFull);
        assert_eq!(of("5.4.1", "Recipient address rejected: Access denied"), Class::UnknownMailbox);
        assert_eq!(of("4.1.1", "user unknown"), Class::Undetermined, "for now only");
        assert_eq!(of("4.4.3", "Host or domain name not found. Name service error"), Class::Unreachable);
        assert_eq!(of("", ""), Class::Undetermined);
        assert!(Class::ALL.into_iter().all(|class| Class::named(class.as_str()) == Some(class)));
    }
}

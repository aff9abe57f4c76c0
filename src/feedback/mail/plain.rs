//! Bounces in prose: qmail's, Exim's, and those of whoever else never took up RFC 3464.

use mail_parser::Message;

use super::{
    Part, What,
    class::{Class, Status},
    header,
};

/// Who sends bounces.
const SENDERS: [&str; 6] =
    ["mailer-daemon", "postmaster", "mail delivery", "mailerdaemon", "mail administrator", "bounce"];
/// How their subjects begin or what is in them.
const SUBJECTS: [&str; 13] = [
    "failure notice",
    "undelivered mail",
    "undeliverable",
    "mail delivery failed",
    "delivery status notification",
    "returned mail",
    "delivery failure",
    "delivery failed",
    "mail system error",
    "non remis",
    "unzustellbar",
    "mancato recapito",
    "delivery delayed",
];
/// Where the original begins: what stands behind it was said by ourselves.
const ORIGINAL: [&str; 8] = [
    "--- below this line is a copy of the message",
    "------ this is a copy of",
    "----- original message -----",
    "--- the header of the original",
    "----- unsent message follows",
    "original message follows",
    "-----original message-----",
    "--- message header follows",
];
const TEXT_CHARS_MAX: usize = 16_384;

pub(super) fn read(message: &Message<'_>, parts: &[Part<'_>]) -> (What, Option<String>) {
    let from = header(message, "From").to_lowercase();
    let subject = header(message, "Subject").to_lowercase();
    let failed = header(message, "X-Failed-Recipients");
    let is_senders = SENDERS.iter().any(|sender| from.contains(sender)) || header(message, "Return-Path") == "<>";
    let is_subject = SUBJECTS.iter().any(|word| subject.contains(word));
    let text = parts
        .iter()
        .find(|part| part.kind == "text/plain")
        .or_else(|| parts.iter().find(|part| part.kind == "text/html"));
    let text = text.map_or("", |part| &*part.text);
    let text: String = text.chars().take(TEXT_CHARS_MAX).collect();
    let lower = text.to_lowercase();
    let is_qmail = lower.contains("this is the qmail-send program");
    let is_exim = lower.contains("created automatically by mail delivery software");
    if !(is_qmail || is_exim || !failed.is_empty() || (is_senders && is_subject)) {
        return (What::Unknown, None);
    }
    let end = ORIGINAL.iter().filter_map(|mark| lower.find(mark)).min().unwrap_or(lower.len());
    let words = &lower[..end];
    let recipient = failed.split(',').map(str::trim).find(|text| text.contains('@')).map(str::to_owned);
    let recipient = recipient.or_else(|| addressed(words));
    let is_still_tried = subject.contains("delay")
        || subject.contains("warning: could not send")
        || words.contains("will be retried")
        || words.contains("will continue to be made")
        || words.contains("will keep trying")
        || words.contains("no action is required on your part");
    if is_still_tried {
        return (What::Delayed, recipient);
    }
    // Where it begins to speak of the recipient; what stands before is politeness.
    let about =
        recipient.as_ref().and_then(|recipient| words.find(&recipient.to_lowercase())).map_or(words, |at| &words[at..]);
    let status = Status::find(about).or_else(|| of_reply(about));
    What::bounced(status, about, recipient)
}

impl What {
    fn bounced(status: Option<Status>, words: &str, recipient: Option<String>) -> (Self, Option<String>) {
        (Self::Bounced { class: Class::of(status, words), status }, recipient)
    }
}

/// Of a basic reply code (RFC 5321, section 4.2) only whether it is for good.
fn of_reply(words: &str) -> Option<Status> {
    let mut all = words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() == 3);
    let code =
        all.find(|word| word.bytes().all(|b| b.is_ascii_digit()) && matches!(word.as_bytes()[0], b'4' | b'5'))?;
    // 100 to 599 are other numbers, too: those of replies have a second digit up to 5.
    (code.as_bytes()[1] <= b'5').then(|| Status { class: code.as_bytes()[0] - b'0', subject: 0, detail: 0 })
}

/// The first address that stands alone: `<a@b.c>:`, `  a@b.c`.
fn addressed(words: &str) -> Option<String> {
    words.lines().find_map(|line| {
        let line = line.trim();
        let word = line.split_whitespace().next()?;
        let word = word.trim_end_matches([':', ',', '.']).trim_matches(['<', '>', '(', ')', '"']);
        let (local, domain) = word.rsplit_once('@')?;
        let is_alone = line.starts_with('<') || line.split_whitespace().count() == 1;
        (is_alone && !local.is_empty() && domain.contains('.') && word.len() <= 320).then(|| word.to_owned())
    })
}

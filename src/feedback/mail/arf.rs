//! Complaints: feedback reports (RFC 5965), and the form in which Microsoft's program sends them.

use super::{Part, What};

/// What a feedback report says.
pub(super) fn read(report: &str) -> (What, Option<String>) {
    let field = |name: &str| {
        let found = report
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(known, _)| known.trim().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    };
    let recipient = field("Original-Rcpt-To").or_else(|| field("Removal-Recipient"));
    let recipient = recipient.map(|text| text.trim_matches(['<', '>']).to_owned()).filter(|text| text.contains('@'));
    let what = match field("Feedback-Type").unwrap_or_default().to_ascii_lowercase().as_str() {
        // A type that nobody registered is a complaint all the same (RFC 5965, section 3.2.1).
        "" => What::Unknown,
        "not-spam" | "auth-failure" | "dmarc" => What::Noted,
        _ => What::Complained,
    };
    (what, recipient)
}

/// Who complained: a report of Microsoft's program is the message itself, with whom it was for in a header of its own.
pub(super) fn of_microsoft(parts: &[Part<'_>]) -> Option<String> {
    let messages = parts.iter().filter(|part| part.kind == "message/rfc822");
    messages.flat_map(|part| part.text.lines().take(200)).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.eq_ignore_ascii_case("X-HmXmrOriginalRecipient") && value.contains('@'))
            .then(|| value.trim().trim_matches(['<', '>']).to_owned())
    })
}

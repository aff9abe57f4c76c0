//! Mail about mail, as facts.

use jiff::Timestamp;

use super::{
    intake::{About, Fact, Happened},
    mail::{self, Told, What},
};

/// Of a mail: what it says and what it is about stand before any attachment of the original.
pub const KEPT_BYTES_MAX: usize = 1_024 * 1_024;
const SOURCE: &str = "mail";

/// What a mail tells, that was delivered to these addresses.
pub fn fact(raw: &[u8], to: &[String], now: Timestamp) -> Fact {
    // A fault of the parser must not end the intake, or its mail would be read again and again.
    let told = std::panic::catch_unwind(|| mail::read(raw)).unwrap_or_else(|_| {
        tracing::error!("a mail could not be read; it is counted as unknown");
        Told { what: What::Unknown, references: vec![], recipient: None }
    });
    // A return path is surer than what stands in a mail: a reply quotes the Message-ID of what it answers.
    let mut references: Vec<String> = to.iter().filter_map(|address| in_address(address)).collect();
    references.extend(told.references);
    let what = match told.what {
        What::Bounced { class, .. } => Happened::Bounced(class),
        What::Complained => Happened::Complained,
        What::Delivered => Happened::Delivered,
        What::Delayed => Happened::Nothing("Delayed"),
        What::Answered => Happened::Nothing("Answered"),
        What::Noted => Happened::Nothing("Noted"),
        What::Unknown => Happened::Nothing("Unknown"),
    };
    // A message bounces once, however many systems say so.
    let id = match &what {
        Happened::Bounced(_) => "mail-bounced",
        Happened::Complained => "mail-complained",
        _ => "mail-delivered",
    };
    let about = About::Message { references, id: id.to_owned(), recipient: told.recipient, medium: "email" };
    Fact { source: SOURCE, about, what, at: now }
}

/// `bounces+REFERENCE@shop.example.com`.
fn in_address(address: &str) -> Option<String> {
    let (local, _) = address.rsplit_once('@')?;
    local.rsplit_once('+').map(|(_, reference)| reference.to_owned())
}

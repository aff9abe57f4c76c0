//! One-click unsubscribe (RFC 8058): a link that says who withdraws from what, signed, and needs nothing else.
//!
//! The token holds the subscription, the person's key and a keyed hash of the address that it went to, so that it works for
//! as long as the store lives: it never expires and survives its campaign. Only a POST withdraws; whatever merely looks at a link, such as a mail scanner,
//! changes nothing.

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::get,
};
use jiff::Timestamp;

use super::{
    Desk,
    page::{escaped, page},
    preferences::{browser, notice},
    signed::Signer,
    words,
};
use crate::store::{
    self, Store,
    keyed::{Keyed, Label},
    ledger::Topic,
};

/// The token of previews and proofs: its link answers, and withdraws nobody.
pub const SPECIMEN: &str = "specimen";

/// What a person withdraws from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub namespace: String,
    pub dataset: String,
    pub topic: String,
    pub channel: String,
}

/// Who withdraws from what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    pub of: Subscription,
    pub profile: String,
    /// The keyed hash of the address that the link went to; the first links had none.
    pub address: Option<String>,
}

/// Makes the links of one subscription.
pub struct Links {
    base: String,
    of: Subscription,
    signer: Signer,
    addresses: Keyed,
}

impl Links {
    /// `public_url` is where the listener is reached from outside.
    pub fn new(public_url: &str, of: Subscription, secret: &[u8]) -> Self {
        let base = format!("{}/u/", public_url.trim_end_matches('/'));
        Self { base, of, signer: signer(secret), addresses: Keyed::new(secret, Label::Address) }
    }

    /// The link of one person, in a message to this address.
    pub fn to(&self, profile: &str, address: &str) -> String {
        let of = &self.of;
        let address = self.addresses.of_address(address);
        let said = [&of.namespace, &of.dataset, &of.topic, &of.channel, profile, &address];
        format!("{}{}", self.base, self.signer.token(&said))
    }

    /// The link of a message that is only looked at.
    pub fn specimen(&self) -> String {
        format!("{}{SPECIMEN}", self.base)
    }
}

fn signer(secret: &[u8]) -> Signer {
    Signer::new(secret, "unsubscribe")
}

/// Who withdraws from what, as a token says. None: it was not made with this secret.
pub fn read(token: &str, secret: &[u8]) -> Option<Withdrawal> {
    let mut said: Vec<String> = signer(secret).read(token)?;
    let address = if said.len() == 6 { said.pop() } else { None };
    let [namespace, dataset, topic, channel, profile]: [String; 5] = said.try_into().ok()?;
    Some(Withdrawal { of: Subscription { namespace, dataset, topic, channel }, profile, address })
}

/// Records that a person withdraws; it holds at the very next attempt to send.
pub async fn withdraw(store: &Store, said: &Withdrawal, now: Timestamp) -> store::Result<()> {
    let of = &said.of;
    let hash = store.keyed(Label::Key).await?.hash(&said.profile);
    let topic = Topic { namespace: &of.namespace, dataset: &of.dataset, topic: &of.topic, channel: &of.channel };
    store.withdraw(topic, (&said.profile, &hash), said.address.as_deref(), "unsubscribe", now).await
}

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/u/{token}", get(look).post(take))
}

async fn look(State(desk): State<Desk>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    if token == SPECIMEN {
        return specimen();
    }
    let Some(said) = read(&token, &desk.secret) else {
        return notice(StatusCode::NOT_FOUND, &browser(&headers), |words| words.unknown);
    };
    let of = &said.of;
    let declared = desk.store.dataset(&of.namespace, &of.dataset).await.ok().flatten();
    let topics = declared.map_or_else(Vec::new, |declared| declared.spec.topics);
    let known = topics.iter().find(|topic| *topic.name == *of.topic);
    let title = known.map_or(&*of.topic, |topic| words::title(&topic.title, &browser(&headers), &of.topic));
    let body = format!(
        "<p>Stop messages about <b>{}</b>?</p><form method=\"post\"><button>Unsubscribe</button></form>",
        escaped(title)
    );
    said_so(StatusCode::OK, &body)
}

async fn take(State(desk): State<Desk>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    if token == SPECIMEN {
        return specimen();
    }
    let Some(said) = read(&token, &desk.secret) else {
        return notice(StatusCode::NOT_FOUND, &browser(&headers), |words| words.unknown);
    };
    match withdraw(&desk.store, &said, desk.clock.now()).await {
        Ok(()) => said_so(StatusCode::OK, "<p>You will not get these messages any more.</p>"),
        Err(error) => {
            // The mailbox asks again; nothing is said to be done that is not.
            tracing::warn!(%error, "a withdrawal was not recorded");
            notice(StatusCode::SERVICE_UNAVAILABLE, &browser(&headers), |words| words.try_again)
        }
    }
}

/// A mailbox that tries the link of a proof is answered as by a real one.
fn specimen() -> Response {
    said_so(StatusCode::OK, "<p>This is the link of a proof. It works, and nobody was unsubscribed.</p>")
}

fn said_so(status: StatusCode, body: &str) -> Response {
    page(status, "en", "Unsubscribe", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news() -> Subscription {
        let [namespace, dataset, topic, channel] = ["shop", "town", "news", "email"].map(str::to_owned);
        Subscription { namespace, dataset, topic, channel }
    }

    #[test]
    fn a_link_says_who_and_what() {
        let link = Links::new("https://mail.example.com/", news(), b"secret").to("[\"a\",7]", "Ann@example.com");
        let token = link.strip_prefix("https://mail.example.com/u/").unwrap();
        let address = Some(Keyed::new(b"secret", Label::Address).of_address("ann@example.com"));
        let said = Withdrawal { of: news(), profile: "[\"a\",7]".to_owned(), address };
        assert_eq!(read(token, b"secret"), Some(said));
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn a_link_that_was_changed_says_nothing() {
        let link = Links::new("https://m.example", news(), b"secret").to("7", "a@b.c");
        let token = link.rsplit('/').next().unwrap();
        assert_eq!(read(token, b"another"), None);
        for at in 0..token.len() {
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            let forged = [&token[..at], other, &token[at + 1..]].concat();
            // The last character may carry bits that mean nothing.
            assert!(at + 1 == token.len() || read(&forged, b"secret").is_none(), "{at}");
        }
        for wrong in ["", "A", "%%%", SPECIMEN, &"A".repeat(5_000)] {
            assert_eq!(read(wrong, b"secret"), None);
        }
    }
}

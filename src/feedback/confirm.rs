//! Double opt-in: who asked for a topic that `requires: Confirmed` follows a link in her own mailbox and says yes there.
//!
//! ```yaml
//! topics:
//! - name: offers
//!   category: Marketing
//!   requires: Confirmed
//!   consent: {email: {field: newsletter, changedAt: newsletter_at}}
//! ```
//! Until then the consent is `Pending`. The activity `unconfirmed` finds whom to ask, and `{{ confirm_url }}` is the link. A look changes nothing, so that no scanner of a mailbox confirms for anybody.

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::get,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Desk,
    page::{escaped, page},
    preferences::{browser, notice, specimen},
    signed::Signer,
    unsubscribe::SPECIMEN,
    words::{self, Words},
};
use crate::store::{
    self, Store,
    consent::{Entry, State as Consent},
    keyed::{Keyed, Label},
    ledger::Topic,
};

const SOURCE: &str = "confirmation";

/// What a person is asked to confirm, as its token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    #[serde(rename = "n")]
    pub namespace: String,
    #[serde(rename = "d")]
    pub dataset: String,
    #[serde(rename = "p")]
    pub profile: String,
    #[serde(rename = "t")]
    pub topic: String,
    #[serde(rename = "m")]
    pub medium: String,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
}

pub fn signer(secret: &[u8]) -> Signer {
    Signer::new(secret, "confirm")
}

/// Makes the links of one topic.
pub struct Links {
    base: String,
    signer: Signer,
    /// Without a person.
    of: Request,
}

impl Links {
    /// `public_url` is where the listener is reached from outside; `of` is the namespace and the dataset.
    pub fn new(public_url: &str, of: (&str, &str), (topic, medium): (&str, &str), secret: &[u8]) -> Self {
        let [namespace, dataset, topic, medium] = [of.0, of.1, topic, medium].map(str::to_owned);
        let of = Request { namespace, dataset, profile: String::new(), topic, medium, locale: None };
        Self { base: format!("{}/c/", public_url.trim_end_matches('/')), signer: signer(secret), of }
    }

    pub fn to(&self, profile: &str, locale: Option<&str>) -> String {
        let locale = locale.map(str::to_owned);
        let request = Request { profile: profile.to_owned(), locale, ..self.of.clone() };
        format!("{}{}", self.base, self.signer.token(&request))
    }

    /// The link of a message that is only looked at.
    pub fn specimen(&self) -> String {
        format!("{}{SPECIMEN}", self.base)
    }
}

/// Tells the running home that somebody waits to be asked.
///
/// # Errors
/// Of the store.
pub async fn ask_for(store: &Store, (namespace, dataset): (&str, &str), now: Timestamp) -> store::Result<()> {
    store.request("Confirm", namespace, dataset, "", now).await
}

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/c/{token}", get(look).post(confirm))
}

enum Found {
    /// With the topic's title.
    Open(String),
    Confirmed(String),
    Gone,
}

async fn find(desk: &Desk, request: &Request, locale: &str) -> store::Result<Found> {
    let Request { namespace, dataset, profile, topic, medium, .. } = request;
    let Some(declared) = desk.store.dataset(namespace, dataset).await? else { return Ok(Found::Gone) };
    let Some(known) = declared.spec.topics.iter().find(|known| *known.name == **topic) else { return Ok(Found::Gone) };
    let keys = Keyed::new(&desk.secret, Label::Key);
    if desk.store.is_erased((namespace, dataset), &declared.spec.profile.entity, &keys.hash(profile)).await? {
        return Ok(Found::Gone);
    }
    let title = words::title(&known.title, locale, topic).to_owned();
    let newest = desk.store.newest_consent(Topic { namespace, dataset, topic, channel: medium }, profile).await?;
    Ok(match newest.map(|entry| entry.state) {
        Some(Consent::Pending) => Found::Open(title),
        Some(Consent::Granted) => Found::Confirmed(title),
        _ => Found::Gone,
    })
}

async fn look(State(desk): State<Desk>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    if token == SPECIMEN {
        return specimen(&headers);
    }
    let Some(request) = signer(&desk.secret).read::<Request>(&token) else {
        return notice(StatusCode::NOT_FOUND, &browser(&headers), |words| words.unknown);
    };
    let locale = request.locale.clone().unwrap_or_else(|| browser(&headers));
    let words = Words::of(&locale);
    match find(&desk, &request, &locale).await {
        Ok(Found::Open(title)) => {
            let body = format!(
                "<h1>{}</h1><p>{}</p><form method=\"post\"><button>{}</button></form>",
                escaped(&title),
                escaped(words.confirm_ask),
                escaped(words.confirm)
            );
            page(StatusCode::OK, words.language, &title, &body)
        }
        other => without_form(other, &locale),
    }
}

async fn confirm(State(desk): State<Desk>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    if token == SPECIMEN {
        return specimen(&headers);
    }
    let Some(request) = signer(&desk.secret).read::<Request>(&token) else {
        return notice(StatusCode::NOT_FOUND, &browser(&headers), |words| words.unknown);
    };
    let locale = request.locale.clone().unwrap_or_else(|| browser(&headers));
    let title = match find(&desk, &request, &locale).await {
        Ok(Found::Open(title)) => title,
        other => return without_form(other, &locale),
    };
    let now = desk.clock.now();
    let said = Entry {
        profile: request.profile.clone(),
        topic: request.topic.clone(),
        channel: request.medium.clone(),
        state: Consent::Granted,
        at: now,
        source: SOURCE.to_owned(),
        text: Some(format!("{title}: {}", Words::of(&locale).confirm)),
    };
    let recorded = async {
        let mut tx = desk.store.begin().await?;
        tx.put_consent((&request.namespace, &request.dataset), &[said], now).await?;
        tx.commit().await
    };
    match recorded.await {
        Ok(()) => without_form(Ok(Found::Confirmed(title)), &locale),
        Err(error) => without_form(Err(error), &locale),
    }
}

fn without_form(found: store::Result<Found>, locale: &str) -> Response {
    let words = Words::of(locale);
    match found {
        Ok(Found::Open(title) | Found::Confirmed(title)) => {
            let body = format!("<h1>{}</h1><p class=\"done\">{}</p>", escaped(&title), escaped(words.confirmed));
            page(StatusCode::OK, words.language, &title, &body)
        }
        Ok(Found::Gone) => notice(StatusCode::GONE, locale, |words| words.confirm_gone),
        Err(error) => {
            tracing::warn!(%error, "a confirmation was not recorded");
            notice(StatusCode::SERVICE_UNAVAILABLE, locale, |words| words.try_again)
        }
    }
}

//! A person's page: every topic by every way, and nothing at all; behind a signed link, `{{ preferences_url }}` in templates.
//!
//! The token says who she is, and the mailbox that it went to is what vouches for her. A look changes nothing; what she
//! saves is entered into the consent log with what she saw, and holds at the very next message. It works without script,
//! and nobody can make her browser post: the token is in the path, and only she has it.

use std::collections::BTreeSet;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::get,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Desk,
    page::{escaped, page},
    signed::Signer,
    unsubscribe::SPECIMEN,
    words::{self, Words},
};
use crate::{
    api::{
        DatasetSpec,
        dataset::{Category, ConsentDefault, Requires},
    },
    store::{
        self,
        consent::{ALL, Entry, State as Consent},
        keyed::{Keyed, Label},
    },
};

/// What a person's page is recorded as.
const SOURCE: &str = "preferences";
/// Entries of one person that a page looks at: more were not made by a person.
const ENTRIES_MAX: i64 = 10_000;

/// Whose page it is, as its token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visitor {
    #[serde(rename = "n")]
    pub namespace: String,
    #[serde(rename = "d")]
    pub dataset: String,
    #[serde(rename = "p")]
    pub profile: String,
    /// By what the link came to her.
    #[serde(rename = "m")]
    pub medium: String,
    /// The keyed hash of the address that it went to.
    #[serde(rename = "a")]
    pub address: String,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
}

pub fn signer(secret: &[u8]) -> Signer {
    Signer::new(secret, "preferences")
}

/// Makes the links of one dataset's people, in messages of one medium.
pub struct Links {
    base: String,
    namespace: String,
    dataset: String,
    medium: &'static str,
    signer: Signer,
    addresses: Keyed,
}

impl Links {
    /// `public_url` is where the listener is reached from outside.
    pub fn new(public_url: &str, (namespace, dataset): (&str, &str), medium: &'static str, secret: &[u8]) -> Self {
        Self {
            base: format!("{}/p/", public_url.trim_end_matches('/')),
            namespace: namespace.to_owned(),
            dataset: dataset.to_owned(),
            medium,
            signer: signer(secret),
            addresses: Keyed::new(secret, Label::Address),
        }
    }

    /// The link of one person, in a message to this address.
    pub fn to(&self, profile: &str, address: &str, locale: Option<&str>) -> String {
        let visitor = Visitor {
            namespace: self.namespace.clone(),
            dataset: self.dataset.clone(),
            profile: profile.to_owned(),
            medium: self.medium.to_owned(),
            address: self.addresses.of_address(address),
            locale: locale.map(str::to_owned),
        };
        format!("{}{}", self.base, self.signer.token(&visitor))
    }

    /// The link of a message that is only looked at.
    pub fn specimen(&self) -> String {
        format!("{}{SPECIMEN}", self.base)
    }
}

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/p/{token}", get(look).post(save))
}

/// One box on the page.
struct Choice {
    topic: String,
    title: String,
    medium: &'static str,
    /// None: nothing is recorded.
    state: Option<Consent>,
    is_default: bool,
    must_confirm: bool,
}

impl Choice {
    /// As the form calls it. A topic's name holds no dot.
    fn name(&self) -> String {
        format!("{}.{}", self.topic, self.medium)
    }

    fn is_on(&self) -> bool {
        match self.state {
            None => self.is_default,
            Some(Consent::Granted | Consent::Pending) => true,
            Some(Consent::Unknown | Consent::Withdrawn) => false,
        }
    }

    /// What is to be recorded when the box is left so; nothing where that is what is known.
    fn becomes(&self, is_wanted: bool, by: &str) -> Option<Consent> {
        // Who follows a link in her own mailbox has confirmed that mailbox, and no other way.
        let granted = if self.must_confirm && by != self.medium { Consent::Pending } else { Consent::Granted };
        match (is_wanted, self.is_on()) {
            (true, true) if self.state == Some(Consent::Pending) && granted == Consent::Granted => Some(granted),
            (true, false) => Some(granted),
            (false, true) => Some(Consent::Withdrawn),
            _ => None,
        }
    }
}

/// A person's page as it stands.
struct Standing {
    spec: DatasetSpec,
    choices: Vec<Choice>,
}

enum Found {
    Page(Box<Standing>),
    /// No such dataset was ever here.
    Unknown,
    Erased,
}

async fn find(desk: &Desk, visitor: &Visitor, locale: &str) -> store::Result<Found> {
    let of = (visitor.namespace.as_str(), visitor.dataset.as_str());
    let Some(declared) = desk.store.dataset(of.0, of.1).await? else { return Ok(Found::Unknown) };
    let spec = declared.spec;
    let keys = Keyed::new(&desk.secret, Label::Key);
    if desk.store.is_erased(of, &spec.profile.entity, &keys.hash(&visitor.profile)).await? {
        return Ok(Found::Erased);
    }
    let mut entries = desk.store.consent_of(of, &visitor.profile, ENTRIES_MAX).await?;
    let by_address = desk.store.opt_outs_of(of, &visitor.address).await?;
    // What was withdrawn under the address holds for this medium only: of the others the link knows no address.
    entries.extend(by_address.into_iter().filter(|entry| [ALL, &*visitor.medium].contains(&&*entry.channel)));
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.at, entry.state)));
    let mut choices = vec![];
    for topic in spec.topics.iter().filter(|topic| topic.category == Category::Marketing) {
        for (medium, field) in topic.consent.iter().flat_map(|consent| consent.all()) {
            let (name, medium) = (topic.name.to_string(), medium.word());
            let is_about = |entry: &&Entry| {
                let is_channel = entry.channel == ALL || entry.channel.split(':').next() == Some(medium);
                is_channel && (entry.topic == ALL || entry.topic == name)
            };
            choices.push(Choice {
                state: entries.iter().find(is_about).map(|entry| entry.state),
                title: words::title(&topic.title, locale, &topic.name).to_owned(),
                topic: name,
                medium,
                is_default: field.default == ConsentDefault::OptedIn,
                must_confirm: topic.requires == Some(Requires::Confirmed),
            });
        }
    }
    Ok(Found::Page(Box::new(Standing { spec, choices })))
}

/// Whose page, and in which language.
fn visitor(desk: &Desk, token: &str, headers: &HeaderMap) -> Option<(Visitor, String)> {
    let visitor: Visitor = signer(&desk.secret).read(token)?;
    let locale = visitor.locale.clone().unwrap_or_else(|| browser(headers));
    Some((visitor, locale))
}

pub(super) fn browser(headers: &HeaderMap) -> String {
    words::preferred(headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()))
}

/// A page that only says something.
pub(super) fn notice(status: StatusCode, locale: &str, of: fn(&Words) -> &'static str) -> Response {
    let words = Words::of(locale);
    page(status, words.language, words.preferences, &format!("<p>{}</p>", escaped(of(words))))
}

async fn look(State(desk): State<Desk>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    if token == SPECIMEN {
        return specimen(&headers);
    }
    let Some((visitor, locale)) = visitor(&desk, &token, &headers) else {
        return notice(StatusCode::NOT_FOUND, &browser(&headers), |words| words.unknown);
    };
    match find(&desk, &visitor, &locale).await {
        Ok(Found::Page(standing)) => show(&standing, &locale, false),
        other => without_page(other, &locale),
    }
}

async fn save(State(desk): State<Desk>, Path(token): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    if token == SPECIMEN {
        return specimen(&headers);
    }
    let Some((visitor, locale)) = visitor(&desk, &token, &headers) else {
        return notice(StatusCode::NOT_FOUND, &browser(&headers), |words| words.unknown);
    };
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    let has = |name: &str, value: &str| fields.iter().any(|(n, v)| n == name && v == value);
    let standing = match find(&desk, &visitor, &locale).await {
        Ok(Found::Page(standing)) => *standing,
        other => return without_page(other, &locale),
    };
    let now = desk.clock.now();
    let said = if has("do", "nothing") {
        vec![nothing(&visitor, &locale, now)]
    } else if has("do", "save") {
        let wanted: BTreeSet<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        chosen(&standing, &visitor, &wanted, &locale, now)
    } else {
        // Not from our form: nothing may be read out of boxes that are not there.
        return show(&standing, &locale, false);
    };
    match record(&desk, &visitor, &said, now).await {
        Ok(()) => match find(&desk, &visitor, &locale).await {
            Ok(Found::Page(standing)) => show(&standing, &locale, true),
            other => without_page(other, &locale),
        },
        Err(error) => without_page(Err(error), &locale),
    }
}

/// A mailbox that tries the link of a proof is answered as by a real one.
pub(super) fn specimen(_: &HeaderMap) -> Response {
    page(StatusCode::OK, "en", "Proof", "<p>This is the link of a proof. It works, and it is nobody's.</p>")
}

fn without_page(found: store::Result<Found>, locale: &str) -> Response {
    match found {
        Ok(Found::Erased) => notice(StatusCode::GONE, locale, |words| words.erased),
        Ok(_) => notice(StatusCode::NOT_FOUND, locale, |words| words.unknown),
        Err(error) => {
            tracing::warn!(%error, "a person's page cannot be shown");
            notice(StatusCode::SERVICE_UNAVAILABLE, locale, |words| words.try_again)
        }
    }
}

fn entry(visitor: &Visitor, (topic, channel): (&str, &str), state: Consent, text: String, now: Timestamp) -> Entry {
    Entry {
        profile: visitor.profile.clone(),
        topic: topic.to_owned(),
        channel: channel.to_owned(),
        state,
        at: now,
        source: SOURCE.to_owned(),
        text: Some(text),
    }
}

fn nothing(visitor: &Visitor, locale: &str, now: Timestamp) -> Entry {
    entry(visitor, (ALL, ALL), Consent::Withdrawn, Words::of(locale).nothing.to_owned(), now)
}

fn chosen(standing: &Standing, visitor: &Visitor, wanted: &BTreeSet<&str>, locale: &str, now: Timestamp) -> Vec<Entry> {
    let words = Words::of(locale);
    let changed = standing.choices.iter().filter_map(|choice| {
        let state = choice.becomes(wanted.contains(choice.name().as_str()), &visitor.medium)?;
        let text = format!("{} ({})", choice.title, words.medium(choice.medium));
        Some(entry(visitor, (&choice.topic, choice.medium), state, text, now))
    });
    changed.collect()
}

async fn record(desk: &Desk, visitor: &Visitor, said: &[Entry], now: Timestamp) -> store::Result<()> {
    if said.is_empty() {
        return Ok(());
    }
    let of = (visitor.namespace.as_str(), visitor.dataset.as_str());
    let mut tx = desk.store.begin().await?;
    tx.put_consent(of, said, now).await?;
    for entry in said.iter().filter(|entry| entry.state == Consent::Withdrawn) {
        if [ALL, &*visitor.medium].contains(&&*entry.channel) {
            tx.put_opt_out(of, &visitor.address, entry, now).await?;
        }
    }
    tx.commit().await?;
    if said.iter().any(|entry| entry.state == Consent::Pending) {
        super::confirm::ask_for(&desk.store, of, now).await?;
    }
    Ok(())
}

fn show(standing: &Standing, locale: &str, is_saved: bool) -> Response {
    let words = Words::of(locale);
    let mut body = format!("<h1>{}</h1>", escaped(words.preferences));
    if is_saved {
        body.push_str(&format!("<p class=\"done\" role=\"status\">{}</p>", escaped(words.saved)));
    }
    body.push_str(&format!("<p class=\"soft\">{}</p><form method=\"post\">", escaped(words.preferences_intro)));
    let mut rest = standing.choices.as_slice();
    while let Some(first) = rest.first() {
        let of_topic = rest.iter().take_while(|choice| choice.topic == first.topic).count();
        let (boxes, more) = rest.split_at(of_topic);
        let ways: String = boxes.iter().map(|choice| checkbox(choice, words)).collect();
        body.push_str(&format!(
            "<fieldset><legend>{}</legend><div class=\"ways\">{ways}</div></fieldset>",
            escaped(&first.title)
        ));
        rest = more;
    }
    body.push_str(&format!(
        "<button name=\"do\" value=\"save\">{}</button></form><hr><form method=\"post\"><p>{}</p>\
         <button class=\"plain\" name=\"do\" value=\"nothing\">{}</button></form>",
        escaped(words.save),
        escaped(words.nothing_intro),
        escaped(words.nothing)
    ));
    let always = standing.spec.topics.iter().filter(|topic| topic.category == Category::Transactional);
    let always: String =
        always.map(|topic| format!("<li>{}</li>", escaped(words::title(&topic.title, locale, &topic.name)))).collect();
    if !always.is_empty() {
        body.push_str(&format!("<p class=\"soft\">{}</p><ul class=\"soft\">{always}</ul>", escaped(words.always)));
    }
    page(StatusCode::OK, words.language, words.preferences, &body)
}

fn checkbox(choice: &Choice, words: &Words) -> String {
    let checked = if choice.is_on() { " checked" } else { "" };
    let pending = if choice.state == Some(Consent::Pending) {
        format!(" <span class=\"soft\">({})</span>", escaped(words.pending))
    } else {
        String::new()
    };
    // Names of topics and media hold nothing that could be markup.
    format!(
        "<label><input type=\"checkbox\" name=\"{}\" value=\"1\"{checked}><span>{}{pending}</span></label>",
        choice.name(),
        escaped(&words.medium(choice.medium))
    )
}

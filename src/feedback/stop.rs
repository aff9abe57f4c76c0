//! `STOP`: a person wants nothing more of one sender, whatever it is about.
//!
//! It holds for every topic over that Channel, those to come included, and for Transactional ones, too: who said it may
//! not be written to by that sender at all. It is kept under the keyed hash of the number or address and under the key of
//! each person who has it.

use jiff::Timestamp;

use crate::{
    api::{DatasetSpec, medium::Medium},
    plan::{dataset::schema_of, message::canonical},
    rule::{Dialect, Query, Schema, check_path},
    store::{
        self, Sql, Store,
        consent::{ALL, Entry, State, sender},
    },
};

/// Persons who share one address; more are looked for no further, the address itself holds for all.
const PERSONS_MAX: u64 = 100;

/// Words for opting out and in again: those that the operators of the United States ask for (CTIA), as Twilio takes them
/// (and `REVOKE`, `OPTOUT`, which it added in 2025).
const STOPS: [&str; 8] = ["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"];
const STARTS: [&str; 3] = ["START", "UNSTOP", "YES"];
const HELPS: [&str; 2] = ["HELP", "INFO"];

/// What a person's message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Stop,
    /// The provider may let messages through again. It is no consent to a topic: that was withdrawn, and is given where topics are.
    Start,
    /// Answered by the provider, if it is told to.
    Help,
    Other,
}

impl Word {
    /// As it is counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "Stop",
            Self::Start => "Start",
            Self::Help => "Help",
            Self::Other => "Message",
        }
    }
}

/// The whole message is one of the words, whatever its case and the marks around it: "please don't STOP" is none.
pub fn keyword(text: &str) -> Word {
    let word = text.trim_matches(|c: char| c.is_whitespace() || c.is_ascii_punctuation()).to_ascii_uppercase();
    let is_of = |words: &[&str]| words.contains(&word.as_str());
    match () {
        () if is_of(&STOPS) => Word::Stop,
        () if is_of(&STARTS) => Word::Start,
        () if is_of(&HELPS) => Word::Help,
        () => Word::Other,
    }
}

/// Who stops whom.
#[derive(Clone, Copy, Debug)]
pub struct Stopped<'a> {
    pub namespace: &'a str,
    /// The Channel, and by what its messages reach people.
    pub channel: &'a str,
    pub medium: Medium,
    /// The address or number that it came from.
    pub address: &'a str,
    /// What tells of it, such as `sms`.
    pub source: &'a str,
    /// The person's words.
    pub text: Option<&'a str>,
    pub at: Timestamp,
}

/// Records it in every dataset of the namespace; how many persons it is known of.
///
/// # Errors
/// Of the store; then nothing of it stands.
pub async fn withdraw_sender(store: &Store, said: &Stopped<'_>, now: Timestamp) -> store::Result<usize> {
    let hash = store.address_key().await?.of_address(&plain(said.medium, said.address));
    let channel = sender(said.medium.word(), said.channel);
    let mut persons = 0;
    for declared in store.datasets(said.namespace).await? {
        let of = (declared.namespace.as_str(), declared.name.as_str());
        let profiles = with_address(store, of, &declared.spec, said).await?;
        persons += profiles.len();
        let entry = |profile: String| Entry {
            profile,
            topic: ALL.to_owned(),
            channel: channel.clone(),
            state: State::Withdrawn,
            at: said.at.min(now),
            source: said.source.to_owned(),
            text: said.text.map(str::to_owned),
        };
        let mut tx = store.begin().await?;
        tx.put_opt_out(of, &hash, &entry(String::new()), now).await?;
        tx.put_consent(of, &profiles.into_iter().map(entry).collect::<Vec<_>>(), now).await?;
        tx.commit().await?;
    }
    Ok(persons)
}

/// A number without what may stand between its digits.
fn plain(medium: Medium, address: &str) -> String {
    match medium {
        Medium::Sms => address.chars().filter(|c| !matches!(c, ' ' | '.' | '-')).collect(),
        _ => address.trim().to_owned(),
    }
}

/// The keys of those who have the address.
async fn with_address(
    store: &Store,
    (namespace, dataset): (&str, &str),
    spec: &DatasetSpec,
    said: &Stopped<'_>,
) -> store::Result<Vec<String>> {
    let dialect = store.dialect();
    let schema: Schema = schema_of(spec, namespace, dataset, dialect);
    let (Some(path), Some(profile)) = (spec.profile.addresses.of(said.medium), schema.entity(&spec.profile.entity))
    else {
        return Ok(vec![]);
    };
    let Ok(path) = check_path(path, &schema, &profile.name) else { return Ok(vec![]) };
    let there = store.entities_there(store::entity::Place { namespace, dataset, dialect }).await?;
    if path.is_many || !there.contains(&profile.name) {
        return Ok(vec![]);
    }
    let mut query = Query::over(&schema, profile, dialect);
    let address = query.path(&path);
    let is_same = match (said.medium, dialect) {
        (Medium::Sms, _) => "replace(replace(replace(?, ' ', ''), '.', ''), '-', '') = ?",
        (_, Dialect::Sqlite) => "lower(trim(?)) = ?",
        (_, Dialect::Postgres) => "lower(trim(?) COLLATE \"C\") = ?",
    };
    let wanted = plain(said.medium, said.address).to_ascii_lowercase();
    let is_same = query.custom(is_same, [address, sea_query::Expr::val(wanted)]);
    let key = canonical(&mut query, profile, &[]);
    query.column(key, "profile");
    query.filter(is_same);
    let mut select = query.finish();
    select.limit(PERSONS_MAX);
    store.fetch(Sql::query(&select, dialect)?).await?.iter().map(|row| row.get(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_word_stops() {
        for text in ["STOP", " stop. ", "StopAll", "unsubscribe", "CANCEL!", "end", "quit"] {
            assert_eq!(keyword(text), Word::Stop, "{text}");
        }
        assert_eq!((keyword("start"), keyword("help"), keyword("UNSTOP")), (Word::Start, Word::Help, Word::Start));
        for text in ["please don't stop", "stop it", "", "ends"] {
            assert_eq!(keyword(text), Word::Other, "{text}");
        }
    }
}

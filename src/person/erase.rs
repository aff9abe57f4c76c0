//! Erasing a person on request: her row goes, what was counted stays counted, and what stays of her is a keyed hash.
//!
//! | what | becomes |
//! | --- | --- |
//! | her row, her deletion's note, her keys in audiences and work tables | nothing |
//! | a message | kept under the hash, without the provider's words, the links that she followed, and its fields |
//! | a message that waits | `Excluded`, `Erased`, when its turn comes |
//! | her consent | kept under the hash, without her words |
//! | her addresses | they were hashes: suppressions and opt-outs go on holding |
//! | her key in tomorrow's file, or in a list of keys | left out, and counted |
//!
//! Rows of other entities that lead to her stay, as others may need them, unless they are named. First goes what is not
//! sent from any more; then, in one transaction that waits for whoever might write her key once more, all that a run could
//! still send; then her history, in pieces. Called again it goes on where it was.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use ring::hmac;
use sea_query::{Alias, Query as Statement, SelectStatement};

use super::{Person, Wrong};
use crate::{
    api::dataset::Entity,
    clock::Clock,
    plan::{Bundle, Plan, activity::ways, message::canonical},
    rule::Query,
    store::{
        self, Error, Sql, Store, Tx,
        entity::{Place, keys_given},
        erased,
        keyed::Keyed,
        person::{Hers, Which, Whose},
    },
};

/// Her messages that are looked at in one go.
const MESSAGES_AT_ONCE: i64 = 10_000;
/// Messages of one transaction, so that SQLite's one writer is free again soon.
const MESSAGES_OF_COMMIT: usize = 200;
/// Rows of another entity that one call erases with her.
const WITH_MAX: u64 = 10_000;
/// How often it is tried to be alone for a moment, and how long between the tries: together some minutes, as planning and
/// the end of a large file may take.
const TRIES: u32 = 300;
const BETWEEN: Duration = Duration::from_millis(500);
/// How long it waits for the messages that are at a provider while she is erased.
const UNDER_WAY: Duration = Duration::from_secs(20);

/// What was done, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether she had a row.
    pub rows: u64,
    /// Rows that went with her, by entity.
    pub with: Vec<(String, u64)>,
    /// Keys in audiences and work tables.
    pub of_sets: u64,
    pub messages: u64,
    /// Of them, those that wait and are not sent any more.
    pub waiting: u64,
    pub consent: u64,
    /// The runs that had messages of hers, as `<namespace>/<campaign>/<run>`.
    pub runs: BTreeSet<String>,
    /// What is out of reach, a sentence each.
    pub left: Vec<String>,
}

/// Where her key may stand.
#[derive(Default)]
struct Tables {
    /// Tables with keys of an entity.
    keys: Vec<(String, String)>,
    /// The steps (campaign, step) under which something is remembered of persons.
    fences: BTreeSet<(String, String)>,
    /// Revisions that this version cannot read.
    unread: usize,
}

struct Eraser<'a> {
    store: &'a Store,
    person: &'a Person,
    clock: Clock,
    keyed: Keyed,
    /// What stands in the place of her key.
    erased: String,
    hash: String,
    said: hmac::Key,
    report: Report,
}

impl Person {
    /// Erases her, and the rows of the entities `with` that lead to her.
    ///
    /// # Errors
    /// Of the store; within, what is wrong with `with`.
    pub async fn erase(&self, store: &Store, with: &[String], clock: Clock) -> store::Result<Result<Report, Wrong>> {
        let with = match self.with(with) {
            Ok(with) => with,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let keyed = store.erasing_key().await?;
        let hash = keyed.hash(&self.key);
        let said = hmac::Key::new(hmac::HMAC_SHA256, &store.secret().await?);
        let erased = erased::text(&hash);
        let eraser = Eraser { store, person: self, clock, keyed, erased, hash, said, report: Report::default() };
        eraser.run(&with).await.map(Ok)
    }

    fn with(&self, names: &[String]) -> Result<Vec<Entity>, Wrong> {
        let profile = &*self.declared.spec.profile.entity;
        let entity = |name: &String| {
            let known =
                self.declared.spec.entity(name).ok_or_else(|| (format!("there is no entity `{name}`"), None))?;
            if name == profile || ways(&self.schema, name, profile).is_empty() {
                let hint = format!("links to one row each must lead from it to {profile}");
                return Err((format!("no row of {name} leads to a {profile}"), Some(hint)));
            }
            if known.source.as_ref().is_some_and(|source| source.table.is_some()) {
                return Err((format!("{name} is another system's table; its rows are erased there"), None));
            }
            Ok(known.clone())
        };
        names.iter().map(entity).collect()
    }
}

impl Eraser<'_> {
    async fn run(mut self, with: &[Entity]) -> store::Result<Report> {
        self.count_left(with).await?;
        let tables = self.tables(false).await?;
        for keys in &tables.keys {
            let mut tx = self.store.begin().await?;
            self.report.of_sets += self.erase_keys(&mut tx, keys).await?;
            tx.commit().await?;
        }
        self.close(with).await?;
        self.erase_history().await?;
        self.erase_fences(&tables).await?;
        self.await_providers().await?;
        self.store.settle_erased().await?;
        Ok(self.report)
    }

    fn whose(&self) -> Whose<'_> {
        let (namespace, dataset) = self.person.of();
        Whose { namespace, dataset, key: &self.person.key, erased: &self.erased, addresses: &[] }
    }

    /// What stands under her key still.
    fn unerased(&self) -> Whose<'_> {
        Whose { erased: &self.person.key, ..self.whose() }
    }

    fn place(&self) -> Place<'_> {
        let (namespace, dataset) = self.person.of();
        Place { namespace, dataset, dialect: self.store.dialect() }
    }

    fn her_key(&self) -> store::Result<SelectStatement> {
        Ok(keys_given(self.store.dialect(), self.person.entity()?, std::slice::from_ref(&self.person.key)))
    }

    /// The keys of the rows of an entity that lead to her, over each way that does; none where her row is gone.
    fn leading(&self, entity: &str) -> store::Result<Vec<SelectStatement>> {
        let schema = &self.person.schema;
        let profile = &self.person.entity()?.name;
        let Some(of) = schema.entity(entity) else { return Ok(vec![]) };
        let key = self.her_key()?;
        let ways = ways(schema, entity, profile);
        Ok(ways.iter().map(|way| Query::over(schema, of, self.store.dialect()).leading(way, key.clone())).collect())
    }

    /// The tables with keys that may be hers: of audiences, and of the steps of runs that go on, or of all.
    async fn tables(&self, is_open: bool) -> store::Result<Tables> {
        let profile = self.person.entity()?.name.to_string();
        let mut tables = Tables::default();
        for (table, entity) in self.store.kept_tables(self.place()).await? {
            // Of another entity it is the key alone, as it stands in that entity's own table.
            if entity == profile {
                tables.keys.push((table, entity));
            }
        }
        for (campaign, hash) in self.store.revisions_of(self.place(), is_open).await? {
            let Some(plan) = self.plan_of(&hash).await? else {
                tables.unread += 1;
                continue;
            };
            let messages = plan.messages().filter(|(_, _, message)| message.entity == profile).map(|(_, step, _)| step);
            let outputs = plan.steps.iter().flat_map(|step| &step.outputs);
            let outputs = outputs.filter(|output| output.entity == profile).map(|output| output.name.as_str());
            tables.fences.extend(messages.chain(outputs).map(|step| (campaign.clone(), step.to_owned())));
            for (output, table) in self.store.work_tables_of(self.place().namespace, &hash, is_open).await? {
                let output =
                    plan.output(&output).filter(|output| output.entity == profile || !output.columns.is_empty());
                tables.keys.extend(output.map(|output| (table, output.entity.clone())));
            }
        }
        Ok(tables)
    }

    /// What was pinned; none if this version cannot read it.
    async fn plan_of(&self, revision: &str) -> store::Result<Option<Plan>> {
        let text = self.store.revision(revision).await?;
        let bundle: Option<Bundle> = text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(bundle.and_then(|bundle| bundle.compile(self.store.dialect()).ok()))
    }

    async fn erase_keys(&self, tx: &mut Tx, (table, entity): &(String, String)) -> store::Result<u64> {
        let profile = self.person.entity()?;
        if *entity == *profile.name {
            return tx.erase_rows(table, profile, &self.her_key()?).await;
        }
        let Some(of) = self.person.declared.spec.entity(entity) else { return Ok(0) };
        let mut gone = 0;
        for leading in self.leading(entity)? {
            gone += tx.erase_rows(table, of, &leading).await?;
        }
        Ok(gone)
    }

    /// All that a run could still send from, at once.
    async fn close(&mut self, with: &[Entity]) -> store::Result<()> {
        let shards = self.store.shards().await?;
        for _ in 0..TRIES {
            let mut tx = self.store.begin().await?;
            if !tx.close_erased().await? {
                drop(tx);
                tokio::time::sleep(BETWEEN).await;
                continue;
            }
            let now = self.clock.now();
            let profile = self.person.entity()?.clone();
            // Runs that began since are among them.
            for keys in &self.tables(true).await?.keys {
                self.report.of_sets += self.erase_keys(&mut tx, keys).await?;
            }
            for entity in with {
                let gone = self.erase_with(&mut tx, entity, now).await?;
                self.report.with.push((entity.name.to_string(), gone));
            }
            tx.put_erased(self.place(), &profile.name, &self.hash, now).await?;
            if !self.is_in_place() && self.is_there(&profile.name).await? {
                self.report.rows = tx.erase_entity_rows(self.place(), &profile, &self.her_key()?).await?;
            }
            let of = self.person.of();
            self.report.consent = tx.erase_consent(of, (&self.person.key, &self.erased), now).await?;
            // One run may have many rows of hers; all of them are in one transaction with her row.
            let open = tx.messages_of(self.unerased(), Which::Open, (i64::MAX, shards)).await?;
            self.erase_messages(&mut tx, &open, now).await?;
            self.note(&open);
            return tx.commit().await;
        }
        Err(Error::busy())
    }

    fn is_in_place(&self) -> bool {
        let source = self.person.entity().ok().and_then(|entity| entity.source.as_ref());
        source.is_some_and(|source| source.table.is_some())
    }

    async fn is_there(&self, entity: &str) -> store::Result<bool> {
        Ok(self.store.entities_there(self.place()).await?.contains(entity))
    }

    /// Erases the rows of another entity that lead to her; how many.
    async fn erase_with(&self, tx: &mut Tx, entity: &Entity, now: Timestamp) -> store::Result<u64> {
        let mut gone = 0;
        for leading in self.leading(&entity.name)? {
            let dialect = self.store.dialect();
            let schema = &self.person.schema;
            let Some(of) = schema.entity(&entity.name) else { continue };
            let mut query = Query::over_set(schema, of, dialect, leading.clone());
            let key = canonical(&mut query, of, &[]);
            query.column(key, "item");
            let select = query.finish().limit(WITH_MAX + 1).to_owned();
            let items = tx.fetch(Sql::query(&select, dialect)?).await?;
            if items.len() as u64 > WITH_MAX {
                let message = format!("more than {WITH_MAX} rows of {} lead to her; nothing was erased", entity.name);
                return Err(Error::Refused(message));
            }
            for row in &items {
                let hash = self.keyed.hash(&row.get::<String>(0)?);
                tx.put_erased(self.place(), &entity.name, &hash, now).await?;
            }
            gone += tx.erase_entity_rows(self.place(), entity, &leading).await?;
        }
        Ok(gone)
    }

    async fn erase_messages(&self, tx: &mut Tx, messages: &[Hers], now: Timestamp) -> store::Result<()> {
        let unsay = |said: &str, seq: i64| crate::send::said::unsay(said, seq, &self.said);
        tx.erase_messages(self.place().namespace, messages, (&self.erased, &self.keyed), &unsay, now).await
    }

    fn note(&mut self, messages: &[Hers]) {
        self.report.messages += messages.len() as u64;
        let namespace = &self.person.declared.namespace;
        let run = |message: &Hers| format!("{namespace}/{}/{}", message.campaign, message.run);
        self.report.runs.extend(messages.iter().map(run));
        self.report.waiting += messages.iter().filter(|message| message.is_waiting).count() as u64;
    }

    /// What was, in pieces: nothing is sent from it.
    async fn erase_history(&mut self) -> store::Result<()> {
        loop {
            let found = self.store.messages_of(self.unerased(), Which::All, MESSAGES_AT_ONCE).await?;
            for chunk in found.chunks(MESSAGES_OF_COMMIT) {
                let mut tx = self.store.begin().await?;
                self.erase_messages(&mut tx, chunk, self.clock.now()).await?;
                tx.commit().await?;
            }
            self.note(&found);
            if found.is_empty() {
                return Ok(());
            }
        }
    }

    async fn erase_fences(&mut self, tables: &Tables) -> store::Result<()> {
        let mut tx = self.store.begin().await?;
        for (campaign, step) in &tables.fences {
            let of = (self.place().namespace, campaign.as_str(), step.as_str());
            tx.erase_fence(of, (&self.person.key, &self.erased)).await?;
        }
        if tables.unread > 0 {
            let many = tables.unread;
            self.report.left.push(format!(
                "what {many} revisions of campaigns remember of whom they took or sent to: this version cannot read them"
            ));
        }
        tx.commit().await
    }

    /// What a provider answers meanwhile may name her: it is taken out once it is recorded.
    async fn await_providers(&mut self) -> store::Result<()> {
        let begun = tokio::time::Instant::now();
        let mut under_way = self.store.under_way_of(self.whose(), MESSAGES_AT_ONCE).await?;
        while under_way > 0 && begun.elapsed() < UNDER_WAY {
            tokio::time::sleep(BETWEEN).await;
            under_way = self.store.under_way_of(self.whose(), MESSAGES_AT_ONCE).await?;
        }
        let open = self.store.messages_of(self.whose(), Which::Open, MESSAGES_AT_ONCE).await?;
        for chunk in open.chunks(MESSAGES_OF_COMMIT) {
            let mut tx = self.store.begin().await?;
            self.erase_messages(&mut tx, chunk, self.clock.now()).await?;
            tx.commit().await?;
        }
        if under_way > 0 {
            let many = if under_way == 1 { "a message is".to_owned() } else { format!("{under_way} messages are") };
            self.report.left.push(format!(
                "{many} at a provider now; what it answers may name her: call this again when their runs have ended"
            ));
        }
        Ok(())
    }

    /// What stays of her, as far as it can be told from here.
    async fn count_left(&mut self, with: &[Entity]) -> store::Result<()> {
        let spec = &self.person.declared.spec;
        let profile = self.person.entity()?;
        let there = self.store.entities_there(self.place()).await?;
        for entity in spec.entities.iter().filter(|entity| there.contains(&*entity.name)) {
            if entity.name == profile.name || with.iter().any(|with| with.name == entity.name) {
                continue;
            }
            let mut rows = 0;
            for leading in self.leading(&entity.name)? {
                let mut count = Statement::select();
                count.expr(sea_query::Expr::cust("count(*)")).from_subquery(leading, Alias::new("c"));
                let row = self.store.fetch_one(Sql::query(&count, self.store.dialect())?).await?;
                rows += row.map_or(Ok(0), |row| row.get::<i64>(0))?;
            }
            if rows > 0 {
                let of = if rows == 1 { "a row".to_owned() } else { format!("{rows} rows") };
                let is_in_place = entity.source.as_ref().is_some_and(|source| source.table.is_some());
                let how = if is_in_place {
                    "they are another system's".to_owned()
                } else {
                    format!("`--with {}` erases them, too", entity.name)
                };
                self.report
                    .left
                    .push(format!("{of} of {} that lead to her, with all that stands in them: {how}", entity.name));
            }
        }
        let exported = self.store.exported_audiences(self.place().namespace).await?;
        if !exported.is_empty() {
            let names = exported.join(", ");
            self.report.left.push(format!("what was exported of audiences ({names}): the next export is without her"));
        }
        for entity in &spec.entities {
            let is_hers =
                entity.name == profile.name || !ways(&self.person.schema, &entity.name, &profile.name).is_empty();
            let Some(source) = entity.source.as_ref().filter(|_| is_hers) else { continue };
            if let Some(files) = &source.files {
                let name = &entity.name;
                self.report.left.push(format!(
                    "the files of {name} at `{}`: rows with an erased key are left out when they are read",
                    files.url
                ));
            }
            if let Some(table) = &source.table {
                self.report.left.push(format!(
                    "table {table}, another system's: nothing is sent to her, and her row goes when it is deleted there"
                ));
            }
        }
        Ok(())
    }
}

//! A channel step: who gets it, over which path, with which columns of the store.
//!
//! A template names the fields it reads, so that only those columns of the profile and of the item are fetched: the
//! *skinny profile*.

mod address;
mod extra;
mod letters;

use std::collections::BTreeSet;

use jiff::Timestamp;
use sea_query::{Alias, Expr, ExprTrait, SelectStatement};

use self::extra::Extras;
pub use self::{
    extra::{Element, Extra, Held},
    letters::misfits,
};
use super::{
    Bundle, Finding, Ref,
    activity::{Asking, Enriched},
};
use crate::{
    api::{channel::Tracks, duration::Duration, medium::Medium, step::Record},
    rule::{
        Dialect, Path, Query, Schema, check_path, nearest,
        schema::{Entity, FieldType},
    },
    send::template::{Read, Template, TemplateProblem},
    store::{
        consent::{Objection, is_settled},
        erased::{Erasing, is_erased},
        ledger::{DEVICE, Topic},
        suppression::Asked,
    },
};

/// Names that a template may use beside the entities, with what each has.
pub const RESERVED: [(&str, &[&str]); 7] = [
    ("campaign", &["name"]),
    ("run", &["name"]),
    ("sender", &["name", "address"]),
    ("now", &[]),
    (UNSUBSCRIBE_URL, &[]),
    (PREFERENCES_URL, &[]),
    (CONFIRM_URL, &[]),
];
/// The link by which the person withdraws from the campaign's topic.
pub const UNSUBSCRIBE_URL: &str = "unsubscribe_url";
/// The link to the page of all that the person may choose.
pub const PREFERENCES_URL: &str = "preferences_url";
/// The link by which the person says yes to what she asked for; of messages to those whom `unconfirmed` found.
pub const CONFIRM_URL: &str = "confirm_url";

/// The reason of a message to a person who was erased on request.
pub const ERASED: &str = "Erased";

/// The column of a set that says whether the newest consent of the row's person is one.
const GRANTED: &str = "granted";

/// A message and a hint.
type Wrong = (String, Option<String>);

/// `once`, as declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once {
    /// Ever for `at`, `immediate` and runs made by hand; never for `cron`.
    BySchedule,
    Ever,
    Never,
    Within(Duration),
}

/// A compiled channel step.
pub struct MessagePlan {
    pub medium: Medium,
    pub input: String,
    /// The entity of the set: each of its rows is an item.
    pub entity: String,
    pub channel: String,
    pub template_name: String,
    pub template: Template,
    pub per_profile: bool,
    /// From the item to the person.
    pub recipient: Path,
    /// From the item to the address; absent where none is needed, or where it has lines.
    pub to: Option<Path>,
    /// From the item to the lines of a letter's address.
    pub lines: Vec<Line>,
    pub locale: Option<Path>,
    pub reads: Vec<Column>,
    /// What the template reads of `enrich` steps.
    pub extras: Vec<Extra>,
    pub topic: String,
    pub is_marketing: bool,
    /// What its people are asked to confirm.
    pub asking: Option<Asking>,
    /// What holds where no consent is recorded.
    pub is_in_by_default: bool,
    pub once: Once,
    pub expires_after: Duration,
    /// A message in doubt is sent again.
    pub resends: bool,
    /// Messages per second.
    pub throttle: Option<u32>,
    pub record: Record,
}

/// A line of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub path: Path,
    /// Without it the address is none.
    pub is_required: bool,
}

/// A column that the template reads: its name there, where it stands and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub names: Vec<String>,
    pub path: Path,
    pub ty: FieldType,
}

/// What a template's names may mean.
pub struct Scope<'a> {
    pub schema: &'a Schema,
    pub item: &'a str,
    pub profile: &'a str,
    pub recipient: &'a Path,
    pub enriched: &'a [Enriched],
}

/// A template's own problems as findings of its object, or of the one whose fragment it includes.
pub fn template_findings(problems: Vec<TemplateProblem>) -> Vec<Finding> {
    problems
        .into_iter()
        .map(|p| {
            let owner = Ref::new("MessageTemplate", &p.owner);
            let finding = Finding::new(&owner, p.path, p.message).id("invalid-template");
            Finding { span: Some(p.span), hint: p.hint, ..finding }
        })
        .collect()
}

/// The columns behind the variables of a template; each name must be a field that can be reached.
pub fn resolve_reads(reads: &[Read], scope: &Scope<'_>) -> Result<(Vec<Column>, Vec<Extra>), Vec<Finding>> {
    let (mut columns, mut extras, mut found) = (vec![], Extras::default(), vec![]);
    for read in reads {
        let finding = |at: &Read, (message, hint): Wrong| {
            let owner = Ref::new("MessageTemplate", &at.owner);
            let finding = Finding::new(&owner, &at.path, message).id("unknown-variable");
            Finding { span: Some(at.span.clone()), hint, ..finding }
        };
        let enriched = read.names.first().and_then(|first| extra::named(scope.enriched, first));
        if let Some(enriched) = enriched {
            found.extend(extras.add(read, &enriched, scope.schema).into_iter().map(|(at, wrong)| finding(at, wrong)));
            continue;
        }
        match resolve(read, scope) {
            Ok(Some(column)) if !columns.contains(&column) => columns.push(column),
            Ok(_) => {}
            Err(wrong) => found.push(finding(read, wrong)),
        }
    }
    if found.is_empty() { Ok((columns, extras.all)) } else { Err(found) }
}

fn resolve(read: &Read, scope: &Scope<'_>) -> Result<Option<Column>, Wrong> {
    let Some(first) = read.names.first() else { return Ok(None) };
    if let Some((_, parts)) = RESERVED.iter().find(|(name, _)| name == first) {
        return match read.names.get(1) {
            None if parts.is_empty() => Ok(None),
            Some(part) if parts.contains(&part.as_str()) && read.names.len() == 2 => Ok(None),
            _ => Err((format!("`{}` is not one of {}", read.names.join("."), others()), None)),
        };
    }
    let start = match first.as_str() {
        name if name == scope.item => Path { hops: vec![], field: None, entity: scope.item.to_owned(), is_many: false },
        name if name == scope.profile => scope.recipient.clone(),
        _ => {
            let added = extra::names(scope.enriched);
            let known = [
                scope.item,
                scope.profile,
                "campaign",
                "run",
                "sender",
                "now",
                UNSUBSCRIBE_URL,
                PREFERENCES_URL,
                CONFIRM_URL,
            ];
            let known = known.into_iter().chain(added.iter().map(String::as_str));
            let hint = nearest(first, known).map(|near| format!("did you mean `{near}`?"));
            let profile = if scope.profile == scope.item { String::new() } else { format!("{}, ", scope.profile) };
            let added: String = added.iter().map(|name| format!("{name}, ")).collect();
            let said = format!(
                "`{first}` is not known to this template; it is sent with {}, {profile}{added}{}",
                scope.item,
                others()
            );
            return Err((said, hint));
        }
    };
    let (rest, ty) = one_field(&read.names.join("."), scope.schema, &start.entity)?;
    Ok(Some(Column { names: read.names.clone(), path: start.join(&rest), ty }))
}

/// A field that each row of an entity has one of, as a template names it.
fn one_field(text: &str, schema: &Schema, entity: &str) -> Result<(Path, FieldType), Wrong> {
    let path = check_path(text, schema, entity).map_err(|p| (p.message, p.hint))?;
    if path.is_many {
        let hint = "a template reaches one row over to-one links; `enrich` fetches a link's first rows";
        return Err((format!("`{text}` leads to many rows"), Some(hint.to_owned())));
    }
    match path.field_type(schema) {
        Some(ty) => Ok((path, ty)),
        None => Err((format!("`{text}` is a row, not a field"), Some("name one of its fields".to_owned()))),
    }
}

/// Whether a path leads to a text of each row that one link to many has, behind links to one at most.
pub fn is_of_devices(path: &Path, schema: &Schema, from: &str) -> bool {
    let mut at = from;
    let mut links = vec![];
    for hop in &path.hops {
        let Some(link) = schema.entity(at).and_then(|entity| entity.link(hop)) else { return false };
        links.push(link.is_many);
        at = &link.to;
    }
    let many = links.iter().position(|is_many| *is_many);
    many == links.len().checked_sub(1) && many.is_some() && path.field_type(schema) == Some(FieldType::String)
}

fn others() -> String {
    let names: Vec<String> = RESERVED
        .iter()
        .flat_map(|(name, parts)| {
            if parts.is_empty() {
                vec![(*name).to_owned()]
            } else {
                parts.iter().map(|p| format!("{name}.{p}")).collect()
            }
        })
        .collect();
    names.join(", ")
}

impl MessagePlan {
    /// The outputs of `enrich` steps that the template reads.
    pub fn enriched_by(&self) -> BTreeSet<&str> {
        self.extras.iter().map(|extra| extra.output.as_str()).collect()
    }

    /// Whose consent is asked of each person; absent where none is needed.
    pub fn asks<'a>(&'a self, bundle: &'a Bundle) -> Option<Topic<'a>> {
        let (namespace, dataset) = (&*bundle.namespace, &*bundle.campaign.dataset);
        self.is_marketing.then_some(Topic { namespace, dataset, topic: &self.topic, channel: self.medium.word() })
    }

    /// Whose consent to be told apart by opens and clicks is asked of each person.
    pub fn asks_tracking<'a>(&'a self, bundle: &'a Bundle) -> Option<Topic<'a>> {
        let tracking = &bundle.channels.get(&self.channel)?.tracking;
        let tells_apart = [tracking.opens, tracking.clicks].contains(&Tracks::Individual);
        let topic = tracking.consent_topic.as_ref().filter(|_| tells_apart)?;
        let (namespace, dataset) = (&*bundle.namespace, &*bundle.campaign.dataset);
        Some(Topic { namespace, dataset, topic, channel: "email" })
    }

    /// For whom suppression is asked, and what may have been withdrawn under an address.
    pub fn asked<'a>(&'a self, bundle: &'a Bundle, now: Timestamp) -> Asked<'a> {
        let topic = self.is_marketing.then_some(&*self.topic);
        let objection = Some(Objection { dataset: &bundle.campaign.dataset, topic, sender: &self.channel });
        Asked {
            namespace: &bundle.namespace,
            medium: self.medium.word(),
            now,
            objection,
            erasing: Some(erasing(bundle)),
        }
    }

    /// The way to the devices of a person, where there may be several and each gets the message.
    pub fn devices(&self) -> Option<&Path> {
        self.to.as_ref().filter(|to| to.is_many)
    }

    /// What enters the ledger: for each row of the set `item`, `profile`, the `reason` why it is excluded already, its
    /// `place`, and its key as `k0 k1 …`; where the person has several devices, a row for each of them, with its key as
    /// the text `device`.
    pub fn entries(
        &self,
        schema: &Schema,
        profile: &str,
        dialect: Dialect,
        set: SelectStatement,
    ) -> Option<SelectStatement> {
        let (entity, person) = (schema.entity(&self.entity)?, schema.entity(profile)?);
        // A set of persons knows all that the ledger does. Who is gone when it is sent has no address then.
        let is_keys = self.recipient.hops.is_empty() && self.devices().is_none();
        let over = if is_keys { Query::over_keys } else { Query::over_set };
        let mut query = over(schema, entity, dialect, set);
        let item = canonical(&mut query, entity, &[]);
        let profile = canonical(&mut query, person, &self.recipient.hops);
        let unmatched = profile.clone().is_null();
        let reason = if self.per_profile {
            let key = query.key();
            let marks = vec!["?"; key.len()].join(", ");
            // By it the rows of one item are one, however many devices they are for.
            let rank = query.custom(
                &format!("dense_rank() OVER (PARTITION BY ? ORDER BY {marks})"),
                [profile.clone()].into_iter().chain(key),
            );
            query.custom("CASE WHEN ? THEN 'UnmatchedProfile' WHEN ? > 1 THEN 'Duplicate' END", [unmatched, rank])
        } else {
            query.custom("CASE WHEN ? THEN 'UnmatchedProfile' END", [unmatched])
        };
        query.column(item.clone(), "item");
        query.column(profile, "profile");
        query.column(reason, "reason");
        let device = match self.devices() {
            Some(to) => canonical(&mut query, schema.entity(&to.entity)?, &to.hops),
            None => query.custom("CAST(NULL AS TEXT)", []),
        };
        query.column(device, "device");
        // A single key in its own order; several as their text.
        let place = if entity.key.len() == 1 { query.key().into_iter().next().unwrap_or(item) } else { item };
        query.column(place, "place");
        for (index, key) in query.key().into_iter().enumerate() {
            query.column(key, &format!("k{index}"));
        }
        Some(query.finish())
    }

    /// The columns of a set of ledger rows: those of the set itself (see `carried`), the address, the locale, and what
    /// the template reads; of `enriched` outputs the SELECT of all that their rows have. Where the set carries `granted`,
    /// the last column is the `refusal`, as `asked`. The set has the column [`DEVICE`].
    pub fn skinny(
        &self,
        schema: &Schema,
        dialect: Dialect,
        set: SelectStatement,
        carried: &[&str],
        enriched: &dyn Fn(&str) -> Option<SelectStatement>,
        asked: Option<Asked<'_>>,
    ) -> Option<SelectStatement> {
        let entity = schema.entity(&self.entity)?;
        let mut query = Query::over_set_keeping(schema, entity, dialect, set);
        self.narrow(schema, &mut query)?;
        for name in carried {
            query.column(Query::set_column(name), name);
        }
        let to = self.address(&mut query);
        query.column(to, "address_text");
        let locale = match &self.locale {
            Some(path) => query.path(path),
            None => query.custom("CAST(NULL AS TEXT)", []),
        };
        query.column(locale, "locale_text");
        for (index, column) in self.reads.iter().enumerate() {
            let value = query.path(&column.path);
            let value = portable(&query, value, column.ty);
            query.column(value, &format!("c{index}"));
        }
        for output in self.enriched_by() {
            let on = entity.key.iter().map(|name| (Query::set_column(name), name.clone()));
            query.join_left(enriched(output)?, output, on);
        }
        for (index, extra) in self.extras.iter().enumerate() {
            let value = Expr::col((Alias::new(&extra.output), Alias::new(&extra.column)));
            let value = portable(&query, value, extra.stored());
            query.column(value, &format!("e{index}"));
        }
        if let Some(asked) = asked {
            let refusal = self.refusal(&mut query, asked);
            query.column(refusal, "refusal");
        }
        query.order_by(Query::set_column("seq"));
        Some(query.finish())
    }

    /// Why each row of a set with the columns `profile`, `granted` and [`DEVICE`] does not get the message when its turn comes;
    /// NULL for who does. The columns that the set is `carrying` stand before it.
    pub fn refusals(
        &self,
        schema: &Schema,
        dialect: Dialect,
        set: SelectStatement,
        carrying: &[&str],
        asked: Asked<'_>,
    ) -> Option<SelectStatement> {
        let mut query = Query::over_set_keeping(schema, schema.entity(&self.entity)?, dialect, set);
        self.narrow(schema, &mut query)?;
        for name in carrying {
            query.column(Query::set_column(name), name);
        }
        let refusal = self.refusal(&mut query, asked);
        query.column(refusal, "refusal");
        Some(query.finish())
    }

    /// Of the person's devices the one that a row of the set is for. One that is gone, or is another person's by now, has
    /// no address.
    fn narrow(&self, schema: &Schema, query: &mut Query<'_>) -> Option<()> {
        let Some(to) = self.devices() else { return Some(()) };
        let device = canonical(query, schema.entity(&to.entity)?, &to.hops);
        query.narrow(&to.hops, device.eq(Query::set_column(DEVICE)));
        Some(())
    }

    /// What is decided of a person when her message's turn comes. Here and nowhere else: a preview counts by it.
    fn refusal(&self, query: &mut Query<'_>, asked: Asked<'_>) -> Expr {
        let (mut cases, mut parts) = self.address_cases(query, asked);
        if self.is_marketing {
            let default = i64::from(self.is_in_by_default);
            cases = format!("WHEN coalesce(?, {default}) <> 1 THEN 'NoConsent' {cases}");
            parts.insert(0, Query::set_column(GRANTED));
        }
        if let (Some(asking), Some(of)) = (&self.asking, asked.erasing) {
            // She may have said yes, or that it was not her, since.
            cases = format!("WHEN ? THEN 'NoConsent' {cases}");
            let topic = (asking.topic.as_str(), asking.medium.word());
            parts.insert(0, is_settled(query, (asked.namespace, of.dataset), topic));
        }
        if let Some(of) = asked.erasing {
            cases = format!("WHEN ? THEN '{ERASED}' {cases}");
            parts.insert(0, is_erased(query, asked.namespace, of));
        }
        if cases.is_empty() {
            return query.custom("CAST(NULL AS TEXT)", []);
        }
        query.custom(&format!("CASE {cases} END"), parts)
    }
}

/// Whose erasure the people of a campaign are asked for.
pub fn erasing(bundle: &Bundle) -> Erasing<'_> {
    let entity = &*bundle.dataset.profile.entity;
    let source = bundle.dataset.entity(entity).and_then(|entity| entity.source.as_ref());
    let is_in_place = source.is_some_and(|source| source.table.is_some());
    Erasing { dataset: &bundle.campaign.dataset, entity, is_in_place }
}

/// The canonical text of a row's key, reached over to-one links; missing where there is no row.
pub fn canonical(query: &mut Query<'_>, entity: &Entity, hops: &[String]) -> Expr {
    let dialect = query.dialect();
    let mut parts = vec![];
    for name in &entity.key {
        let path = Path { hops: hops.to_vec(), field: Some(name.clone()), entity: entity.name.clone(), is_many: false };
        let column = query.path(&path);
        let is_date = entity.field(name).is_some_and(|f| f.ty == FieldType::Date);
        parts.push(if is_date && dialect == Dialect::Postgres {
            query.custom("to_char(?, 'YYYY-MM-DD')", [column])
        } else {
            column
        });
    }
    if let [one] = parts.as_slice() {
        return query.custom("CAST(? AS TEXT)", [one.clone()]);
    }
    let template = match dialect {
        Dialect::Sqlite => format!("json_array({})", vec!["?"; parts.len()].join(", ")),
        Dialect::Postgres => {
            format!("('[' || {} || ']')", vec!["CAST(to_json(?) AS TEXT)"; parts.len()].join(" || ',' || "))
        }
    };
    let Some(first) = parts.first().cloned() else { return query.custom("CAST(NULL AS TEXT)", []) };
    let text = query.custom(&template, parts);
    query.custom("CASE WHEN ? IS NULL THEN NULL ELSE ? END", [first, text])
}

/// A column in a form that both databases hand over alike: times as microseconds, decimals and dates as text.
pub fn portable(query: &Query<'_>, value: Expr, ty: FieldType) -> Expr {
    match (ty, query.dialect()) {
        (FieldType::Timestamp, Dialect::Postgres) => {
            query.custom("CAST(extract(epoch FROM ?) * 1000000 AS BIGINT)", [value])
        }
        (FieldType::Date, Dialect::Postgres) => query.custom("to_char(?, 'YYYY-MM-DD')", [value]),
        (FieldType::Decimal { .. }, Dialect::Postgres) => query.custom("CAST(? AS TEXT)", [value]),
        _ => value,
    }
}

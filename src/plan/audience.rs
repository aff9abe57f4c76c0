//! Audiences as steps, rules and each other refer to them: gathered with all that they build on, checked, made into
//! SELECTs of keys.
//!
//! An audience whose keys are kept is read from its table where they are of the definition that is asked for;
//! otherwise its SELECT stands inside of the SELECT that refers to it.

mod mentions;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use sea_query::{Alias, SelectStatement, UnionType};
use sha2::{Digest, Sha256};

use self::mentions::mentions_of;
pub use self::mentions::{Mention, Specs, gather, gather_one, mentions_in};
use super::{Finding, INVALID_ADDRESS, Ref};
use crate::{
    api::{
        AudienceSpec,
        audience::{ACCEPT_SIZE, Combination, Form, Import, Member, Parameter},
        dataset::FileFormat,
    },
    files::address,
    ingest::format::is_named_as,
    rule::{Dialect, Inputs, Param, ParamType, Query, Rule, Schema, check, check_path, nearest, schema::Entity},
    run::schedule::Timetable,
    store::audience::{Kept, kept_keys},
};

/// What makes an audience's rows, hashed: with it the keys that are kept are told from those of an earlier spec. When
/// and whether it is refreshed, exported and guarded is not of it. `known` are the definitions of what it builds on.
fn definition(name: &str, spec: &AudienceSpec, known: &BTreeMap<String, String>) -> String {
    let bare = AudienceSpec { refresh: None, export: None, guard: None, ..spec.clone() };
    // A spec that came in as JSON goes out as JSON.
    let mut hash = Sha256::new();
    hash.update(serde_json::to_string(&bare).unwrap_or_default());
    let below = mentions_of(name, spec);
    below.iter().filter_map(|mention| known.get(&mention.audience)).for_each(|definition| hash.update(definition));
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// A checked audience.
pub struct Set {
    pub name: String,
    pub entity: String,
    pub definition: String,
    /// The rule's parameters with their defaults.
    pub params: BTreeMap<String, Param>,
    /// When its keys are refreshed, if they are by a schedule.
    pub refresh: Option<Timetable>,
    source: Source,
}

/// An audience that another is combined of, and the values of that other for its parameters.
pub type Part = (String, BTreeMap<String, Param>);

enum Source {
    Rule(Box<Rule>),
    Combined(Combination, Vec<Part>),
    /// Keys that come from elsewhere and stand in the store only.
    Saved,
    Import,
    Sql(String),
}

impl Set {
    /// The statement, where the audience is one of `sql` that no schedule refreshes: it is run when a run reads it.
    pub fn sql_on_demand(&self) -> Option<&str> {
        match &self.source {
            Source::Sql(text) if self.refresh.is_none() => Some(text),
            _ => None,
        }
    }

    /// What it is combined of, with values of its own for their parameters, where it is.
    pub fn members(&self) -> Option<(Combination, &[Part])> {
        match &self.source {
            Source::Combined(combination, members) => Some((*combination, members)),
            _ => None,
        }
    }

    /// Whether the audience is evaluated where it is read, and its keys are not kept.
    pub fn is_on_demand(&self) -> bool {
        self.refresh.is_none() && !self.is_from_elsewhere()
    }

    /// Whether the keys can only be read where they stand.
    fn is_from_elsewhere(&self) -> bool {
        matches!(self.source, Source::Saved | Source::Import | Source::Sql(_))
    }

    /// The last time until `at` at which the keys were to be refreshed, if they are older.
    pub fn due(&self, last: Timestamp, at: Timestamp) -> Option<Timestamp> {
        let look = self.refresh.as_ref()?.look(last, at, false);
        look.due.last().or(look.missed.last()).copied()
    }

    /// Whether the audience is read from the keys that are kept of it.
    pub fn stands_in(&self, kept: &Kept) -> bool {
        let is_mine = self.is_from_elsewhere() || self.refresh.is_some() && kept.definition == self.definition;
        // Keys that were filled in while it was an audience of another entity are no keys of this one.
        is_mine && kept.entity == self.entity
    }
}

/// Audiences that are used together, each behind those that it builds on.
#[derive(Default)]
pub struct Sets {
    all: Vec<Set>,
}

/// Checks audiences that were gathered. They are of `dataset`, whose entities `schema` holds; the schema must know them
/// ([`known_to`]).
pub fn compile(specs: &Specs, dataset: &str, schema: &Schema) -> Result<Sets, Vec<Finding>> {
    let (mut sets, mut found, mut seen) = (Sets::default(), vec![], BTreeSet::new());
    let mut definitions = BTreeMap::new();
    for name in specs.keys() {
        place(name, specs, &mut seen, &mut |name, spec| {
            let definition = definition(name, spec, &definitions);
            definitions.insert(name.to_owned(), definition.clone());
            match compile_one((name, definition), spec, specs, dataset, schema) {
                Ok(set) => sets.all.push(set),
                Err(wrong) => found.extend(wrong),
            }
        });
    }
    if found.is_empty() { Ok(sets) } else { Err(found) }
}

/// Gives each audience once, behind those that it builds on; of those in a circle, which [`gather`] finds, any first.
fn place<'s>(
    name: &str,
    specs: &'s Specs,
    seen: &mut BTreeSet<String>,
    each: &mut impl FnMut(&'s str, &'s AudienceSpec),
) {
    let Some((name, spec)) = specs.get_key_value(name) else { return };
    if seen.insert(name.clone()) {
        for mention in mentions_of(name, spec) {
            place(&mention.audience, specs, seen, each);
        }
        each(name, spec);
    }
}

/// Lets rules ask about the audiences.
pub fn known_to(mut schema: Schema, specs: &Specs) -> Schema {
    schema.audiences = specs.iter().map(|(name, spec)| (name.clone(), spec.entity.to_string())).collect();
    schema
}

fn compile_one(
    (name, definition): (&str, String),
    spec: &AudienceSpec,
    specs: &Specs,
    dataset: &str,
    schema: &Schema,
) -> Result<Set, Vec<Finding>> {
    let owner = Ref::new("Audience", name);
    let mut found = vec![];
    // Not a rule of the CRD: CEL knows no field whose values may be of any type.
    if !spec.parameters.is_empty() && spec.rule.is_none() {
        let message = "parameters belong to a rule: they stand beside `where`";
        found.push(Finding::new(&owner, "spec.parameters", message));
    }
    let refresh = match spec.refresh.as_ref().map(|refresh| Timetable::cron(&refresh.cron, &refresh.time_zone)) {
        Some(Err(wrong)) => {
            found.push(Finding::of_schedule(&owner, "spec.refresh", wrong));
            None
        }
        table => table.and_then(Result::ok),
    };
    let Some(entity) = schema.entity(&spec.entity) else {
        let message = format!("dataset `{dataset}` has no entity `{}`", spec.entity);
        let known = schema.entities.keys().map(String::as_str);
        found.push(Finding::new(&owner, "spec.entity", message).suggest(&spec.entity, known));
        return Err(found);
    };
    check_edges(&owner, spec, schema, &mut found);
    match source(&owner, spec, specs, (schema, entity)) {
        Ok(source) if found.is_empty() => Ok(Set {
            name: name.to_owned(),
            entity: spec.entity.to_string(),
            definition,
            params: spec.parameters.iter().map(|(k, v)| (k.clone(), param(v))).collect(),
            refresh,
            source,
        }),
        source => {
            found.extend(source.err().into_iter().flatten());
            Err(found)
        }
    }
}

/// What the audience's rows come from.
fn source(
    owner: &Ref,
    spec: &AudienceSpec,
    specs: &Specs,
    (schema, entity): (&Schema, &Entity),
) -> Result<Source, Vec<Finding>> {
    match spec.form() {
        None => {
            let message = "an audience is exactly one of where, union, intersect, subtract, saved, import, sql";
            Err(vec![Finding::new(owner, "spec", message)])
        }
        Some(Form::Rule(text)) => {
            let types = spec.parameters.iter().map(|(k, v)| (k.clone(), param_type(v))).collect();
            let rule = check(text, schema, &spec.entity, &types);
            rule.map(|rule| Source::Rule(Box::new(rule)))
                .map_err(|problem| Finding::of_problems(owner, "spec.where", problem))
        }
        Some(Form::Combined(combination, members)) => combined(owner, spec, combination, members, specs),
        Some(Form::Saved) => Ok(Source::Saved),
        Some(Form::Import(import)) => {
            let mut found = vec![];
            if import.key.is_some() && entity.key.len() > 1 {
                let message = format!("the key of {} has several fields ({})", entity.name, entity.key.join(", "));
                let hint = "leave `key` out: the columns have the names of the fields";
                found.push(Finding::new(owner, "spec.import.key", message).hint(hint));
            }
            if let Err(wrong) = address::check_source(&import.url, &import.access) {
                let path = format!("spec.import.{}", wrong.field);
                found.push(Finding::new(owner, path, wrong.message).id(INVALID_ADDRESS));
            } else if let Err(message) = import_format(import) {
                found.push(Finding::new(owner, "spec.import.url", message));
            }
            if found.is_empty() { Ok(Source::Import) } else { Err(found) }
        }
        Some(Form::Sql(text)) => match crate::store::readonly::only_statement(text) {
            Ok(only) => Ok(Source::Sql(only.to_owned())),
            Err(message) => Err(vec![Finding::new(owner, "spec.sql", message)]),
        },
    }
}

/// How the file of an import is read.
///
/// # Errors
/// If nothing says so.
pub fn import_format(import: &Import) -> Result<FileFormat, String> {
    let url = &import.url;
    let told = || [FileFormat::CSV, FileFormat::JSONL, FileFormat::Parquet].into_iter().find(|f| is_named_as(*f, url));
    import
        .format
        .or_else(told)
        .ok_or_else(|| format!("`{url}` does not say its format by its name; say it with `format`"))
}

fn combined(
    owner: &Ref,
    spec: &AudienceSpec,
    combination: Combination,
    members: &[Member],
    specs: &Specs,
) -> Result<Source, Vec<Finding>> {
    let (mut parts, mut found) = (vec![], vec![]);
    for (index, member) in members.iter().enumerate() {
        let path = |field: &str| format!("spec.{}[{index}].{field}", combination.word());
        // What was not gathered is missing, and that is said.
        let Some(other) = specs.get(&*member.reference) else { continue };
        if other.entity != spec.entity {
            let message =
                format!("audience `{}` holds rows of {}, not of {}", member.reference, other.entity, spec.entity);
            found.push(Finding::new(owner, path("ref"), message));
            continue;
        }
        match own_params(&member.reference, other, &member.params) {
            Ok(own) => parts.push((member.reference.to_string(), own)),
            Err((key, misfit)) => found.push(misfit.into_finding(owner, path(&format!("params.{key}")))),
        }
    }
    if found.is_empty() { Ok(Source::Combined(combination, parts)) } else { Err(found) }
}

/// What stands around an audience: its guard, what it exports.
fn check_edges(owner: &Ref, spec: &AudienceSpec, schema: &Schema, found: &mut Vec<Finding>) {
    if let Some(problem) = spec.guard.as_ref().and_then(|guard| guard.problem()) {
        found.push(Finding::new(owner, "spec.guard.maxChange", problem).hint("write it as 20% or 500"));
    }
    for (index, field) in spec.export.iter().flat_map(|e| &e.fields).enumerate() {
        let path = format!("spec.export.fields[{index}]");
        match check_path(field, schema, &spec.entity) {
            Err(problem) => found.push(Finding::of_problem(owner, path, problem)),
            Ok(reached) if reached.is_many || reached.field.is_none() => {
                found.push(Finding::new(owner, path, format!("`{field}` must lead to one field")));
            }
            Ok(_) => {}
        }
    }
}

/// What is wrong with where an audience is written to. Nobody who reads the audience is kept from it by that.
pub fn check_export(name: &str, spec: &AudienceSpec) -> Option<Finding> {
    let export = spec.export.as_ref()?;
    let wrong = address::check_target(&export.url, &export.access).err()?;
    let path = format!("spec.export.{}", wrong.field);
    Some(Finding::new(&Ref::new("Audience", name), path, wrong.message).id(INVALID_ADDRESS))
}

/// The size that a person let pass, by its annotation.
///
/// # Errors
/// If that is no number.
pub fn accepted(annotations: &BTreeMap<String, String>) -> Result<Option<i64>, String> {
    let Some(text) = annotations.get(ACCEPT_SIZE) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("annotation {ACCEPT_SIZE}: `{text}` is not a number of rows"))
}

/// What is wrong with a parameter's value.
pub struct Misfit {
    message: String,
    hint: Option<String>,
}

impl Misfit {
    pub fn into_finding(self, object: &Ref, path: String) -> Finding {
        Finding { hint: self.hint, ..Finding::new(object, path, self.message) }
    }
}

/// Values for an audience's parameters, checked against its defaults; what is wrong, and with which.
pub fn own_params(
    name: &str,
    spec: &AudienceSpec,
    values: &BTreeMap<String, Parameter>,
) -> Result<BTreeMap<String, Param>, (String, Misfit)> {
    let mut own = BTreeMap::new();
    for (key, value) in values {
        let Some(default) = spec.parameters.get(key) else {
            let hint =
                nearest(key, spec.parameters.keys().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
            return Err((key.clone(), Misfit { message: format!("audience `{name}` has no parameter `{key}`"), hint }));
        };
        let (wanted, given) = (param_type(default), param_type(value));
        if wanted != given {
            let message = format!("parameter `{key}` of audience `{name}` is {wanted:?}, not {given:?}");
            return Err((key.clone(), Misfit { message, hint: None }));
        }
        own.insert(key.clone(), param(value));
    }
    Ok(own)
}

fn param_type(value: &Parameter) -> ParamType {
    match value {
        Parameter::Boolean(_) => ParamType::Boolean,
        Parameter::Integer(_) => ParamType::Integer,
        Parameter::Double(_) => ParamType::Double,
        Parameter::String(_) => ParamType::String,
    }
}

fn param(value: &Parameter) -> Param {
    match value {
        Parameter::Boolean(b) => Param::Boolean(*b),
        Parameter::Integer(n) => Param::Integer(*n),
        Parameter::Double(d) => Param::Double(*d),
        Parameter::String(s) => Param::String(s.clone()),
    }
}

impl Sets {
    pub fn get(&self, name: &str) -> Option<&Set> {
        self.all.iter().find(|set| set.name == name)
    }

    /// Each behind those that it builds on.
    pub fn iter(&self) -> impl Iterator<Item = &Set> {
        self.all.iter()
    }

    /// What rules read at `now`: each audience as the SELECT of its keys. `kept` holds the keys that stand in the store.
    ///
    /// # Errors
    /// The name of an audience that comes from elsewhere and has not come yet.
    pub fn inputs(
        &self,
        (schema, dialect): (&Schema, Dialect),
        now: Timestamp,
        kept: &BTreeMap<String, Kept>,
    ) -> Result<Inputs, String> {
        let mut inputs = Inputs::at(now);
        for set in &self.all {
            let Some(entity) = schema.entity(&set.entity) else { continue };
            let stands = kept.get(&set.name).filter(|kept| set.stands_in(kept));
            let select = match (&set.source, stands) {
                (_, Some(kept)) => {
                    // Rows that went since they were kept are not there.
                    let keys = kept_keys(&kept.table, entity.key.iter().map(String::as_str));
                    Query::over_set(schema, entity, dialect, keys).keys()
                }
                (Source::Rule(rule), None) => set.evaluated(rule, &BTreeMap::new(), &inputs, (schema, dialect)),
                (Source::Combined(combination, members), None) => {
                    let parts =
                        members.iter().filter_map(|(name, own)| self.select(name, own, &inputs, (schema, dialect)));
                    combine(*combination, parts, &entity.key)
                }
                _ => return Err(set.name.clone()),
            };
            let mut audiences = (*inputs.audiences).clone();
            audiences.insert(set.name.clone(), select);
            inputs.audiences = Arc::new(audiences);
        }
        Ok(inputs)
    }

    /// The keys of an audience with values of the reader's own for its parameters.
    pub fn select(
        &self,
        name: &str,
        own: &BTreeMap<String, Param>,
        inputs: &Inputs,
        ground: (&Schema, Dialect),
    ) -> Option<SelectStatement> {
        match self.get(name).map(|set| (set, &set.source)) {
            Some((set, Source::Rule(rule))) if set.has_own(own) => Some(set.evaluated(rule, own, inputs, ground)),
            _ => inputs.audiences.get(name).cloned(),
        }
    }
}

impl Sets {
    /// The rule of an audience and what it reads, where it is one of a rule.
    pub fn rule(&self, name: &str, own: &BTreeMap<String, Param>, inputs: &Inputs) -> Option<(&Rule, Inputs)> {
        let set = self.get(name)?;
        let Source::Rule(rule) = &set.source else { return None };
        let mut params = set.params.clone();
        params.extend(own.clone());
        Some((rule, Inputs { params, ..inputs.clone() }))
    }
}

impl Set {
    /// Whether the values differ from the defaults.
    pub fn has_own(&self, own: &BTreeMap<String, Param>) -> bool {
        own.iter().any(|(key, value)| self.params.get(key) != Some(value))
    }

    fn evaluated(
        &self,
        rule: &Rule,
        own: &BTreeMap<String, Param>,
        inputs: &Inputs,
        (schema, dialect): (&Schema, Dialect),
    ) -> SelectStatement {
        let Some(entity) = schema.entity(&self.entity) else { return SelectStatement::new() };
        let mut params = self.params.clone();
        params.extend(own.clone());
        let mut query = Query::over(schema, entity, dialect);
        query.restrict(rule, &Inputs { params, ..inputs.clone() });
        query.keys()
    }
}

fn combine(
    combination: Combination,
    mut parts: impl Iterator<Item = SelectStatement>,
    key: &[String],
) -> SelectStatement {
    let kind = match combination {
        Combination::Union => UnionType::Distinct,
        Combination::Intersect => UnionType::Intersect,
        Combination::Subtract => UnionType::Except,
    };
    let mut select = parts.next().unwrap_or_default();
    parts.for_each(|part| {
        select.union(kind, part);
    });
    // As a derived table it can be part of another combination: SQLite knows no other brackets.
    let mut whole = SelectStatement::new();
    key.iter().for_each(|name| {
        whole.column(Alias::new(name));
    });
    whole.from_subquery(select, Alias::new("c")).to_owned()
}

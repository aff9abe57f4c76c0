//! A Dataset as rules see it, and what its schema alone cannot check.

mod history;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{
    api::{
        dataset::{ConsentField, DatasetSpec, Entity, FieldKind},
        duration::Duration,
    },
    files::address,
    plan::{Finding, INVALID_ADDRESS, Ref, message},
    rule::{
        self, Dialect, Schema, check_path, nearest,
        schema::{self, FieldType},
    },
    store::entity::Place,
};

/// The schema that rules are checked against; an `inverse` is a link of the other entity.
pub fn schema_of(spec: &DatasetSpec, namespace: &str, dataset: &str, dialect: Dialect) -> Schema {
    let place = Place { namespace, dataset, dialect };
    let mut built = Schema::default();
    for entity in &spec.entities {
        let fields = entity.fields.iter().map(|f| schema::Field {
            name: f.name.to_string(),
            ty: type_of(f.kind, f.scale),
            is_required: f.required || entity.key.contains(&f.name),
        });
        let links = entity.links.iter().map(|l| schema::Link {
            name: l.name.to_string(),
            to: l.to.to_string(),
            keys: l.keys.iter().map(|(here, there)| (here.clone(), there.to_string())).collect(),
            is_many: false,
        });
        let built_entity = schema::Entity {
            name: entity.name.to_string(),
            key: entity.key.iter().map(ToString::to_string).collect(),
            fields: fields.collect(),
            links: links.collect(),
            table: place.table(&entity.name),
            conditions: conditions_of(spec, &entity.name),
            ..schema::Entity::default()
        };
        built.entities.insert(entity.name.to_string(), built_entity);
    }
    for entity in &spec.entities {
        for link in &entity.links {
            if let (Some(inverse), Some(other)) = (&link.inverse, built.entities.get_mut(&*link.to)) {
                other.links.push(schema::Link {
                    name: inverse.to_string(),
                    to: entity.name.to_string(),
                    keys: link.keys.iter().map(|(here, there)| (there.to_string(), here.clone())).collect(),
                    is_many: true,
                });
            }
        }
    }
    history::add(&mut built, spec, place);
    built
}

fn conditions_of(spec: &DatasetSpec, entity: &str) -> Vec<schema::Condition> {
    let own = spec.conditions.iter().filter(|c| *c.entity == *entity);
    own.map(|c| schema::Condition { name: c.name.to_string(), text: c.rule.clone() }).collect()
}

fn type_of(kind: FieldKind, scale: Option<u8>) -> FieldType {
    match kind {
        FieldKind::String => FieldType::String,
        FieldKind::Integer => FieldType::Integer,
        FieldKind::Decimal => FieldType::Decimal { scale: scale.unwrap_or(0) },
        FieldKind::Double => FieldType::Double,
        FieldKind::Boolean => FieldType::Boolean,
        FieldKind::Date => FieldType::Date,
        FieldKind::Timestamp => FieldType::Timestamp,
    }
}

/// Shorter than a day, and nobody could see in the morning what went wrong overnight.
const MESSAGES_KEPT_MIN: Duration = Duration::from_hours(24);

/// What is wrong with a Dataset by itself.
pub fn check(name: &str, spec: &DatasetSpec) -> Vec<Finding> {
    let this = Ref::new("Dataset", name);
    let schema = schema_of(spec, "default", name, Dialect::Sqlite);
    let mut found = vec![];
    for (index, entity) in spec.entities.iter().enumerate() {
        check_entity(&this, index, entity, spec, &mut found);
    }
    if spec.retention.messages < MESSAGES_KEPT_MIN {
        let message = format!("messages are kept for {MESSAGES_KEPT_MIN} at least, not {}", spec.retention.messages);
        found.push(Finding::new(&this, "spec.retention.messages", message));
    }
    let entities = || spec.entities.iter().map(|e| &*e.name);
    let Some(profile) = spec.entity(&spec.profile.entity) else {
        let mut finding =
            Finding::new(&this, "spec.profile.entity", format!("there is no entity `{}`", spec.profile.entity));
        finding.hint = nearest(&spec.profile.entity, entities()).map(|near| format!("did you mean `{near}`?"));
        found.push(finding);
        return found;
    };
    let (addresses, mut texts) = (&spec.profile.addresses, vec![]);
    for (path, text) in [
        ("spec.profile.locale", &spec.profile.locale),
        ("spec.profile.addresses.email", &addresses.email),
        ("spec.profile.addresses.sms", &addresses.sms),
        ("spec.profile.addresses.push", &addresses.push),
    ] {
        texts.extend(text.as_deref().map(|text| (path.to_owned(), text)));
    }
    let lines = addresses.lines().enumerate();
    texts.extend(lines.map(|(index, (text, _))| (format!("spec.profile.addresses.postal[{index}]"), text)));
    for (path, text) in texts {
        match check_path(text, &schema, &profile.name) {
            Err(problem) => found.push(Finding::of_problem(&this, path, problem)),
            Ok(reached) if path.ends_with(".push") && reached.is_many => {
                if !message::is_of_devices(&reached, &schema, &profile.name) {
                    let said =
                        format!("`{text}` must lead to one String field, or to that of the rows of one to-many link");
                    found.push(Finding::new(&this, path, said).hint("write it as in devices.token"));
                }
            }
            Ok(reached) if reached.is_many || reached.field_type(&schema) != Some(FieldType::String) => {
                found.push(Finding::new(&this, path, format!("`{text}` must lead to one String field")));
            }
            Ok(_) => {}
        }
    }
    for (index, topic) in spec.topics.iter().enumerate() {
        for (medium, consent) in topic.consent.iter().flat_map(|consent| consent.all()) {
            let at = format!("spec.topics[{index}].consent.{}", medium.word());
            check_consent(&this, &at, consent, profile, &mut found);
        }
    }
    history::check(&this, spec, &mut found);
    history::check_exports(&this, spec, &mut found);
    check_conditions(&this, spec, &schema, &mut found);
    found
}

/// What says whether a person agreed must be a field of hers, and of its type.
fn check_consent(this: &Ref, at: &str, consent: &ConsentField, profile: &Entity, found: &mut Vec<Finding>) {
    let fields = [
        ("field", Some(&consent.field), FieldKind::Boolean),
        ("changedAt", consent.changed_at.as_ref(), FieldKind::Timestamp),
        ("confirmed", consent.confirmed.as_ref(), FieldKind::Boolean),
    ];
    for (part, field, wanted) in fields {
        let Some(field) = field else { continue };
        let path = format!("{at}.{part}");
        match profile.fields.iter().find(|f| f.name == *field) {
            None => {
                let mut finding = Finding::new(this, path, format!("{} has no field `{field}`", profile.name));
                finding.hint = nearest(field, profile.fields.iter().map(|f| &*f.name))
                    .map(|near| format!("did you mean `{near}`?"));
                found.push(finding);
            }
            Some(f) if f.kind != wanted => {
                found.push(Finding::new(this, path, format!("`{field}` must be a {wanted:?} field")))
            }
            Some(_) => {}
        }
    }
}

/// A named condition must stand by itself, whoever uses it.
fn check_conditions(this: &Ref, spec: &DatasetSpec, schema: &Schema, found: &mut Vec<Finding>) {
    for (index, condition) in spec.conditions.iter().enumerate() {
        let at = |field: &str| format!("spec.conditions[{index}].{field}");
        let Some(entity) = spec.entity(&condition.entity) else {
            let mut finding = Finding::new(this, at("entity"), format!("there is no entity `{}`", condition.entity));
            finding.hint = nearest(&condition.entity, spec.entities.iter().map(|e| &*e.name))
                .map(|near| format!("did you mean `{near}`?"));
            found.push(finding);
            continue;
        };
        let others = spec.conditions[..index].iter().filter(|c| c.entity == condition.entity);
        let is_taken = schema
            .entity(&entity.name)
            .is_some_and(|e| e.field(&condition.name).is_some() || e.link(&condition.name).is_some());
        if is_taken || others.into_iter().any(|c| c.name == condition.name) {
            let message = format!("{} already has a field, link or condition `{}`", entity.name, condition.name);
            found.push(Finding::new(this, at("name"), message));
        } else if let Err(problem) = rule::check_condition(schema, &entity.name, &condition.name) {
            found.push(Finding::of_problem(this, at("where"), problem));
        }
    }
}

fn check_entity(this: &Ref, index: usize, entity: &Entity, spec: &DatasetSpec, found: &mut Vec<Finding>) {
    let at = |rest: String| format!("spec.entities[{index}].{rest}");
    for (k, key) in entity.key.iter().enumerate() {
        let kind = entity.fields.iter().find(|f| f.name == *key).map(|f| f.kind);
        if !matches!(kind, Some(FieldKind::String | FieldKind::Integer | FieldKind::Date)) {
            found.push(Finding::new(
                this,
                at(format!("key[{k}]")),
                format!("a key field is a String, an Integer or a Date, and `{key}` is not"),
            ));
        }
    }
    let files = entity.source.as_ref().and_then(|s| s.files.as_ref());
    if entity.source.as_ref().is_some_and(|s| s.files.is_some() == s.table.is_some()) {
        found.push(Finding::new(this, at("source".to_owned()), "a source is either files or a table".to_owned()));
    }
    if let Some(Err(wrong)) = files.map(|files| address::check_source(&files.url, &files.access)) {
        found.push(Finding::new(this, at(format!("source.files.{}", wrong.field)), wrong.message).id(INVALID_ADDRESS));
    }
    let limits = files.map(|files| [("maxDeletes", &files.max_deletes), ("maxRejects", &files.max_rejects)]);
    for (field, limit) in limits.into_iter().flatten() {
        if let Some(text) = limit.as_ref().and_then(not_a_share) {
            let message = format!("`{text}` is neither a number of rows nor a percent");
            found.push(Finding::new(this, at(format!("source.files.{field}")), message).hint("write it as 500 or 2%"));
        }
    }
    if let (Some(freshness), Some(files)) = (&entity.freshness, files)
        && freshness.max_age <= files.every
    {
        let message = format!("the source is looked at every {}, so this must be longer", files.every);
        found.push(Finding::new(this, at("freshness.maxAge".to_owned()), message));
    }
    if entity.freshness.is_some() && files.is_none() {
        let message = format!("{} has no files that could be fresh or stale", entity.name);
        found.push(Finding::new(this, at("freshness".to_owned()), message));
    }
    let version = entity.fields.iter().find(|f| Some(&f.name) == entity.version.as_ref());
    if version.is_some_and(|f| f.kind == FieldKind::Boolean || entity.key.contains(&f.name)) {
        let message = "a version is a field by which rows are newer or older: not a Boolean, and not of the key";
        found.push(Finding::new(this, at("version".to_owned()), message.to_owned()));
    }
    if let Some(zone) = files.and_then(|f| f.time_zone.as_ref())
        && jiff::tz::TimeZone::get(zone).is_err()
    {
        found.push(
            Finding::new(this, at("source.files.timeZone".to_owned()), format!("`{zone}` is not a time zone"))
                .hint("use an IANA name such as Europe/Rome"),
        );
    }
    for (l, link) in entity.links.iter().enumerate() {
        let at = |rest: &str| at(format!("links[{l}].{rest}"));
        if entity.fields.iter().any(|f| f.name == link.name) {
            found.push(Finding::new(
                this,
                at("name"),
                format!("{} has both a field and a link `{}`", entity.name, link.name),
            ));
        }
        let Some(to) = spec.entity(&link.to) else {
            let mut finding = Finding::new(this, at("to"), format!("there is no entity `{}`", link.to));
            finding.hint =
                nearest(&link.to, spec.entities.iter().map(|e| &*e.name)).map(|near| format!("did you mean `{near}`?"));
            found.push(finding);
            continue;
        };
        if let Some(inverse) = &link.inverse {
            let taken = to.fields.iter().any(|f| f.name == *inverse) || to.links.iter().any(|l| l.name == *inverse);
            let inverses = spec
                .entities
                .iter()
                .flat_map(|e| e.links.iter())
                .filter(|l| l.to == link.to && l.inverse.as_ref() == Some(inverse));
            if taken || inverses.count() > 1 {
                found.push(Finding::new(
                    this,
                    at("inverse"),
                    format!("{} already has a field or link `{inverse}`", to.name),
                ));
            }
        }
        for (here, there) in &link.keys {
            let mine = entity.fields.iter().find(|f| *f.name == **here);
            let theirs = to.fields.iter().find(|f| f.name == *there);
            match (mine, theirs) {
                (None, _) => {
                    found.push(Finding::new(this, at("keys"), format!("{} has no field `{here}`", entity.name)))
                }
                (_, None) => found.push(Finding::new(this, at("keys"), format!("{} has no field `{there}`", to.name))),
                (Some(a), Some(b)) if (a.kind, a.scale) != (b.kind, b.scale) => {
                    found.push(Finding::new(
                        this,
                        at("keys"),
                        format!("`{here}` is a {:?} and `{there}` a {:?}", a.kind, b.kind),
                    ));
                }
                _ => {}
            }
        }
        let reached: Vec<&str> = link.keys.values().map(|k| &**k).collect();
        if !to.key.iter().all(|k| reached.contains(&&**k)) || reached.len() != to.key.len() {
            found.push(Finding::new(
                this,
                at("keys"),
                format!("a link must name the whole key of {} ({})", to.name, join(&to.key)),
            ));
        }
    }
}

/// The text of a limit that cannot be read.
fn not_a_share(limit: &IntOrString) -> Option<String> {
    match limit {
        IntOrString::Int(n) => (*n < 0).then(|| n.to_string()),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
            percent.is_none_or(|percent| !(0.0..=100.0).contains(&percent)).then(|| text.clone())
        }
    }
}

fn join(names: &[crate::api::name::Word]) -> String {
    names.iter().map(|n| &**n).collect::<Vec<_>>().join(", ")
}

//! A persona's values as the template reads them: typed as the fields are.
//!
//! `customer.first_name` stands under `customer` where the person is the item's customer, or under `booking.customer`: both
//! spellings are the same field.

use jiff::tz::TimeZone;
use serde_json::Value as Json;

use crate::{
    api::{
        dataset::{DatasetSpec, Entity, Field, FieldKind},
        medium::Medium,
        template::{PERSONA_BYTES_MAX, Persona},
    },
    ingest::cell,
    plan::{
        Bundle, Finding, Plan, Ref,
        activity::Enriched,
        message::{Element, Held, MessagePlan},
    },
    rule::{FieldType, Path, nearest},
    send::{address, said::Said, template},
    store::{merge::decimal_text, rows::Value},
};

/// What is said to a persona.
///
/// # Errors
/// Which value does not fit its field, in words.
pub fn said(bundle: &Bundle, message: &MessagePlan, persona: &Persona, locale: Option<&str>) -> Result<Said, String> {
    let finder = Finder { bundle, message, persona };
    let mut fields = vec![];
    for column in &message.reads {
        fields.push(template::value(&finder.field(&column.path)?));
    }
    for extra in &message.extras {
        let found = finder.at(&extra.name).cloned().unwrap_or_default();
        fields.push(template::value(&match &extra.held {
            Held::Value(ty) => typed(&found, &of_type(*ty)).map_err(|why| finder.wrong(&extra.name, why))?,
            Held::List(elements) => finder.list(found, &extra.name, elements)?,
            Held::Row(_, elements) => finder.row(found, &extra.name, elements)?,
        }));
    }
    let text = |path: &Path| finder.field(path).map(|value| value.as_str().map(str::to_owned));
    let own_locale = match (&persona.locale, &message.locale) {
        (Some(own), _) => Some(own.clone()),
        (None, Some(path)) => text(path)?,
        (None, None) => None,
    };
    let own = message.to.as_ref().map(text).transpose()?.flatten();
    let own = own.map(|to| address::plain(message.medium, &to).into_owned());
    let to = own.unwrap_or_else(|| match message.medium {
        Medium::Email => format!("{}@persona.invalid", persona.name),
        other => address::nobodys(other).to_owned(),
    });
    Ok(Said { to, locale: locale.map(str::to_owned).or(own_locale), fields, is_tracked: false })
}

/// The path of a value in a JSON object.
pub fn pointer(names: &[String]) -> String {
    names.iter().map(|name| format!("/{name}")).collect()
}

struct Finder<'a> {
    bundle: &'a Bundle,
    message: &'a MessagePlan,
    persona: &'a Persona,
}

impl Finder<'_> {
    fn wrong(&self, names: &[String], why: &str) -> String {
        format!("persona `{}`: `{}` is {why}", self.persona.name, names.join("."))
    }

    fn at(&self, names: &[String]) -> Option<&Json> {
        let (first, rest) = names.split_first()?;
        self.persona.values.get(first)?.0.pointer(&pointer(rest))
    }

    /// The names under which the end of a path may stand.
    fn spellings(&self, path: &Path) -> Vec<Vec<String>> {
        let under = |first: &str, hops: &[String]| {
            let field = path.field.clone().into_iter();
            std::iter::once(first.to_owned()).chain(hops.iter().cloned()).chain(field).collect()
        };
        let mut found = vec![under(&self.message.entity, &path.hops)];
        if let Some(rest) = path.hops.strip_prefix(self.message.recipient.hops.as_slice()) {
            found.push(under(&self.bundle.dataset.profile.entity, rest));
        }
        found
    }

    /// The value of a field, as a live send shows it.
    fn field(&self, path: &Path) -> Result<Json, String> {
        let Some(field) = field_at(&self.bundle.dataset, path) else { return Ok(Json::Null) };
        for names in self.spellings(path) {
            if let Some(json) = self.at(&names).filter(|json| !json.is_null()) {
                return typed(json, field).map_err(|why| self.wrong(&names, why));
            }
        }
        Ok(Json::Null)
    }

    fn list(&self, json: Json, name: &[String], elements: &[Element]) -> Result<Json, String> {
        match json {
            Json::Null => Ok(Json::Array(vec![])),
            Json::Array(rows) => {
                let rows = rows.into_iter().map(|row| self.row(row, name, elements));
                Ok(Json::Array(rows.collect::<Result<_, _>>()?))
            }
            _ => Err(self.wrong(name, "not a list of rows")),
        }
    }

    fn row(&self, mut json: Json, name: &[String], elements: &[Element]) -> Result<Json, String> {
        if !json.is_object() && !json.is_null() {
            return Err(self.wrong(name, "not a row"));
        }
        for element in elements {
            let Some(field) = field_at(&self.bundle.dataset, &element.path) else { continue };
            if let Some(at) = json.pointer_mut(&pointer(&element.names)) {
                let names: Vec<String> = name.iter().chain(&element.names).cloned().collect();
                *at = typed(at, field).map_err(|why| self.wrong(&names, why))?;
            }
        }
        Ok(json)
    }
}

fn field_at<'d>(dataset: &'d DatasetSpec, path: &Path) -> Option<&'d Field> {
    let name = path.field.as_deref()?;
    dataset.entity(&path.entity)?.fields.iter().find(|field| *field.name == *name)
}

/// A field for a value that no entity has.
fn of_type(ty: FieldType) -> Field {
    let (kind, scale) = match ty {
        FieldType::String => (FieldKind::String, None),
        FieldType::Integer => (FieldKind::Integer, None),
        FieldType::Decimal { scale } => (FieldKind::Decimal, Some(scale)),
        FieldType::Double => (FieldKind::Double, None),
        FieldType::Boolean => (FieldKind::Boolean, None),
        FieldType::Date => (FieldKind::Date, None),
        FieldType::Timestamp => (FieldKind::Timestamp, None),
    };
    Field { name: "value".into(), kind, precision: None, scale, required: false, reveal: false }
}

/// A value as a live send shows one of that field: times and decimals as text.
///
/// # Errors
/// What it is not, in words.
pub fn typed(json: &Json, field: &Field) -> Result<Json, &'static str> {
    let text = match (json, field.kind) {
        (Json::Null, _) => return Ok(Json::Null),
        (Json::Bool(_), FieldKind::Boolean) => return Ok(json.clone()),
        (Json::Number(number), FieldKind::Integer | FieldKind::Double | FieldKind::Decimal) => number.to_string(),
        (Json::String(text), FieldKind::String | FieldKind::Decimal | FieldKind::Date | FieldKind::Timestamp) => {
            text.clone()
        }
        (_, FieldKind::String) => return Err("not a text"),
        (_, FieldKind::Integer) => return Err("not an Integer"),
        (_, FieldKind::Double) => return Err("not a Double"),
        (_, FieldKind::Boolean) => return Err("not a Boolean"),
        (_, FieldKind::Decimal) => return Err("not a Decimal"),
        (_, FieldKind::Date) => return Err("not a Date"),
        (_, FieldKind::Timestamp) => return Err("not a Timestamp"),
    };
    of_text(&text, field)
}

/// A text that stands for a value of that field, likewise.
///
/// # Errors
/// What it is not, in words.
pub fn of_text(text: &str, field: &Field) -> Result<Json, &'static str> {
    Ok(match cell::parse(text.as_bytes(), field, &TimeZone::UTC)? {
        Value::Missing => Json::Null,
        Value::Text(text) => text.into(),
        Value::Integer(n) => n.into(),
        Value::Double(x) => x.into(),
        Value::Boolean(b) => b.into(),
        Value::Decimal(n) => decimal_text(n, field.scale.unwrap_or(0)).into(),
        Value::Date(date) => date.to_string().into(),
        Value::Timestamp(at) => at.to_string().into(),
    })
}

/// What is wrong with the personas of the templates that a campaign sends: a name that is no field, a value that does not
/// fit its field. What is right but not read by the template is no error, as another campaign may read it.
pub fn check(bundle: &Bundle, plan: &Plan) -> Vec<Finding> {
    let mut found = vec![];
    for (no, _, message) in plan.messages() {
        let step = usize::try_from(no).ok().and_then(|no| bundle.campaign.steps.get(no));
        let Some(name) = step.and_then(|step| step.activity.template()) else { continue };
        let Some(spec) = bundle.templates.get(name) else { continue };
        let enriched = plan.output(&message.input).map_or(&[][..], |output| &output.enriched);
        let checker = Checker { owner: Ref::new("MessageTemplate", name), bundle, message, enriched };
        for (index, persona) in spec.personas.iter().enumerate() {
            found.extend(checker.persona(index, persona));
        }
    }
    found
}

struct Checker<'a> {
    owner: Ref,
    bundle: &'a Bundle,
    message: &'a MessagePlan,
    enriched: &'a [Enriched],
}

impl Checker<'_> {
    fn persona(&self, index: usize, persona: &Persona) -> Vec<Finding> {
        let at = format!("spec.personas[{index}].values");
        let mut found = vec![];
        let bytes: usize = persona.values.values().map(|value| value.0.to_string().len()).sum();
        if bytes > PERSONA_BYTES_MAX {
            let message =
                format!("persona `{}` has {bytes} bytes, and at most {PERSONA_BYTES_MAX} are taken", persona.name);
            found.push(Finding::new(&self.owner, &at, message));
        }
        let dataset = &self.bundle.dataset;
        let profile = &*dataset.profile.entity;
        for (name, value) in &persona.values {
            let path = format!("{at}.{name}");
            if name == profile || *name == self.message.entity {
                if let Some(entity) = dataset.entity(name) {
                    self.row(entity, &value.0, &path, &mut found);
                }
            } else if !self.is_enriched(name) {
                let known =
                    [profile, &self.message.entity].into_iter().chain(self.enriched.iter().map(|e| e.name.as_str()));
                let near = nearest(name, known.clone());
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it knows {}", known.collect::<Vec<_>>().join(", ")),
                };
                found.push(Finding::new(&self.owner, path, format!("the template knows no `{name}`")).hint(hint));
            }
        }
        if found.is_empty() {
            // What is read of enriched values is typed by what reads it.
            let wrong = said(self.bundle, self.message, persona, None).err();
            found.extend(wrong.map(|message| Finding::new(&self.owner, at, message)));
        }
        found
    }

    /// `films`, or `films_1` where each row has a name of its own.
    fn is_enriched(&self, name: &str) -> bool {
        let is_numbered = |of: &str| {
            let number = name.strip_prefix(of).and_then(|rest| rest.strip_prefix('_'));
            number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        };
        self.enriched.iter().any(|enriched| enriched.name == name || is_numbered(&enriched.name))
    }

    fn row(&self, entity: &Entity, json: &Json, path: &str, found: &mut Vec<Finding>) {
        let Json::Object(values) = json else {
            let message = format!("this is a row of {}: write its fields, as in {{{}: …}}", entity.name, entity.key[0]);
            found.push(Finding::new(&self.owner, path, message));
            return;
        };
        for (name, value) in values {
            let path = format!("{path}.{name}");
            let field = entity.fields.iter().find(|field| *field.name == **name);
            let link = entity.links.iter().find(|link| *link.name == **name);
            match (field, link.and_then(|link| self.bundle.dataset.entity(&link.to))) {
                (Some(field), _) => {
                    if let Err(why) = typed(value, field) {
                        found.push(Finding::new(&self.owner, path, format!("`{name}` is {why}")));
                    }
                }
                (None, Some(to)) => self.row(to, value, &path, found),
                (None, None) => {
                    let known = entity.fields.iter().map(|f| &*f.name).chain(entity.links.iter().map(|l| &*l.name));
                    let mut finding =
                        Finding::new(&self.owner, path, format!("{} has no field or link `{name}`", entity.name));
                    finding.hint = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
                    found.push(finding);
                }
            }
        }
    }
}

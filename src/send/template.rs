//! Templates: Jinja text in parts and locales, the variables it reads, and the message it makes for one person.
//!
//! ```yaml
//! kind: MessageTemplate
//! spec:
//!   email:                                 # a section for each medium that campaigns use it for
//!     subject: "Your film {{ film.title }} was due on {{ rental.due | date }}"
//!     text: "Dear {{ customer.first_name | default('friend') }}, …"
//!   locales:
//!     it: {email: {subject: "…"}}          # it-CH reads it, too; the rest falls back
//! ```
//!
//! A missing value prints as nothing and `default(…)` applies to it: missing values reach minijinja as *undefined*,
//! because a null would print as `none`; [`value`] makes such values. What can be known beforehand is a problem of the
//! template, not of each message: an unknown filter, a wrong date format, a field that is named only at run time.

mod filters;
mod names;
mod reads;
mod sections;
mod words;

use std::{collections::BTreeMap, fmt, ops::Range};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use self::filters::Fault;
pub use self::words::Words;
use crate::{
    api::{medium::Medium, template::MessageTemplateSpec},
    send::mime::one_line,
};

/// A loop over a list of a thousand items with a dozen expressions stays far below; an endless one ends here. It bounds
/// memory as well: minijinja takes one unit for each instruction and for each 64 bytes made, so 64 MB at most.
const FUEL: u64 = 1_000_000;
/// Mail systems commonly refuse more than 10 MiB; a part near one is a mistake.
const PART_BYTES_MAX: usize = 1024 * 1024;
/// Of the template's own words in an error.
const EXCERPT_CHARS_MAX: usize = 60;

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProblem {
    /// The path of the part in the MessageTemplate: `spec.email.subject`.
    pub path: String,
    /// Bytes in that part.
    pub span: Range<usize>,
    /// Of the span's start in that part, from 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    pub hint: Option<String>,
}

/// A variable that a template reads, such as `["customer", "first_name"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub names: Vec<String>,
    /// The path of the part in the MessageTemplate.
    pub path: String,
    /// Bytes in that part.
    pub span: Range<usize>,
    /// If it is a list that is looped over: what is read of each element. Without names it is the element itself.
    pub elements: Vec<Read>,
}

/// Why a message cannot be rendered. It shows the template's words, never a person's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderError {
    /// Such as `subject`, or `values.name`.
    pub part: String,
    pub line: Option<usize>,
    pub message: String,
    /// The expression, as its author wrote it.
    pub excerpt: Option<String>,
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.part)?;
        if let Some(line) = self.line {
            write!(f, " in line {line}")?;
        }
        write!(f, ": {}", self.message)?;
        self.excerpt.iter().try_for_each(|excerpt| write!(f, " in `{excerpt}`"))
    }
}

impl std::error::Error for RenderError {}

impl From<RenderError> for String {
    fn from(error: RenderError) -> Self {
        error.to_string()
    }
}

/// One section of a template, which compiles.
pub struct Template {
    medium: Medium,
    environment: Environment<'static>,
    /// The parts that each locale has, and what the environment calls them; the empty locale is the base.
    parts: BTreeMap<String, BTreeMap<String, String>>,
    /// The names of the base's parts, as written.
    order: Vec<String>,
    reads: Vec<Read>,
}

/// One part of a section in one locale.
struct Source<'s> {
    locale: &'s str,
    part: String,
    /// In the manifest.
    path: String,
    text: &'s str,
}

impl Template {
    /// Whether a template says anything by a medium.
    pub fn has(spec: &MessageTemplateSpec, medium: Medium) -> bool {
        sections::of(spec, medium).iter().any(|source| source.locale.is_empty())
    }

    /// All that is wrong with a template, in the order of its sections and parts.
    pub fn check(spec: &MessageTemplateSpec) -> Vec<TemplateProblem> {
        sections::ALL.into_iter().filter_map(|medium| Self::compile(spec, medium).err()).flatten().collect()
    }

    /// Compiles all parts of a section in all locales.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of its parts.
    pub fn compile(spec: &MessageTemplateSpec, medium: Medium) -> Result<Self, Vec<TemplateProblem>> {
        let (parts, order, reads) = (BTreeMap::new(), vec![], vec![]);
        let mut template = Self { medium, environment: environment(medium), parts, order, reads };
        let mut problems = vec![];
        let mut keys = BTreeMap::new();
        for source in sections::of(spec, medium) {
            let key = normal(source.locale);
            let first = keys.entry(key.clone()).or_insert(source.locale);
            if *first != source.locale {
                problems.push(source.problem(
                    0..0,
                    format!("locale `{}` is `{first}` written otherwise", source.locale),
                    None,
                ));
                continue;
            }
            if key.is_empty() {
                template.order.push(source.part.clone());
            } else if sections::is_list(medium) && !template.order.contains(&source.part) {
                let message = format!("the template itself has no `{}`, which this is a variant of", source.part);
                problems.push(source.problem(0..0, message, None));
            }
            match reads::collect(&source, &template.environment) {
                Ok(reads) => template.reads.extend(reads),
                Err(found) => {
                    problems.extend(found);
                    continue;
                }
            }
            let name = format!("{key}/{}", source.part);
            match template.environment.add_template_owned(name.clone(), source.text.to_owned()) {
                Ok(()) => {
                    template.parts.entry(key).or_default().insert(source.part, name);
                }
                Err(error) => problems.push(source.syntax_problem(&error)),
            }
        }
        if problems.is_empty() { Ok(template) } else { Err(problems) }
    }

    /// Every variable that the template really reads, in all its parts and locales.
    pub fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// Renders for a locale; `it-CH` falls back to `it` and then to the base, part by part.
    ///
    /// # Errors
    /// What failed, without a personal value.
    pub fn render(&self, locale: Option<&str>, context: &Value) -> Result<Words, RenderError> {
        let locale = normal(locale.unwrap_or_default());
        sections::render(self.medium, &self.order, &|part| self.part(part, &locale, context))
    }

    /// The variant that a locale is written in, as it falls back; empty for the base.
    pub fn variant(&self, locale: Option<&str>) -> String {
        let mut locale = normal(locale.unwrap_or_default());
        while !locale.is_empty() && !self.parts.contains_key(&locale) {
            locale.truncate(locale.rfind('-').unwrap_or(0));
        }
        locale
    }

    fn part(&self, part: &str, locale: &str, context: &Value) -> Result<Option<String>, RenderError> {
        let mut locale = locale;
        let name = loop {
            match self.parts.get(locale).and_then(|parts| parts.get(part)) {
                Some(name) => break name,
                None if locale.is_empty() => return Ok(None),
                None => locale = locale.rfind('-').map_or("", |end| &locale[..end]),
            }
        };
        let fault = |message: &str| {
            let (part, message) = (part.to_owned(), message.to_owned());
            RenderError { part, line: None, message, excerpt: None }
        };
        let template = self.environment.get_template(name).map_err(|_| fault("the part is gone"))?;
        let rendered = template.render(context).map_err(|error| render_error(part, template.source(), &error))?;
        if rendered.len() > PART_BYTES_MAX {
            return Err(fault(&format!("it is longer than {PART_BYTES_MAX} bytes")));
        }
        Ok(Some(rendered))
    }
}

/// A template's value of JSON; nulls at every depth become missing values.
pub fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::UNDEFINED,
        serde_json::Value::Bool(is_true) => Value::from(*is_true),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => Value::from(signed),
            (None, Some(unsigned)) => Value::from(unsigned),
            (None, None) => number.as_f64().map_or(Value::UNDEFINED, Value::from),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(value).collect(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, field)| (name.as_str(), value(field))))
        }
    }
}

fn environment(medium: Medium) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    let is_html = move |name: &str| {
        if medium == Medium::Email && name.ends_with("/html") { AutoEscape::Html } else { AutoEscape::None }
    };
    environment.set_auto_escape_callback(is_html);
    // It prints all that the message knows about the person.
    environment.remove_global("debug");
    filters::add(&mut environment);
    environment
}

/// `it_CH` as `it-ch`: locales are written in many ways, and fall back from the right.
fn normal(locale: &str) -> String {
    locale.trim().replace('_', "-").to_ascii_lowercase()
}

fn render_error(part: &str, source: &str, error: &minijinja::Error) -> RenderError {
    // minijinja's own detail may quote a value; its kind and our filters' words do not.
    let fault = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Fault>());
    let message = match (fault, error.kind()) {
        (Some(fault), _) => fault.to_string(),
        (None, ErrorKind::OutOfFuel) => "it takes too long or makes too much".to_owned(),
        (None, kind) => kind.to_string(),
    };
    let excerpt = error.range().and_then(|range| source.get(range)).map(one_line).filter(|text| !text.is_empty());
    let excerpt = excerpt.map(|text| text.chars().take(EXCERPT_CHARS_MAX).collect());
    RenderError { part: part.to_owned(), line: error.line(), message, excerpt }
}

impl Source<'_> {
    fn problem(&self, span: Range<usize>, message: String, hint: Option<String>) -> TemplateProblem {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        TemplateProblem { path: self.path.clone(), span, line, column, message, hint }
    }

    fn syntax_problem(&self, error: &minijinja::Error) -> TemplateProblem {
        let span = error.range().unwrap_or_else(|| {
            let above = error.line().unwrap_or(1).saturating_sub(1);
            let start = self.text.split_inclusive('\n').take(above).map(str::len).sum();
            start..start
        });
        let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        self.problem(span, format!("this is not a template: {message}"), None)
    }
}

#[cfg(test)]
mod tests;

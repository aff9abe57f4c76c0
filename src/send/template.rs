//! Templates: Jinja text in parts and locales, the variables it reads, and the message it makes for one person.
//!
//! ```yaml
//! kind: MessageTemplate
//! spec:
//!   email:
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

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use self::filters::Fault;
use crate::{api::template::MessageTemplateSpec, send::mime::one_line};

/// A loop over a list of a thousand items with a dozen expressions stays far below; an endless one ends here. It bounds
/// memory as well: minijinja takes one unit for each instruction and for each 64 bytes made, so 64 MB at most.
const FUEL: u64 = 1_000_000;
/// Mail systems commonly refuse more than 10 MiB; a part near one is a mistake.
const PART_BYTES_MAX: usize = 1024 * 1024;
/// Of the template's own words in an error.
const EXCERPT_CHARS_MAX: usize = 60;
const PARTS: [&str; 3] = ["subject", "text", "html"];

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

/// A message's words for one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub subject: String,
    pub text: Option<String>,
    pub html: Option<String>,
}

/// Why a message cannot be rendered. It shows the template's words, never a person's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderError {
    /// `subject`, `text` or `html`.
    pub part: &'static str,
    pub line: Option<usize>,
    pub message: String,
    /// The expression, as its author wrote it.
    pub excerpt: Option<String>,
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.part)?;
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

/// A template that compiles.
pub struct Template {
    environment: Environment<'static>,
    /// The parts that each locale has; the empty locale is the base.
    parts: BTreeSet<(String, &'static str)>,
    reads: Vec<Read>,
}

/// One part in one locale.
struct Source<'s> {
    locale: &'s str,
    part: &'static str,
    /// In the manifest.
    path: String,
    text: &'s str,
}

impl Template {
    /// Compiles all parts of all locales.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of its parts.
    pub fn compile(spec: &MessageTemplateSpec) -> Result<Self, Vec<TemplateProblem>> {
        let mut template = Self { environment: environment(), parts: BTreeSet::new(), reads: vec![] };
        let mut problems = vec![];
        let mut keys = BTreeMap::new();
        for source in sources(spec) {
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
            match reads::collect(&source, &template.environment) {
                Ok(reads) => template.reads.extend(reads),
                Err(found) => {
                    problems.extend(found);
                    continue;
                }
            }
            let added =
                template.environment.add_template_owned(format!("{key}/{}", source.part), source.text.to_owned());
            match added {
                Ok(()) => {
                    template.parts.insert((key, source.part));
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
    pub fn render(&self, locale: Option<&str>, context: &Value) -> Result<Rendered, RenderError> {
        let subject = self.part("subject", locale, context)?.unwrap_or_default();
        // A line break in a subject would begin another header.
        let subject = one_line(&subject);
        Ok(Rendered { subject, text: self.part("text", locale, context)?, html: self.part("html", locale, context)? })
    }

    /// The variant that a locale is written in, as it falls back; empty for the base.
    pub fn variant(&self, locale: Option<&str>) -> String {
        let mut locale = normal(locale.unwrap_or_default());
        while !locale.is_empty() && !self.parts.iter().any(|(known, _)| *known == locale) {
            locale.truncate(locale.rfind('-').unwrap_or(0));
        }
        locale
    }

    fn part(&self, part: &'static str, locale: Option<&str>, context: &Value) -> Result<Option<String>, RenderError> {
        let mut locale = normal(locale.unwrap_or_default());
        while !self.parts.contains(&(locale.clone(), part)) {
            if locale.is_empty() {
                return Ok(None);
            }
            locale.truncate(locale.rfind('-').unwrap_or(0));
        }
        let fault = |message: &str| RenderError { part, line: None, message: message.to_owned(), excerpt: None };
        let template =
            self.environment.get_template(&format!("{locale}/{part}")).map_err(|_| fault("the part is gone"))?;
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

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    let is_html = |name: &str| if name.ends_with("/html") { AutoEscape::Html } else { AutoEscape::None };
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

fn render_error(part: &'static str, source: &str, error: &minijinja::Error) -> RenderError {
    // minijinja's own detail may quote a value; its kind and our filters' words do not.
    let fault = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Fault>());
    let message = match (fault, error.kind()) {
        (Some(fault), _) => fault.to_string(),
        (None, ErrorKind::OutOfFuel) => "it takes too long or makes too much".to_owned(),
        (None, kind) => kind.to_string(),
    };
    let excerpt = error.range().and_then(|range| source.get(range)).map(one_line).filter(|text| !text.is_empty());
    let excerpt = excerpt.map(|text| text.chars().take(EXCERPT_CHARS_MAX).collect());
    RenderError { part, line: error.line(), message, excerpt }
}

/// Each part with its locale, its path in the manifest and its text.
fn sources(spec: &MessageTemplateSpec) -> Vec<Source<'_>> {
    let mut found = vec![];
    let email = &spec.email;
    let base = [Some(&email.subject), email.text.as_ref(), email.html.as_ref()];
    let variants = spec.locales.iter().map(|(locale, variant)| {
        let email = &variant.email;
        let parts = [email.subject.as_ref(), email.text.as_ref(), email.html.as_ref()];
        (locale.as_str(), format!("spec.locales.{locale}."), parts)
    });
    for (locale, prefix, parts) in std::iter::once(("", "spec.".to_owned(), base)).chain(variants) {
        for (part, text) in PARTS.into_iter().zip(parts) {
            found.extend(text.map(|text| Source { locale, part, path: format!("{prefix}email.{part}"), text }));
        }
    }
    found
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

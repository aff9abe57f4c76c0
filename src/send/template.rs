//! Templates: Jinja text in parts and locales, the variables it reads, and the message it makes for one person.
//!
//! ```yaml
//! kind: MessageTemplate
//! spec:
//!   email:
//!     subject: "Your film {{ film.title }} was due on {{ rental.due | date }}"
//!     text: "Dear {{ customer.first_name | default('friend') }}, … {% include 'parts/footer' %}"
//!   locales:
//!     it: {email: {subject: "…"}}          # it-CH reads it, too; the rest falls back
//! ```
//!
//! A missing value prints as nothing and `default(…)` applies to it: missing values reach minijinja as *undefined*,
//! because a null would print as `none`; [`value`] makes such values. What can be known beforehand is a problem of the
//! template, not of each message: an unknown filter, a wrong date format, a field that is named only at run time.
//!
//! Everything that does not depend on the person is done once, in [`Template::compile`]: what falls back to what, fragments,
//! MJML, the plain text of HTML that has none. Parts that come to the same words in several locales are compiled once.
//!
//! | file | what |
//! | --- | --- |
//! | `compile` | from parts to texts, locale by locale |
//! | `sections` | the parts of each medium, and what is made of them |
//! | `shelf` | what stands in a template, and where |
//! | `attached` | what travels with an email, and whether its HTML shows it |
//! | `compose` | a part with the fragments that it includes |
//! | `reads`, `names` | what a part reads |
//! | `veil`, `mjml`, `plain` | MJML and HTML with Jinja's tags out of the way |
//! | `words` | a message's words for one person |

mod attached;
mod compile;
mod compose;
mod filters;
mod mjml;
mod names;
mod plain;
mod reads;
mod sections;
mod shelf;
mod tags;
mod veil;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

pub use self::{attached::with_ids, compile::Include, words::Words};
use self::{
    compile::Compiler,
    filters::Fault,
    sections::HTML,
    shelf::{Form, Shelf, normal},
};
use crate::{
    api::{
        medium::Medium,
        template::{Attachment, MessageTemplateSpec},
    },
    send::{enclosure::travels, mime::one_line},
};

/// A loop over a list of a thousand items with a dozen expressions stays far below; an endless one ends here. It bounds
/// memory as well: minijinja takes one unit for each instruction and for each 64 bytes made, so 64 MB at most.
const FUEL: u64 = 1_000_000;
/// Mail systems commonly refuse more than 10 MiB; a part near one is a mistake.
const PART_BYTES_MAX: usize = 1024 * 1024;
/// Of the template's own words in an error.
const EXCERPT_CHARS_MAX: usize = 60;
const PREHEADER: &str = "preheader";
const TEXT: &str = "text";
/// Hidden in front of the words, and followed by what no mail program shows, so that they do not follow it there.
const PREHEADER_OPEN: &str = "<div style=\"display:none;font-size:1px;line-height:1px;max-height:0;max-width:0;\
    opacity:0;overflow:hidden;mso-hide:all\">";
const PREHEADER_CLOSE: &str = "</div>";
const PREHEADER_REST: &str = "&#847;&zwnj;&nbsp;";
const PREHEADER_RESTS: usize = 40;

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProblem {
    /// The MessageTemplate whose words they are: that of a fragment, if they are one's.
    pub owner: String,
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
    /// The MessageTemplate in which it stands: that of a fragment, if it stands in one.
    pub owner: String,
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
    /// Such as `subject`, or the name of a value.
    pub part: String,
    /// In the part, or in the fragment that it includes.
    pub line: Option<usize>,
    pub fragment: Option<String>,
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
        if let Some(fragment) = &self.fragment {
            write!(f, " of {fragment}")?;
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
    /// What each locale is written in, whether by its own words or by those that it falls back to. The empty one is the
    /// base.
    variants: BTreeMap<String, Variant>,
    /// The names of the base's parts, as written.
    order: Vec<String>,
    texts: Vec<Compiled>,
    reads: Vec<Read>,
    /// What travels with the message, by locale.
    attached: BTreeMap<String, Vec<Attachment>>,
}

/// The texts of one locale by part, as indices.
type Variant = BTreeMap<String, usize>;

/// A text that minijinja knows by its number.
struct Compiled {
    name: String,
    /// Where the author's words stand; empty for what is made of other words.
    path: String,
    /// The variables that it reads, whoever wrote them.
    names: BTreeSet<Vec<String>>,
    lines: Vec<Line>,
}

/// From a place in a text on, the line of the author's words in which it stands.
struct Line {
    at: usize,
    fragment: Option<String>,
    number: usize,
}

/// A body that does not say something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// In the MessageTemplate.
    pub path: String,
    /// `html in it`
    pub words: String,
}

impl Template {
    /// Whether a template says anything by a medium.
    pub fn has(spec: &MessageTemplateSpec, medium: Medium) -> bool {
        sections::of(("", spec), medium).iter().any(|slot| slot.locale.is_empty())
    }

    /// All that is wrong with a template, in the order of its sections and parts, and with its fragments.
    pub fn check(
        (name, spec): (&str, &MessageTemplateSpec),
        others: &BTreeMap<String, MessageTemplateSpec>,
    ) -> Vec<TemplateProblem> {
        let shelf = Shelf { name, spec, others };
        let mut found = vec![];
        for medium in sections::ALL {
            let mut compiler = Compiler::of(shelf, medium);
            compiler.compile();
            compiler.check_fragments();
            found.extend(compiler.problems.into_iter().filter(|problem| !found.contains(problem)).collect::<Vec<_>>());
        }
        found
    }

    /// Compiles all parts of a section of the template `name` in all locales; `others` are those whose fragments it may
    /// include.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of its parts.
    pub fn compile(
        (name, spec): (&str, &MessageTemplateSpec),
        others: &BTreeMap<String, MessageTemplateSpec>,
        medium: Medium,
    ) -> Result<Self, Vec<TemplateProblem>> {
        let mut compiler = Compiler::of(Shelf { name, spec, others }, medium);
        compiler.compile();
        let Compiler { template, problems, .. } = compiler;
        if problems.is_empty() { Ok(template) } else { Err(problems) }
    }

    /// Every variable that the template really reads, in all its parts and locales, and in the fragments that they include.
    pub fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// The bodies of an email that do not read a variable, in any locale.
    pub fn silent_about(&self, names: &[&str]) -> Vec<Silence> {
        let mut found: Vec<Silence> = vec![];
        for (locale, variant) in &self.variants {
            for (part, word) in [(TEXT, "text"), (HTML, "html")] {
                let Some(text) = variant.get(part).and_then(|index| self.texts.get(*index)) else { continue };
                let is_said = text.names.iter().any(|read| read.iter().eq(names));
                // What was made of a body says what that says.
                if is_said || text.path.is_empty() || found.iter().any(|silence| silence.path == text.path) {
                    continue;
                }
                let words = if locale.is_empty() { word.to_owned() } else { format!("{word} in {locale}") };
                found.push(Silence { path: text.path.clone(), words });
            }
        }
        found
    }

    /// What travels with the message in a locale.
    pub fn attached(&self, locale: Option<&str>) -> &[Attachment] {
        self.attached.get(&self.variant(locale)).map_or(&[], Vec::as_slice)
    }

    /// How long what travels with a message is at most, in bytes of mail.
    pub fn attached_bytes_max(&self) -> usize {
        let sizes = |all: &Vec<Attachment>| {
            all.iter().filter_map(|one| Some(travels(one.pinned.as_ref()?.size_bytes))).sum::<usize>()
        };
        self.attached.values().map(sizes).max().unwrap_or(0)
    }

    /// Renders for a locale; `it-CH` falls back to `it` and then to the base, part by part.
    ///
    /// # Errors
    /// What failed, without a personal value.
    pub fn render(&self, locale: Option<&str>, context: &Value) -> Result<Words, RenderError> {
        let variant = self.variants.get(&self.variant(locale));
        let part = |part: &str| {
            let index = variant.and_then(|variant| variant.get(part));
            index.map(|index| self.text(part, *index, context)).transpose()
        };
        sections::render(self.medium, &self.order, &part)
    }

    /// The variant that a locale is written in, as it falls back; empty for the base.
    pub fn variant(&self, locale: Option<&str>) -> String {
        let mut locale = normal(locale.unwrap_or_default());
        while !locale.is_empty() && !self.variants.contains_key(&locale) {
            locale.truncate(locale.rfind('-').unwrap_or(0));
        }
        locale
    }

    fn text(&self, part: &str, index: usize, context: &Value) -> Result<String, RenderError> {
        let fault = |message: &str| RenderError {
            part: part.to_owned(),
            line: None,
            fragment: None,
            message: message.to_owned(),
            excerpt: None,
        };
        let compiled = self.texts.get(index).ok_or_else(|| fault("the part is gone"))?;
        let template = self.environment.get_template(&compiled.name).map_err(|_| fault("the part is gone"))?;
        let rendered = template.render(context).map_err(|error| compiled.error(part, template.source(), &error))?;
        if rendered.len() > PART_BYTES_MAX {
            return Err(fault(&format!("it is longer than {PART_BYTES_MAX} bytes")));
        }
        Ok(rendered)
    }
}

impl Compiled {
    fn error(&self, part: &str, source: &str, error: &minijinja::Error) -> RenderError {
        // minijinja's own detail may quote a value; its kind and our filters' words do not.
        let fault = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Fault>());
        let message = match (fault, error.kind()) {
            (Some(fault), _) => fault.to_string(),
            (None, ErrorKind::OutOfFuel) => "it takes too long or makes too much".to_owned(),
            (None, kind) => kind.to_string(),
        };
        let at = error.range().map(|range| range.start);
        let line = at.and_then(|at| self.lines.iter().rev().find(|line| line.at <= at));
        let excerpt = error.range().and_then(|range| source.get(range)).map(one_line).filter(|text| !text.is_empty());
        let excerpt = excerpt.map(|text| text.chars().take(EXCERPT_CHARS_MAX).collect());
        RenderError {
            part: part.to_owned(),
            line: line.map(|line| line.number).or(error.line()),
            fragment: line.and_then(|line| line.fragment.clone()),
            message,
            excerpt,
        }
    }
}

/// The other templates whose fragments a template includes.
pub fn includes(name: &str, spec: &MessageTemplateSpec) -> Vec<Include> {
    compile::includes(&Shelf { name, spec, others: &BTreeMap::new() })
}

/// What a template writes in HTML or MJML, each with its path.
pub fn pages(name: &str, spec: &MessageTemplateSpec) -> Vec<(String, String)> {
    let others = BTreeMap::new();
    let all = compile::passages(&Shelf { name, spec, others: &others }).into_iter();
    all.filter(|passage| passage.form != Form::Text).map(|page| (page.path, page.text.to_owned())).collect()
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

/// What a text reads that is no MessageTemplate's: each variable, and where.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn reads_of(text: &str) -> Result<Vec<Read>, Vec<TemplateProblem>> {
    reads::collect(&compose::Composed::ours_alone(text), &environment())
}

pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    let is_html = |name: &str| if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None };
    environment.set_auto_escape_callback(is_html);
    // It prints all that the message knows about the person.
    environment.remove_global("debug");
    filters::add(&mut environment);
    environment
}

#[cfg(test)]
mod html_tests;
#[cfg(test)]
mod tests;

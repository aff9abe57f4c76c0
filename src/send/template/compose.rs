//! A part's words with the fragments that it includes, and where each of them comes from.
//!
//! ```jinja
//! {% include "footer" %}             a fragment of the template in which it stands
//! {% include "shop-parts/footer" %}  one of another MessageTemplate
//! ```
//! Fragments are put in as text before anything is compiled: a message costs the same with them, MJML is whole when it
//! becomes HTML, and what they read is read by the template. A fragment sees the names of the place at which it stands;
//! what it sets stays its own.

use std::ops::Range;

use super::{
    Read, TemplateProblem,
    shelf::{Form, Passage, Shelf},
    tags::{self, Kind},
};
use crate::rule::nearest;

/// Of a part with all its fragments: nobody writes so much, and a few fragments that include each other twice make it.
const COMPOSED_BYTES_MAX: usize = 1024 * 1024;
/// They stand around the numbers of tags while others read the text. Printable, as mrml escapes what is not.
pub(super) const VEIL: [char; 2] = ['⧼', '⧽'];

/// A text made of the words of several places.
pub(super) struct Composed<'s> {
    pub text: String,
    passages: Vec<Passage<'s>>,
    pieces: Vec<Piece>,
}

struct Piece {
    /// Where it begins in the text.
    start: usize,
    passage: usize,
    /// In that passage; what is ours stands for the tag that it is made of.
    inside: Range<usize>,
    is_ours: bool,
}

impl<'s> Composed<'s> {
    /// # Errors
    /// What is included and cannot be.
    pub fn of(words: Passage<'s>, shelf: &Shelf<'s>, locale: &str) -> Result<Self, Vec<TemplateProblem>> {
        let mut composed = Self { text: String::with_capacity(words.text.len()), passages: vec![], pieces: vec![] };
        let mut problems = vec![];
        composed.put(words, (shelf, locale), &mut vec![], &mut problems);
        if let Some(at) = composed.text.find(VEIL) {
            let message = "the signs ⧼ and ⧽ cannot stand in a template".to_owned();
            problems.push(composed.problem(at..at + VEIL[0].len_utf8(), message, None));
        }
        if problems.is_empty() { Ok(composed) } else { Err(problems) }
    }

    /// A text that no author wrote as it is.
    pub fn ours_alone(text: &'s str) -> Self {
        let passage = Passage { owner: "", path: String::new(), text, form: Form::Text };
        let pieces = vec![Piece { start: 0, passage: 0, inside: 0..text.len(), is_ours: false }];
        Self { text: text.to_owned(), passages: vec![passage], pieces }
    }

    fn put(
        &mut self,
        words: Passage<'s>,
        (shelf, locale): (&Shelf<'s>, &str),
        within: &mut Vec<String>,
        problems: &mut Vec<TemplateProblem>,
    ) {
        let (text, owner, form) = (words.text, words.owner, words.form);
        let index = self.passages.len();
        self.passages.push(words);
        let mut from = 0;
        for tag in tags::tags(text).into_iter().filter(|tag| tag.kind == Kind::Statement) {
            let said = tags::words(&text[tag.range.clone()]);
            let Some(name) = said.strip_prefix("include").filter(|rest| !rest.starts_with(is_of_name)) else {
                continue;
            };
            self.piece(index, from..tag.range.start);
            from = tag.range.end;
            let at = (index, tag.range.clone());
            let wrong = match named(name) {
                None => Err(("`include` names one fragment, in quotes".to_owned(), None)),
                Some(name) => self.include(name, (shelf, locale, form, owner), &at, within, problems),
            };
            if let Err((message, hint)) = wrong {
                problems.push(self.problem_in(index, tag.range, message, hint));
            }
        }
        self.piece(index, from..text.len());
    }

    fn include(
        &mut self,
        name: &str,
        (shelf, locale, form, owner): (&Shelf<'s>, &str, Form, &str),
        at: &(usize, Range<usize>),
        within: &mut Vec<String>,
        problems: &mut Vec<TemplateProblem>,
    ) -> Result<(), (String, Option<String>)> {
        let (template, fragment) = name.split_once('/').unwrap_or((owner, name));
        let whole = format!("{template}/{fragment}");
        if let Some(first) = within.iter().position(|known| *known == whole) {
            let circle: Vec<&str> = within[first..].iter().map(String::as_str).chain([whole.as_str()]).collect();
            return Err((format!("fragments include each other in a circle: {}", circle.join(" -> ")), None));
        }
        if self.text.len() > COMPOSED_BYTES_MAX {
            return Err((format!("with its fragments it is longer than {COMPOSED_BYTES_MAX} bytes"), None));
        }
        let words = shelf
            .fragment((template, fragment), locale, form)
            .map_err(|others| missing(shelf, (template, fragment), form, &others))?;
        let tag = &self.passages[at.0].text[at.1.clone()];
        let (is_tight, is_tight_behind) = (tag.starts_with("{%-"), tag.ends_with("-%}"));
        // It stands in a scope, so that its names end with it.
        self.ours(at, if is_tight { "{%- with %}" } else { "{% with %}" });
        within.push(whole);
        // As Jinja has it, the line break at the end of a text is none of its words.
        let text = words.text.strip_suffix('\n').unwrap_or(words.text);
        self.put(Passage { text, ..words }, (shelf, locale), within, problems);
        within.pop();
        self.ours(at, if is_tight_behind { "{% endwith -%}" } else { "{% endwith %}" });
        Ok(())
    }

    fn piece(&mut self, passage: usize, inside: Range<usize>) {
        let start = self.text.len();
        self.text.push_str(&self.passages[passage].text[inside.clone()]);
        self.pieces.push(Piece { start, passage, inside, is_ours: false });
    }

    fn ours(&mut self, (passage, inside): &(usize, Range<usize>), text: &str) {
        self.pieces.push(Piece { start: self.text.len(), passage: *passage, inside: inside.clone(), is_ours: true });
        self.text.push_str(text);
    }

    /// Whose words stand at a place of the text, and where in them.
    fn place(&self, span: Range<usize>) -> (usize, Range<usize>) {
        let index = self.pieces.partition_point(|piece| piece.start <= span.start).saturating_sub(1);
        let Some(piece) = self.pieces.get(index) else { return (0, 0..0) };
        if piece.is_ours {
            return (piece.passage, piece.inside.clone());
        }
        let start = (piece.inside.start + span.start - piece.start).min(piece.inside.end);
        // What reaches over the end of a piece is shown up to there.
        (piece.passage, start..(start + span.len()).min(piece.inside.end))
    }

    /// The fragment in which a place of the text stands, if it stands in one, and the line in it.
    pub fn line_of(&self, at: usize) -> (Option<String>, usize) {
        let (index, inside) = self.place(at..at);
        let passage = &self.passages[index];
        let line = passage.text.get(..inside.start).unwrap_or_default().matches('\n').count() + 1;
        let fragment =
            (index > 0).then(|| format!("{} of {}", passage.path.trim_start_matches("spec."), passage.owner));
        (fragment, line)
    }

    pub fn path(&self) -> &str {
        &self.passages[0].path
    }

    pub fn form(&self) -> Form {
        self.passages[0].form
    }

    pub fn problem(&self, span: Range<usize>, message: String, hint: Option<String>) -> TemplateProblem {
        let (words, inside) = self.place(span);
        self.problem_in(words, inside, message, hint)
    }

    fn problem_in(&self, words: usize, span: Range<usize>, message: String, hint: Option<String>) -> TemplateProblem {
        self.passages[words].problem(span, message, hint)
    }

    pub fn syntax_problem(&self, error: &minijinja::Error) -> TemplateProblem {
        let span = error.range().unwrap_or_else(|| {
            let above = error.line().unwrap_or(1).saturating_sub(1);
            let start = self.text.split_inclusive('\n').take(above).map(str::len).sum();
            start..start
        });
        let index = self.pieces.partition_point(|piece| piece.start <= span.start).saturating_sub(1);
        if self.pieces.get(index).is_some_and(|piece| piece.is_ours) {
            let message = "the fragment does not end what it begins, or ends what it did not begin".to_owned();
            return self.problem(span, message, None);
        }
        let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        self.problem(span, format!("this is not a template: {message}"), None)
    }

    pub fn read(&self, names: Vec<String>, span: Range<usize>) -> Read {
        let (words, span) = self.place(span);
        let Passage { owner, path, .. } = &self.passages[words];
        Read { names, owner: (*owner).to_owned(), path: path.clone(), span, elements: vec![] }
    }
}

impl Passage<'_> {
    pub fn problem(&self, span: Range<usize>, message: String, hint: Option<String>) -> TemplateProblem {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let owner = self.owner.to_owned();
        TemplateProblem { owner, path: self.path.clone(), span, line, column, message, hint }
    }
}

/// The templates whose fragments some words name.
pub(super) fn names_others(text: &str) -> impl Iterator<Item = (&str, Range<usize>)> {
    let statements = tags::tags(text).into_iter().filter(|tag| tag.kind == Kind::Statement);
    statements.filter_map(|tag| {
        let name = named(tags::words(&text[tag.range.clone()]).strip_prefix("include")?)?;
        Some((name.split_once('/')?.0, tag.range))
    })
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name in `"footer"`.
fn named(quoted: &str) -> Option<&str> {
    let quoted = quoted.trim();
    let quote = quoted.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let name = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    is_name.then_some(name)
}

fn missing(
    shelf: &Shelf<'_>,
    (template, fragment): (&str, &str),
    form: Form,
    others: &[Form],
) -> (String, Option<String>) {
    if let Some(other) = others.first() {
        let (form, other) = (form.word(), other.word());
        let hint = format!("say `{form}` beside its `{other}`");
        return (format!("fragment `{fragment}` of `{template}` has no {form}"), Some(hint));
    }
    let Some((_, spec)) = shelf.template(template) else {
        return (format!("there is no MessageTemplate `{template}`"), None);
    };
    let known = spec.fragments.iter().map(|fragment| &*fragment.name);
    let hint = nearest(fragment, known).map(|near| format!("did you mean `{near}`?"));
    (format!("MessageTemplate `{template}` has no fragment `{fragment}`"), hint)
}

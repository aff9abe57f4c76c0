//! From the parts of a MessageTemplate to the texts that minijinja knows, locale by locale.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    Compiled, Line, PREHEADER, PREHEADER_CLOSE, PREHEADER_OPEN, PREHEADER_REST, PREHEADER_RESTS, TEXT, Template,
    TemplateProblem, Variant, attached,
    compose::{self, Composed},
    environment, mjml, plain, reads,
    sections::{self, HTML},
    shelf::{self, Form, Passage, Shelf, Slot, chain, normal},
    tags,
    veil::{Mark, Veiled},
};
use crate::api::medium::Medium;

/// What a part comes to, by what it is made of: parts that fall back to the same words are compiled once.
type Known = BTreeMap<(String, bool, String), usize>;

pub(super) struct Compiler<'s> {
    shelf: Shelf<'s>,
    medium: Medium,
    /// By locale and part.
    slots: BTreeMap<(String, String), Slot<'s>>,
    known: Known,
    pub template: Template,
    pub problems: Vec<TemplateProblem>,
}

/// A text on its way to minijinja.
struct Draft {
    path: String,
    text: String,
    /// What its author wrote, before MJML became HTML.
    names: BTreeSet<Vec<String>>,
    lines: Vec<Line>,
}

impl<'s> Compiler<'s> {
    pub fn of(shelf: Shelf<'s>, medium: Medium) -> Self {
        let (order, variants, texts, reads) = (vec![], BTreeMap::new(), vec![], vec![]);
        let attached = BTreeMap::new();
        let template = Template { medium, environment: environment(), order, variants, texts, reads, attached };
        Self { shelf, medium, slots: BTreeMap::new(), known: Known::new(), template, problems: vec![] }
    }

    /// Compiles all parts of the section in all locales.
    pub fn compile(&mut self) {
        self.problems = shelf::lost(&self.shelf);
        if !self.problems.is_empty() {
            return;
        }
        let mut parts = self.take_slots();
        // It has no place of its own in a message.
        parts.retain(|part| self.medium != Medium::Email || *part != PREHEADER);
        for locale in self.locales() {
            let mut variant = Variant::new();
            for part in &parts {
                self.part(part, &locale, &mut variant);
            }
            self.attach(&locale, variant.contains_key(HTML));
            self.template.variants.insert(locale, variant);
        }
    }

    fn attach(&mut self, locale: &str, has_html: bool) {
        if self.medium != Medium::Email || self.slots.is_empty() {
            return;
        }
        let attached = attached::of(&self.shelf, locale);
        // What is wrong with its HTML is said there.
        if self.problems.is_empty() {
            self.problems = attached::check(self.shelf.name, &attached, has_html);
        }
        let attached = attached.into_iter().map(|(_, attachment)| attachment.clone()).collect();
        self.template.attached.insert(locale.to_owned(), attached);
    }

    /// The names of all parts, in the order in which they are declared; what is wrong with where they stand is said here.
    fn take_slots(&mut self) -> Vec<String> {
        let (mut tags, mut parts) = (BTreeMap::new(), vec![]);
        for slot in sections::of((self.shelf.name, self.shelf.spec), self.medium) {
            let locale = normal(slot.locale);
            let first = *tags.entry(locale.clone()).or_insert(slot.locale);
            if first != slot.locale {
                let message = format!("locale `{}` is `{first}` written otherwise", slot.locale);
                let problem = slot.passage.problem(0..0, message, None);
                self.add_problem(problem);
                continue;
            }
            if locale.is_empty() {
                self.template.order.push(slot.part.clone());
            } else if sections::is_of_list(self.medium, &slot.part) && !self.template.order.contains(&slot.part) {
                let message = format!("the template itself has no `{}`, which this is a variant of", slot.part);
                let problem = slot.passage.problem(0..0, message, None);
                self.add_problem(problem);
            }
            if !parts.contains(&slot.part) {
                parts.push(slot.part.clone());
            }
            self.slots.insert((locale, slot.part.clone()), slot);
        }
        parts
    }

    /// The base, the template's own locales, and those in which a fragment that it may include is written otherwise.
    fn locales(&self) -> BTreeSet<String> {
        let own = self.slots.keys().map(|(locale, _)| locale.clone());
        let mut found: BTreeSet<String> = own.chain([String::new()]).collect();
        if self.medium == Medium::Email {
            found.extend(attached::locales(&self.shelf));
        }
        let mut seen = BTreeSet::from([self.shelf.name]);
        let mut next = vec![self.shelf.name];
        while let Some(name) = next.pop() {
            let Some((_, spec)) = self.shelf.template(name) else { continue };
            let variants = spec.locales.iter().filter(|(_, variant)| !variant.fragments.is_empty());
            found.extend(variants.map(|(tag, _)| normal(tag)));
            for other in
                includes(&Shelf { name, spec, others: self.shelf.others }).into_iter().map(|include| include.template)
            {
                if let Some((other, _)) = self.shelf.template(&other)
                    && seen.insert(other)
                {
                    next.push(other);
                }
            }
        }
        found
    }

    fn passage(&self, part: &str, locale: &str) -> Option<Passage<'s>> {
        let mut levels = chain(locale);
        let slot = levels.find_map(|level| self.slots.get(&(level.to_owned(), part.to_owned())))?;
        Some(slot.passage.clone())
    }

    fn part(&mut self, part: &str, locale: &str, variant: &mut Variant) {
        let Some(composed) = self.composed(part, locale) else { return };
        if composed.form() == Form::Text {
            let lines =
                lines(&composed, tags::tags(&composed.text).iter().map(|tag| (tag.range.start, tag.range.start)));
            if let Some(names) = self.read(&composed) {
                let draft = Draft { path: composed.path().to_owned(), text: composed.text, names, lines };
                self.add(part, false, draft, variant);
            }
            return;
        }
        let Some(names) = self.read(&composed) else { return };
        for problem in attached::check_html(&composed, &attached::of(&self.shelf, locale)) {
            self.add_problem(problem);
        }
        let made = match composed.form() {
            Form::Mjml => mjml::html_of(&composed),
            _ => {
                let veiled = Veiled::of(&composed);
                let html = veiled.text.clone();
                Ok((veiled, html))
            }
        };
        let (veiled, html) = match made {
            Ok(made) => made,
            Err(problem) => return self.add_problem(problem),
        };
        if self.passage(TEXT, locale).is_none() {
            self.text_of(&composed, (&veiled, &html), &names, variant);
        }
        let (text, marks) = veiled.lifted(&html, &composed.text);
        let lines = lines(&composed, marks.iter().map(|Mark { at, was }| (*at, *was)));
        let mut draft = Draft { path: composed.path().to_owned(), text, names, lines };
        if let Some(preheader) = self.composed(PREHEADER, locale)
            && let Some(names) = self.read(&preheader)
        {
            draft.precede(&preheader, names);
        }
        self.add(part, true, draft, variant);
    }

    /// The plain text of an HTML part that has none beside it.
    fn text_of(
        &mut self,
        composed: &Composed<'_>,
        (veiled, html): (&Veiled, &str),
        names: &BTreeSet<Vec<String>>,
        variant: &mut Variant,
    ) {
        let unmade = |why: String| composed.problem(0..0, why, Some("write `text` beside it".to_owned()));
        let text = match plain::text_of(html, veiled) {
            Ok(text) => text,
            Err(why) => return self.add_problem(unmade(why)),
        };
        let (text, marks) = veiled.lifted(&text, &composed.text);
        // What HTML hides may have named what the rest reads, or opened what the rest closes.
        let read = reads::names(&text, &self.template.environment);
        if !read.is_some_and(|read| read.is_subset(names)) {
            let why = "no plain text can be made of it: a tag stands where nothing is read".to_owned();
            return self.add_problem(unmade(why));
        }
        let lines = lines(composed, marks.iter().map(|Mark { at, was }| (*at, *was)));
        self.add(TEXT, false, Draft { path: String::new(), text, names: names.clone(), lines }, variant);
    }

    fn composed(&mut self, part: &str, locale: &str) -> Option<Composed<'s>> {
        let passage = self.passage(part, locale)?;
        match Composed::of(passage, &self.shelf, locale) {
            Ok(composed) => Some(composed),
            Err(found) => {
                found.into_iter().for_each(|problem| self.add_problem(problem));
                None
            }
        }
    }

    /// What a text reads.
    fn read(&mut self, composed: &Composed<'_>) -> Option<BTreeSet<Vec<String>>> {
        match reads::collect(composed, &self.template.environment) {
            Ok(found) => {
                let names = found.iter().map(|read| read.names.clone()).collect();
                let new: Vec<_> = found.into_iter().filter(|read| !self.template.reads.contains(read)).collect();
                self.template.reads.extend(new);
                Some(names)
            }
            Err(found) => {
                found.into_iter().for_each(|problem| self.add_problem(problem));
                None
            }
        }
    }

    fn add(&mut self, part: &str, is_html: bool, draft: Draft, variant: &mut Variant) {
        let Draft { path, text, names, lines } = draft;
        let key = (text, is_html, path);
        if let Some(index) = self.known.get(&key) {
            variant.insert(part.to_owned(), *index);
            return;
        }
        let index = self.template.texts.len();
        let name = format!("{index}.{}", if is_html { "html" } else { "txt" });
        if let Err(error) = self.template.environment.add_template_owned(name.clone(), key.0.clone()) {
            // Its words have been parsed: this is what MJML or the preheader made of them.
            let message = format!("Jinja's tags do not stand in order in the HTML of it: {}", error.kind());
            let problem = self.passage(part, "").map(|passage| passage.problem(0..0, message, None));
            problem.into_iter().for_each(|problem| self.add_problem(problem));
            return;
        }
        self.template.texts.push(Compiled { name, path: key.2.clone(), names, lines });
        self.known.insert(key, index);
        variant.insert(part.to_owned(), index);
    }

    /// Fragments that nothing here includes must be right all the same.
    pub fn check_fragments(&mut self) {
        if !shelf::lost(&self.shelf).is_empty() {
            return;
        }
        for fragment in shelf::fragments(&self.shelf) {
            let checked = Composed::of(fragment, &self.shelf, "");
            let found = checked.and_then(|composed| reads::collect(&composed, &self.template.environment));
            found.err().into_iter().flatten().for_each(|problem| self.add_problem(problem));
        }
    }

    /// The same words fall back into many locales, and are wrong once.
    fn add_problem(&mut self, problem: TemplateProblem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

impl Draft {
    /// Puts a preheader in front of what is seen of the HTML.
    fn precede(&mut self, preheader: &Composed<'_>, names: BTreeSet<Vec<String>>) {
        let at = body_of(&self.text);
        let front = format!("{PREHEADER_OPEN}{}", preheader.text);
        let all = format!("{front}{}{PREHEADER_CLOSE}", PREHEADER_REST.repeat(PREHEADER_RESTS));
        self.lines.iter_mut().filter(|line| line.at >= at).for_each(|line| line.at += all.len());
        self.text.insert_str(at, &all);
        let start = at + PREHEADER_OPEN.len();
        let places = tags::tags(&preheader.text);
        self.lines.extend(lines(preheader, places.iter().map(|tag| (start + tag.range.start, tag.range.start))));
        self.lines.sort_by_key(|line| line.at);
        self.names.extend(names);
    }
}

/// Behind the start of the body, or the start of all where there is none.
fn body_of(html: &str) -> usize {
    let is_body = |at: &usize| {
        let rest = &html[*at..];
        let next = rest.as_bytes().get(5);
        rest.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("<body"))
            && next.is_some_and(|c| !c.is_ascii_alphanumeric())
    };
    let starts = html.match_indices('<').map(|(at, _)| at);
    let Some(start) = starts.rev().find(is_body) else { return 0 };
    let all = tags::tags(&html[start..]);
    let (mut quote, mut hidden) = (None, all.iter().map(|tag| &tag.range).peekable());
    for (at, c) in html[start..].char_indices() {
        while hidden.next_if(|tag| tag.end <= at).is_some() {}
        match quote {
            _ if hidden.peek().is_some_and(|tag| tag.contains(&at)) => {}
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if c == '>' => return start + at + 1,
            None => {}
        }
    }
    0
}

/// The author's lines of some places, each with the place in the composed text that it comes from.
fn lines(composed: &Composed<'_>, places: impl Iterator<Item = (usize, usize)>) -> Vec<Line> {
    let line = |(at, was)| {
        let (fragment, number) = composed.line_of(was);
        Line { at, fragment, number }
    };
    places.map(line).collect()
}

/// Where a template names another one.
pub struct Include {
    pub template: String,
    pub path: String,
    pub span: Range<usize>,
}

/// The other templates whose fragments a template includes.
pub(super) fn includes(shelf: &Shelf<'_>) -> Vec<Include> {
    let all = passages(shelf).into_iter().flat_map(|passage| {
        let named = |(template, span): (&str, Range<usize>)| Include {
            template: template.to_owned(),
            path: passage.path.clone(),
            span,
        };
        compose::names_others(passage.text).map(named).collect::<Vec<_>>()
    });
    all.collect()
}

/// All that stands in a template: the parts of its sections, and its fragments.
pub(super) fn passages<'s>(shelf: &Shelf<'s>) -> Vec<Passage<'s>> {
    let sections = sections::ALL.into_iter().flat_map(|medium| sections::of((shelf.name, shelf.spec), medium));
    sections.map(|slot| slot.passage).chain(shelf::fragments(shelf)).collect()
}

//! Audiences that others name: gathered with all that they build on.

use std::{collections::BTreeMap, ops::Range};

use crate::{
    api::{
        AudienceSpec,
        audience::{Form, Member},
    },
    plan::{CIRCLE, Finding, Library, MISSING_REFERENCE, Ref, missing_reference},
    rule::{audiences_in, circle},
};

/// Specs by name.
pub type Specs = BTreeMap<String, AudienceSpec>;

/// A place that names an audience.
pub struct Mention {
    pub audience: String,
    pub object: Ref,
    pub path: String,
    pub span: Option<Range<usize>>,
}

/// What the rule at a path asks about.
pub fn mentions_in(rule: &str, object: &Ref, path: &str) -> Vec<Mention> {
    let found = audiences_in(rule).into_iter();
    let mention =
        |(audience, span)| Mention { audience, object: object.clone(), path: path.to_owned(), span: Some(span) };
    found.map(mention).collect()
}

/// What an audience itself builds on.
pub(super) fn mentions_of(name: &str, spec: &AudienceSpec) -> Vec<Mention> {
    let object = Ref::new("Audience", name);
    match spec.form() {
        Some(Form::Rule(rule)) => mentions_in(rule, &object, "spec.where"),
        Some(Form::Combined(combination, members)) => {
            let path = |index| format!("spec.{}[{index}].ref", combination.word());
            let mention = |(index, member): (usize, &Member)| Mention {
                audience: member.reference.to_string(),
                object: object.clone(),
                path: path(index),
                span: None,
            };
            members.iter().enumerate().map(mention).collect()
        }
        _ => vec![],
    }
}

/// Gathers audiences of one namespace and dataset (`of`), and all that they build on. What is missing is a finding, and a circle is one that shows it.
pub fn gather(mentions: &[Mention], of: (&str, &str), library: &dyn Library) -> (Specs, Vec<Finding>) {
    let mut gathering = Gathering { of, library, specs: Specs::new(), found: vec![], way: vec![] };
    mentions.iter().for_each(|mention| gathering.follow(mention));
    (gathering.specs, gathering.found)
}

/// An audience by itself, with all that it builds on, as far as that is there.
pub fn gather_one(name: &str, spec: &AudienceSpec, namespace: &str, library: &dyn Library) -> (Specs, Vec<Finding>) {
    let (of, way) = ((namespace, &*spec.dataset), vec![name.to_owned()]);
    let mut gathering = Gathering { of, library, specs: Specs::new(), found: vec![], way };
    mentions_of(name, spec).iter().for_each(|mention| gathering.follow(mention));
    gathering.specs.insert(name.to_owned(), spec.clone());
    (gathering.specs, gathering.found)
}

struct Gathering<'a> {
    /// Namespace and dataset.
    of: (&'a str, &'a str),
    library: &'a dyn Library,
    specs: Specs,
    found: Vec<Finding>,
    /// From the first audience to the one whose mentions are followed.
    way: Vec<String>,
}

impl Gathering<'_> {
    fn follow(&mut self, mention: &Mention) {
        let name = &mention.audience;
        let finding =
            |message| Finding { span: mention.span.clone(), ..Finding::new(&mention.object, &mention.path, message) };
        if let Some(start) = self.way.iter().position(|on_way| on_way == name) {
            let circle = circle(self.way[start..].iter().map(String::as_str));
            self.found.push(finding(format!("the audiences go in a circle: {circle}")).id(CIRCLE));
            return;
        }
        if self.specs.contains_key(name) {
            return;
        }
        let Some(spec) = self.library.audience(name) else {
            let reference = ("Audience", name.as_str());
            let lost = missing_reference(&mention.object, &mention.path, reference, self.of.0, self.library);
            self.found.push(Finding { span: mention.span.clone(), ..lost });
            return;
        };
        if *spec.dataset != *self.of.1 {
            let message = format!("audience `{name}` is of dataset `{}`, not `{}`", spec.dataset, self.of.1);
            self.found.push(finding(message).id(MISSING_REFERENCE));
            return;
        }
        self.specs.insert(name.clone(), spec.clone());
        self.way.push(name.clone());
        mentions_of(name, &spec).iter().for_each(|mention| self.follow(mention));
        self.way.pop();
    }
}

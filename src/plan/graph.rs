//! The graph of a campaign's steps: who reads whose output, and of which entity each set is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sea_query::SelectStatement;

use super::{
    Bundle, CIRCLE, Finding, Ref,
    activity::{self, Compiled, Output},
    audience::{self, Sets},
    message::MessagePlan,
};
use crate::{
    api::step::{self, Activity, Step as Declared},
    rule::{Dialect, FieldType, Inputs, Param, Path, Schema, nearest},
};

/// A campaign that can be run.
pub struct Plan {
    pub schema: Schema,
    pub dialect: Dialect,
    /// The audiences that the steps refer to, and those that these build on.
    pub sets: Sets,
    pub steps: Vec<Step>,
}

/// One compiled step.
pub struct Step {
    pub name: String,
    pub compiled: Compiled,
    /// The outputs whose rows it works on, in the order in which it names them.
    pub inputs: Vec<String>,
    /// The outputs that must be there before it: these, and what it counts.
    pub needs: BTreeSet<String>,
    /// What it gives to later steps; a channel step gives nothing.
    pub outputs: Vec<Output>,
}

impl Plan {
    /// The channel steps, numbered in the order of the steps.
    pub fn messages(&self) -> impl Iterator<Item = (i64, &str, &MessagePlan)> {
        self.steps.iter().zip(0_i64..).filter_map(|(step, no)| match &step.compiled {
            Compiled::Message(message) => Some((no, step.name.as_str(), message.as_ref())),
            _ => None,
        })
    }

    /// The channel step of that name, with its number.
    pub fn message_named(&self, step: &str) -> Option<(i64, &MessagePlan)> {
        self.messages().find(|(_, name, _)| *name == step).map(|(no, _, message)| (no, message))
    }

    /// The channel step of that number, with its name.
    pub fn message_numbered(&self, step_no: i64) -> Option<(&str, &MessagePlan)> {
        self.messages().find(|(no, _, _)| *no == step_no).map(|(_, name, message)| (name, message))
    }

    /// What SELECTs are made on, over those of earlier outputs.
    pub fn ground<'a>(
        &'a self,
        inputs: &'a Inputs,
        now: Timestamp,
        input: &'a dyn Fn(&str) -> SelectStatement,
    ) -> activity::Ground<'a> {
        activity::Ground { schema: &self.schema, dialect: self.dialect, sets: &self.sets, inputs, now, input }
    }

    /// The keys of every output, each as one SELECT over those before it, without work tables.
    pub fn chained(&self, inputs: &Inputs, now: Timestamp) -> BTreeMap<String, SelectStatement> {
        let mut sets = BTreeMap::<String, SelectStatement>::new();
        for step in &self.steps {
            let input = |name: &str| sets.get(name).cloned().unwrap_or_else(SelectStatement::new);
            let made = step.compiled.selects(&self.ground(inputs, now, &input)).outputs;
            let keys = step.outputs.iter().zip(made).filter_map(|(output, select)| {
                let entity = self.schema.entity(&output.entity)?;
                Some((output.name.clone(), activity::keys_of(entity, select)))
            });
            sets.extend(keys.collect::<Vec<_>>());
        }
        sets
    }

    /// The output of a name.
    pub fn output(&self, name: &str) -> Option<&Output> {
        self.steps.iter().flat_map(|step| &step.outputs).find(|output| output.name == name)
    }

    /// The channel steps that a step's rows can come to, and whether they are rows of the same entity there.
    pub fn messages_behind(&self, step: &Step) -> Vec<(i64, bool)> {
        let Some(own) = step.outputs.first() else { return vec![] };
        let mut reached: BTreeSet<&str> = BTreeSet::from([own.name.as_str()]);
        let mut found = vec![];
        for (later, no) in self.steps.iter().zip(0_i64..) {
            if !later.needs.iter().any(|need| reached.contains(need.as_str())) {
                continue;
            }
            reached.extend(later.outputs.iter().map(|output| output.name.as_str()));
            if let Compiled::Message(message) = &later.compiled {
                found.push((no, message.entity == own.entity));
            }
        }
        found
    }
}

pub(super) fn compile(bundle: &Bundle, dialect: Dialect) -> Result<Plan, Vec<Finding>> {
    let this = Ref::new("Campaign", &bundle.name);
    let schema = bundle.schema(dialect);
    let sets = audience::compile(&bundle.audiences, &bundle.campaign.dataset, &schema);
    let (sets, wrong) = match sets {
        Ok(sets) => (sets, vec![]),
        Err(found) => (Sets::default(), found),
    };
    let mut graph = Graph { outputs: BTreeMap::new(), read: BTreeSet::new(), found: wrong };
    graph.found.extend(check_order(&this, &bundle.campaign.steps));
    let mut steps = vec![];
    let is_ordered = |index: &usize| !reads_later(&bundle.campaign.steps, *index);
    for (index, declared) in bundle.campaign.steps.iter().enumerate().filter(|(index, _)| is_ordered(index)) {
        if let Some(step) = graph.step(&this, bundle, &schema, index, declared) {
            steps.push(step);
        }
    }
    if (0..bundle.campaign.steps.len()).all(|index| is_ordered(&index)) {
        graph.find_unread(&this, &bundle.campaign.steps, &steps);
    }
    let topic = &bundle.campaign.topic;
    if !bundle.dataset.topics.iter().any(|t| t.name == *topic) {
        let message = format!("dataset `{}` has no topic `{topic}`", bundle.campaign.dataset);
        let known = bundle.dataset.topics.iter().map(|t| &*t.name);
        graph.found.push(Finding::new(&this, "spec.topic", message).suggest(topic, known));
    }
    fetch_what_is_read(&mut steps);
    if graph.found.is_empty() { Ok(Plan { schema, dialect, sets, steps }) } else { Err(graph.found) }
}

/// Of a link's rows an `enrich` step keeps only the fields that some template reads.
fn fetch_what_is_read(steps: &mut [Step]) {
    let mut reads = BTreeMap::<String, Vec<(Path, FieldType)>>::new();
    for step in steps.iter_mut() {
        let Compiled::Message(message) = &mut step.compiled else { continue };
        for extra in &mut message.extras {
            let known = reads.entry(extra.output.clone()).or_default();
            for element in extra.elements_mut() {
                element.place = known.iter().position(|(path, _)| *path == element.path).unwrap_or(known.len());
                if element.place == known.len() {
                    known.push((element.path.clone(), element.ty));
                }
            }
        }
    }
    for step in steps {
        if let Compiled::Enrich(enrich) = &mut step.compiled {
            enrich.read(reads.remove(&step.name).unwrap_or_default());
        }
    }
}

/// A plan of one step, which gives an audience with values for its parameters.
pub(super) fn of_audience(
    bundle: &Bundle,
    (name, own): (&str, BTreeMap<String, Param>),
    dialect: Dialect,
) -> Result<Plan, Vec<Finding>> {
    let schema = bundle.schema(dialect);
    let sets = audience::compile(&bundle.audiences, &bundle.campaign.dataset, &schema)?;
    let entity = sets.get(name).map(|set| set.entity.clone()).unwrap_or_default();
    let (compiled, output) = activity::named_audience(name, &entity, own);
    let step = Step { name: name.to_owned(), compiled, inputs: vec![], needs: BTreeSet::new(), outputs: vec![output] };
    Ok(Plan { schema, dialect, sets, steps: vec![step] })
}

struct Graph {
    /// Every output so far.
    outputs: BTreeMap<String, Output>,
    read: BTreeSet<String>,
    found: Vec<Finding>,
}

/// A step reads only what stands before it; naming a later step or itself would be a circle or a mistake in order.
pub(super) fn check_order(this: &Ref, steps: &[Declared]) -> Vec<Finding> {
    let mut found = vec![];
    for (index, step) in steps.iter().enumerate() {
        for (path, name) in inputs_of(step) {
            let Some(other) = position(steps, name).filter(|other| *other >= index) else { continue };
            let at = format!("spec.steps[{index}].{path}");
            let finding = match reaches(steps, other, index) {
                Some(circle) => Finding::new(this, at, format!("the steps go in a circle: {circle}")).id(CIRCLE),
                None => {
                    let message =
                        format!("`{name}` comes after `{}`, and a step reads only what stands before it", step.name);
                    Finding::new(this, at, message)
                }
            };
            found.push(if other == index { finding } else { finding.hint("move the step up") });
        }
    }
    if steps.iter().all(|step| step.activity.message().is_none()) {
        found.push(Finding::new(this, "spec.steps", "no step sends anything").hint("add a step with `email`"));
    }
    found
}

/// The step that `step` or `step.branch` is an output of.
fn position(steps: &[Declared], name: &str) -> Option<usize> {
    let owner = name.split('.').next().unwrap_or(name);
    steps.iter().position(|step| *step.name == *owner)
}

/// Whether a step names itself or one behind it as an input.
fn reads_later(steps: &[Declared], index: usize) -> bool {
    inputs_of(&steps[index]).into_iter().any(|(_, name)| position(steps, name).is_some_and(|other| other >= index))
}

impl Graph {
    fn step(
        &mut self,
        this: &Ref,
        bundle: &Bundle,
        schema: &Schema,
        index: usize,
        declared: &Declared,
    ) -> Option<Step> {
        let before = self.found.len();
        let wants = inputs_of(declared);
        let mut resolved = vec![];
        for (path, name) in &wants {
            resolved.extend(self.resolve(this, &bundle.campaign.steps, index, path, name));
        }
        let takes_input = !matches!(
            declared.activity,
            Activity::Audience(_)
                | Activity::Unconfirmed(_)
                | Activity::Union(_)
                | Activity::Intersect(_)
                | Activity::Subtract(_)
                | Activity::Join(_)
        );
        if takes_input && declared.from.is_none() {
            resolved.extend(self.step_before(this, &bundle.campaign.steps, index));
        }
        if !takes_input && declared.from.is_some() {
            let message = format!("`{}` takes no `from`", declared.activity.word());
            self.found.push(Finding::new(this, format!("spec.steps[{index}].from"), message));
        }
        // What it builds on is wrong itself, and that is said there.
        if self.found.len() > before || resolved.len() < wants.len() || (takes_input && resolved.is_empty()) {
            return None;
        }
        let earlier = &self.outputs;
        let place = activity::Place { this, bundle, schema, index, step: &declared.name, inputs: &resolved, earlier };
        match activity::compile(&declared.activity, &place) {
            Ok((compiled, mut outputs)) => {
                let inputs: Vec<String> = resolved.iter().map(|input| input.name.clone()).collect();
                let mut needs: BTreeSet<String> = inputs.iter().cloned().collect();
                if let Compiled::Choose(choose) = &compiled {
                    needs.extend(choose.counted.values().cloned());
                }
                let at = |path: &str| format!("spec.steps[{index}]{path}");
                for output in &mut outputs {
                    if let Err(name) = carry(output, &resolved) {
                        let message = format!("two of its inputs have a `{name}`, each another");
                        let hint = "add it after they are combined, or call one of them otherwise";
                        self.found.push(Finding::new(this, at(""), message).hint(hint));
                    }
                    if self.outputs.insert(output.name.clone(), output.clone()).is_some() {
                        let message = format!("there are two outputs `{}`", output.name);
                        self.found.push(Finding::new(this, at(&output.path), message));
                    }
                }
                Some(Step { name: declared.name.to_string(), compiled, inputs, needs, outputs })
            }
            Err(found) => {
                self.found.extend(found);
                // Later steps are still checked, as far as they do not build on this one.
                None
            }
        }
    }

    /// The output that `name` stands for, with its entity.
    fn resolve(&mut self, this: &Ref, steps: &[Declared], index: usize, path: &str, name: &str) -> Option<Output> {
        // Whatever becomes of this step, it was meant to read it.
        self.read.insert(name.to_owned());
        if let Some(output) = self.outputs.get(name) {
            return Some(output.clone());
        }
        let at = format!("spec.steps[{index}].{path}");
        let branches: Vec<&str> =
            self.outputs.keys().filter(|o| o.starts_with(&format!("{name}."))).map(String::as_str).collect();
        let finding = match steps.iter().find(|s| *s.name == *name) {
            Some(_) if !branches.is_empty() => {
                let hint = format!("name one of {}", branches.join(", "));
                self.read.extend(branches.into_iter().map(str::to_owned).collect::<Vec<_>>());
                Finding::new(this, at, format!("`{name}` has several outputs")).hint(hint)
            }
            Some(s) if s.activity.message().is_some() => {
                Finding::new(this, at, format!("`{name}` sends messages and has no output to read"))
            }
            // The step is wrong itself, and that is said there.
            Some(_) => return None,
            None => {
                let known = || self.outputs.keys().map(String::as_str);
                // What it was most likely meant to read is not unread.
                self.read.extend(nearest(name, known()).map(str::to_owned));
                Finding::new(this, at, format!("there is no step or branch `{name}`")).suggest(name, known())
            }
        };
        self.found.push(finding);
        None
    }

    fn step_before(&mut self, this: &Ref, steps: &[Declared], index: usize) -> Option<Output> {
        let Some(before) = index.checked_sub(1).and_then(|i| steps.get(i)) else {
            let message = format!("`{}` has no step before it to read", steps[index].name);
            self.found.push(
                Finding::new(this, format!("spec.steps[{index}]"), message).hint("begin with an `audience` step"),
            );
            return None;
        };
        let name = before.name.to_string();
        self.resolve(this, steps, index, "name", &name)
    }

    fn find_unread(&mut self, this: &Ref, all: &[Declared], steps: &[Step]) {
        // A step that is wrong itself was not compiled.
        for step in steps {
            let found = all.iter().enumerate().find(|(_, declared)| *declared.name == step.name);
            let Some((index, declared)) = found else { continue };
            for output in &step.outputs {
                let is_read = self.read.contains(&output.name);
                if !is_read && !output.is_unused && !declared.unused {
                    let path = format!("spec.steps[{index}]{}", output.path);
                    let finding = Finding::new(this, path, format!("nothing reads `{}`", output.name));
                    let hint = "read it in a later step, or say `unused: true`";
                    self.found.push(finding.id("unread-output").hint(hint));
                }
            }
        }
    }
}

/// What was added to the rows of the inputs is still there in an output of the same entity. The name that two mean
/// differently is an error.
fn carry(output: &mut Output, inputs: &[Output]) -> Result<(), String> {
    // Whoever else is among them has nothing to confirm.
    let same =
        |first: &&Output| inputs.iter().all(|input| (&input.asking, &input.entity) == (&first.asking, &output.entity));
    if let Some(first) = inputs.first().filter(same) {
        output.asking = output.asking.take().or_else(|| first.asking.clone());
    }
    for enriched in inputs.iter().filter(|input| input.entity == output.entity).flat_map(|input| &input.enriched) {
        match output.enriched.iter().find(|known| known.name == enriched.name) {
            None => output.enriched.push(enriched.clone()),
            Some(known) if known == enriched => {}
            Some(_) => return Err(enriched.name.clone()),
        }
    }
    Ok(())
}

/// The names that a step reads by itself, with the path of each.
fn inputs_of(step: &Declared) -> Vec<(String, &str)> {
    let mut names: Vec<(String, &str)> = step.from.iter().map(|from| ("from".to_owned(), from.as_str())).collect();
    match &step.activity {
        Activity::Union(step::Union { of })
        | Activity::Intersect(step::Intersect { of, .. })
        | Activity::Join(step::Join { of }) => {
            let word = step.activity.word();
            names.extend(of.iter().enumerate().map(|(i, name)| (format!("{word}.of[{i}]"), name.as_str())));
        }
        Activity::Subtract(subtract) => {
            names.push(("subtract.from".to_owned(), subtract.from.as_str()));
            names.extend(
                subtract.minus.iter().enumerate().map(|(i, name)| (format!("subtract.minus[{i}]"), name.as_str())),
            );
        }
        _ => {}
    }
    names
}

/// The way from one step back to another, if its inputs lead there.
fn reaches(steps: &[Declared], from: usize, to: usize) -> Option<String> {
    let mut ways = vec![vec![from]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        let at = way.last().copied()?;
        if at == to {
            let names: Vec<&str> = std::iter::once(to).chain(way).map(|i| &*steps[i].name).collect();
            return Some(names.join(" -> "));
        }
        if seen.insert(at) {
            let next = inputs_of(&steps[at]).into_iter().filter_map(|(_, name)| position(steps, name));
            ways.extend(next.map(|n| way.iter().copied().chain([n]).collect()));
        }
    }
    None
}

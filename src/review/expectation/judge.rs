//! What is expected against what is found, and why it is so.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use sea_query::SelectStatement;

use super::{
    Failure, Unrun,
    fixture::{key_of, keys_of},
    load::{DIALECT, Prepared},
    stage::Played,
};
use crate::{
    api::{
        dataset::Entity,
        test::{Case, Counts, ExpectedOutcome, Members, Message, Words},
    },
    plan::{Bundle, Plan, audience::own_params, message::canonical},
    review::{
        mask::Mask,
        person::{Subject, Walker},
    },
    rule::{Inputs, Query},
    run::{
        audiences::{Ground, inputs_as_kept},
        schedule::Timetable,
    },
    send::{
        letter::{Letter, Occasion},
        said,
        template::Words as Written,
    },
    store::{
        self, Sql, Store,
        campaign::{Run, State},
        fate::{Fate, Whose},
    },
};

/// Explanations of one case; who reads one has understood the others.
const WHYS_MAX: usize = 3;
/// Keys of a set that are named in a failure.
const KEYS_SHOWN: usize = 20;
/// Of a text that is shown in a failure.
const TEXT_CHARS_SHOWN: usize = 2_000;

/// Judges the cases of one run, or of one audience.
pub struct Judge {
    store: Store,
    of: Of,
}

enum Of {
    Run(Box<Played>),
    Audience { pinned: Arc<(Bundle, Plan)>, now: Timestamp },
}

impl Judge {
    pub fn of_run(played: Played) -> Self {
        Self { store: played.store.clone(), of: Of::Run(Box::new(played)) }
    }

    pub fn of_audience(store: Store, pinned: Arc<(Bundle, Plan)>, now: Timestamp) -> Self {
        Self { store, of: Of::Audience { pinned, now } }
    }

    pub async fn close(self) {
        self.store.close().await;
    }

    /// What does not hold of a case.
    ///
    /// # Errors
    /// If it cannot be told.
    pub async fn case(&self, test: &Prepared, index: usize) -> Result<Vec<Failure>, Unrun> {
        let case = &test.spec.cases[index];
        match &self.of {
            Of::Audience { pinned, now } => self.audience(test, case, pinned, *now).await,
            Of::Run(played) => self.run(case, &played.pinned, &played.run, played.held.as_deref()).await,
        }
    }

    async fn audience(
        &self,
        test: &Prepared,
        case: &Case,
        pinned: &Arc<(Bundle, Plan)>,
        now: Timestamp,
    ) -> Result<Vec<Failure>, Unrun> {
        let bundle = &pinned.0;
        let name = test.spec.audience.as_deref().unwrap_or_default();
        let spec = bundle.audiences.get(name).ok_or_else(|| lost(name))?;
        // They were checked when the test was read.
        let own = own_params(name, spec, &case.params).unwrap_or_default();
        let plan = bundle.compile_audience(name, own, DIALECT).map_err(|_| lost(name))?;
        let pinned = Arc::new((bundle.clone(), plan));
        let ground = Ground::of(&pinned.0, &pinned.1);
        let inputs = match inputs_as_kept(&self.store, &ground, now).await? {
            Ok(inputs) => inputs,
            Err(missing) => {
                let message = format!("audience `{missing}` has not been filled; give its keys in `audiences`");
                return Ok(vec![Failure::new(message)]);
            }
        };
        let walker = Walker::new(&self.store, pinned.clone(), inputs, now, lifted(&pinned));
        let mut jury = Jury { store: &self.store, pinned: &pinned, walker: Some(walker), failures: vec![], whys: 0 };
        if let Some(members) = &case.members {
            let sets = jury.walker.as_ref().and_then(|walker| walker.set(name).cloned());
            match sets {
                Some(set) => jury.members(&format!("audience `{name}`"), name, members, set).await?,
                None => return Err(lost(name).into()),
            }
        }
        Ok(jury.failures)
    }

    async fn run(
        &self,
        case: &Case,
        pinned: &Arc<(Bundle, Plan)>,
        run: &Run,
        held: Option<&str>,
    ) -> Result<Vec<Failure>, Unrun> {
        let mut failures = starts(case, pinned, run.scheduled);
        let fault = (run.state == State::Done && run.reason == "StepFailed").then_some(run.message.as_str());
        let ends = [("fails", &case.fault, fault), ("is held", &case.held, held)];
        for (what, expected, found) in ends {
            let failure = |expected: Option<&String>, found: Option<&str>| Failure {
                expected: expected.map(|text| format!("it {what}, saying: {text}")),
                found: found.map(|text| format!("it {what}, saying: {text}")).or(Some(format!("it never {what}"))),
                ..Failure::new(match expected {
                    Some(_) => format!("the run does not end as expected: whether it {what}"),
                    None => format!("the run {what}"),
                })
            };
            match (expected, found) {
                (Some(expected), Some(found)) if found.contains(expected.as_str()) => {}
                (None, None) => {}
                (expected, found) => failures.push(failure(expected.as_ref(), found)),
            }
        }
        let walker = match (fault, held) {
            (None, None) => {
                let inputs = self.inputs(pinned, run.scheduled).await?;
                let walker = Walker::of_run(&self.store, pinned.clone(), inputs, run.clone(), lifted(pinned));
                Some(walker.await?)
            }
            _ => None,
        };
        let mut jury = Jury { store: &self.store, pinned, walker, failures, whys: 0 };
        for (name, members) in &case.steps {
            match jury.walker.as_ref().and_then(|walker| walker.set(name).cloned()) {
                Some(set) => jury.members(&format!("step `{name}`"), name, members, set).await?,
                None => jury.failures.push(Failure::new(format!("the run did not come to step `{name}`"))),
            }
        }
        for message in &case.messages {
            jury.message(run, message).await?;
        }
        if !case.counts.is_empty() {
            let counts = self.store.counts(run).await?;
            for (step, expected) in &case.counts {
                let found = counts.iter().find(|(name, _)| name == step).map(|(_, counts)| counts.totals);
                jury.counts(step, expected, &found.unwrap_or_default());
            }
        }
        Ok(jury.failures)
    }

    async fn inputs(&self, pinned: &(Bundle, Plan), at: Timestamp) -> store::Result<Inputs> {
        let found = inputs_as_kept(&self.store, &Ground::of(&pinned.0, &pinned.1), at).await?;
        Ok(found.unwrap_or_else(|_| Inputs::at(at)))
    }
}

fn lost(name: &str) -> store::Error {
    store::Error::Internal(format!("audience {name} is gone"))
}

/// Fixtures are nobody's.
fn lifted(pinned: &(Bundle, Plan)) -> Mask {
    Mask::of(&pinned.0.dataset, &pinned.1.schema).lifted()
}

/// The next starts after the case's time.
fn starts(case: &Case, pinned: &(Bundle, Plan), now: Timestamp) -> Vec<Failure> {
    if case.starts.is_empty() {
        return vec![];
    }
    let expected: Vec<Timestamp> = case.starts.iter().map(|at| at.0).collect();
    let table = pinned.0.campaign.schedule.as_ref().and_then(|schedule| Timetable::of(schedule).ok());
    let Some(table) = table else {
        return vec![Failure::new("the campaign has no schedule, so it starts by hand only")];
    };
    let (mut found, mut looked) = (table.look(now, now, false).due, now);
    while found.len() < expected.len() {
        let Some(next) = table.look(looked, looked, false).next else { break };
        found.push(next);
        looked = next;
    }
    if found == expected {
        return vec![];
    }
    let listed = |all: &[Timestamp]| {
        let words: Vec<String> = all.iter().map(|at| format!("{at} ({})", table.in_zone(*at))).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    let (expected, found) = (Some(listed(&expected)), Some(listed(&found)));
    vec![Failure { expected, found, ..Failure::new("the next starts are others") }]
}

/// Collects what does not hold.
struct Jury<'a> {
    store: &'a Store,
    pinned: &'a Arc<(Bundle, Plan)>,
    walker: Option<Walker<'a>>,
    failures: Vec<Failure>,
    whys: usize,
}

impl Jury<'_> {
    fn entity(&self, output: &str) -> store::Result<&Entity> {
        let found = self.pinned.1.output(output).and_then(|output| self.pinned.0.dataset.entity(&output.entity));
        found.ok_or_else(|| store::Error::Internal(format!("output {output} is gone")))
    }

    /// How it came about, of a row.
    async fn why(&mut self, entity: &str, item: &str) -> store::Result<Option<String>> {
        if self.whys >= WHYS_MAX {
            return Ok(None);
        }
        self.whys += 1;
        let Some(walker) = &self.walker else { return Ok(None) };
        let subject = Subject { entity: entity.to_owned(), item: item.to_owned() };
        Ok(Some(walker.walk(&subject).await?.to_string()))
    }

    async fn members(
        &mut self,
        what: &str,
        output: &str,
        expected: &Members,
        set: SelectStatement,
    ) -> store::Result<()> {
        let entity = self.entity(output)?.clone();
        let found = self.items(&entity, set).await?;
        let keys = |keys: &Option<crate::api::test::Keys>| -> BTreeSet<String> {
            // They were checked when the test was read.
            keys.iter().flat_map(|keys| keys_of(keys, &entity, "", &mut vec![])).collect()
        };
        let (inside, outside, only) = (keys(&expected.inside), keys(&expected.outside), keys(&expected.only));
        for item in inside.union(&only).filter(|item| !found.contains(*item)) {
            let why = self.why(&entity.name, item).await?;
            let message = format!("{what}: {} {item} is not in it", entity.name);
            self.failures.push(Failure { why, ..Failure::new(message) });
        }
        let is_alien = |item: &&String| outside.contains(*item) || (expected.only.is_some() && !only.contains(*item));
        for item in found.iter().filter(is_alien) {
            let why = self.why(&entity.name, item).await?;
            let message = format!("{what}: {} {item} is in it, and should not be", entity.name);
            self.failures.push(Failure { why, ..Failure::new(message) });
        }
        let size = i64::try_from(found.len()).unwrap_or(i64::MAX);
        if let Some(wanted) = expected.size.filter(|wanted| *wanted != size) {
            let listed: Vec<&str> = found.iter().take(KEYS_SHOWN).map(String::as_str).collect();
            let more = if found.len() > KEYS_SHOWN { ", …" } else { "" };
            self.failures.push(Failure {
                expected: Some(wanted.to_string()),
                found: Some(format!("{size}: {}{more}", listed.join(", "))),
                ..Failure::new(format!("{what} has another size"))
            });
        }
        Ok(())
    }

    async fn items(&self, entity: &Entity, set: SelectStatement) -> store::Result<BTreeSet<String>> {
        let plan = &self.pinned.1;
        let lost = || store::Error::Internal(format!("entity {} is gone", entity.name));
        let of = plan.schema.entity(&entity.name).ok_or_else(lost)?;
        let mut query = Query::over_set(&plan.schema, of, plan.dialect, set);
        let item = canonical(&mut query, of, &[]);
        query.column(item, "item");
        let rows = self.store.fetch(Sql::query(&query.finish(), plan.dialect)?).await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn message(&mut self, run: &Run, expected: &Message) -> store::Result<()> {
        let step = &*expected.step;
        let Some((step_no, message)) = self.pinned.1.message_named(step) else { return Ok(()) };
        let Some(entity) = self.pinned.0.dataset.entity(&message.entity).cloned() else { return Ok(()) };
        let item = key_of(&expected.of, &entity).unwrap_or_default();
        let what = format!("`{step}` about {} {item}", entity.name);
        let fates = self.store.fates(run, Whose::Item(&item), 10).await?;
        let fate = fates.into_iter().find(|fate| fate.step == step);
        let wanted = match (expected.outcome, &expected.reason) {
            // Who says why it is not sent says that it is not.
            (ExpectedOutcome::Sent, Some(_)) => ExpectedOutcome::Excluded,
            (outcome, _) => outcome,
        };
        let outcome = |fate: &Fate| fate.outcome.clone().unwrap_or_else(|| "Waiting".to_owned());
        let found = fate.as_ref().map_or_else(|| "Absent".to_owned(), outcome);
        let reason = fate.as_ref().and_then(|fate| fate.reason.clone());
        let is_reason = expected.reason.as_ref().is_none_or(|wanted| reason.as_ref() == Some(wanted));
        if found != wanted.as_str() || !is_reason {
            let of = |outcome: &str, reason: Option<&String>| match reason {
                Some(reason) => format!("{outcome} ({reason})"),
                None => outcome.to_owned(),
            };
            let why = self.why(&entity.name, &item).await?;
            self.failures.push(Failure {
                expected: Some(of(wanted.as_str(), expected.reason.as_ref())),
                found: Some(of(&found, reason.as_ref())),
                why,
                ..Failure::new(format!("{what} ends otherwise"))
            });
            return Ok(());
        }
        if wanted != ExpectedOutcome::Sent {
            return Ok(());
        }
        let kept = self.store.kept(run, &item).await?.into_iter().rfind(|kept| kept.step_no == step_no);
        let said = kept.as_ref().and_then(|kept| said::find(kept.said.as_deref()?, kept.seq));
        let (Some(kept), Some(said)) = (kept, said) else {
            self.failures.push(Failure::new(format!("{what}: nothing was kept of it")));
            return Ok(());
        };
        let variant = message.template.variant(said.locale.as_deref());
        // The same links in every run of the test: they lead nowhere.
        let letter = Letter::new(&Occasion::of(run), self.pinned.clone(), step_no, None, b"test")?;
        let written = letter.written((kept.shard, kept.seq), kept.profile.as_deref(), &said, kept.at);
        let words = match written {
            Ok(written) => written.words,
            Err(problem) => {
                self.failures.push(Failure::new(format!("{what} cannot be written: {problem}")));
                return Ok(());
            }
        };
        let plain = [("to", &expected.to, &said.to), ("locale", &expected.locale, &variant)];
        for (name, wanted, found) in plain {
            if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
                self.failures.push(Failure {
                    expected: Some(wanted.clone()),
                    found: Some(found.clone()),
                    ..Failure::new(format!("{what}: `{name}` is another"))
                });
            }
        }
        self.words(&what, expected, &words);
        Ok(())
    }

    fn words(&mut self, what: &str, expected: &Message, found: &Written) {
        let text = found.text();
        let parts = [
            ("subject", &expected.subject, Some(found.subject())),
            ("text", &expected.text, text.as_deref()),
            ("html", &expected.html, found.html()),
        ];
        for (part, wanted, found) in parts {
            let Some(wanted) = wanted else { continue };
            let found = found.unwrap_or_default();
            let mut fail = |said: String, expected: String| {
                self.failures.push(Failure {
                    expected: Some(expected),
                    found: Some(found.chars().take(TEXT_CHARS_SHOWN).collect()),
                    ..Failure::new(format!("{what}: {said}"))
                });
            };
            let Words { is, contains, lacks } = wanted;
            if let Some(is) = is.as_ref().filter(|is| *is != found) {
                fail(format!("`{part}` is another"), is.clone());
            }
            for text in contains.iter().flat_map(|texts| texts.all()).filter(|text| !found.contains(text.as_str())) {
                fail(format!("`{part}` does not contain what it should"), text.clone());
            }
            for text in lacks.iter().flat_map(|texts| texts.all()).filter(|text| found.contains(text.as_str())) {
                fail(format!("`{part}` contains what it should not"), format!("not {text}"));
            }
        }
    }

    fn counts(&mut self, step: &str, expected: &Counts, found: &crate::api::campaign_run::Totals) {
        let all = [
            ("entered", expected.entered, found.entered),
            ("sent", expected.sent, found.sent),
            ("excluded", expected.excluded, found.excluded),
            ("failed", expected.failed, found.failed),
        ];
        let asked = || all.iter().filter_map(|(name, wanted, found)| Some((*name, (*wanted)?, *found)));
        let wanted = asked().map(|(name, wanted, _)| format!("{name} {wanted}")).collect::<Vec<_>>().join(", ");
        let counted = asked().map(|(name, _, found)| format!("{name} {found}")).collect::<Vec<_>>().join(", ");
        if wanted != counted {
            let (expected, found) = (Some(wanted), Some(counted));
            self.failures.push(Failure { expected, found, ..Failure::new(format!("`{step}` has other counts")) });
        }
    }
}

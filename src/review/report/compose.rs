//! Makes the report of a change: the trees, the store and the moment go in.

mod cost;
mod messages;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    CampaignView, Change, ExcludedView, Figure, FindingView, MessagesView, NegationView, NotBuilt, ObjectChange,
    OutputView, OverlapView, Report, ScheduleView, StepView, Tally, VERSION, called, figure::Telling, lines,
};
use crate::{
    api::{CampaignSpec, audience::Form, campaign::OnDelete},
    plan::{Bundle, Plan, activity::Compiled, audience},
    review::{
        base::Base,
        change::{self, Difference},
        check,
        count::{self, Accepted, Counted, Moment, Verdict},
        tree::Tree,
    },
    rule::Dialect,
    run::schedule::Timetable,
    source::{Key, Kind, admission::Sound, manifest::Diagnostic},
    store::{
        Store,
        campaign::{Run, State},
        tally::Counts,
    },
};

/// Starts that are listed of a schedule.
const STARTS: usize = 5;
/// How far ahead they are looked for.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 366);
/// Others reach the same people too soon when both start within this time from now.
const NEAR: SignedDuration = SignedDuration::from_hours(24 * 7);
/// More campaigns are not asked whom they reach, too.
const OVERLAPS_MAX: usize = 8;
/// Of a campaign's runs, those in which the last one that ended by itself is looked for.
const RUNS: i64 = 20;

/// What is asked.
pub struct Request<'a> {
    pub head: &'a Tree,
    pub base: Option<(&'a Tree, &'a Base)>,
    /// Without one nothing is counted.
    pub store: Option<&'a Store>,
    /// Where rows are counted, in words; why nowhere, without a store.
    pub counted: String,
    pub now: Timestamp,
    pub telling: Telling,
    /// Messages of real people are shown, masked.
    pub has_real_samples: bool,
    /// How many rows of tables one statement may read.
    pub rows_max: Option<i64>,
    /// Files are named relative to this folder.
    pub folder: &'a Path,
}

/// One campaign as its manifests say, in one of the trees.
struct Side {
    pinned: Arc<(Bundle, Plan)>,
    counted: Result<Counted, String>,
}

/// What the store remembers of a campaign.
#[derive(Default)]
struct Past {
    last: Option<Run>,
    outputs: BTreeMap<String, i64>,
    channels: BTreeMap<String, Counts>,
    open: Vec<Run>,
    has_run: bool,
}

impl Request<'_> {
    /// The whole report.
    pub async fn compose(&self) -> Report {
        let difference = self.base.map(|(tree, base)| change::between(tree, self.head, *base == Base::Cluster));
        let campaigns: Vec<&Key> = match &difference {
            Some(difference) => difference.touched.keys().collect(),
            None => self.head.sound(Kind::Campaign),
        };
        let mut views = vec![];
        for key in campaigns {
            if let Some(view) = self.campaign(key, difference.as_ref()).await {
                views.push(view);
            }
        }
        let mut objects = difference.map(|difference| difference.objects).unwrap_or_default();
        for object in objects.iter_mut().filter(|object| object.change == Change::Removed && object.kind == "Campaign")
        {
            self.removed(object).await;
        }
        let (warnings, _) = check::warnings(self.head, self.now);
        let found = self.head.errors().iter().chain(&warnings);
        Report {
            version: VERSION,
            now: self.now.to_string(),
            base: self.base.map(|(_, base)| base.to_string()),
            counted: self.counted.clone(),
            untrusted: self.telling.is_untrusted,
            objects,
            campaigns: views,
            findings: found.map(|diagnostic| self.finding(diagnostic)).collect(),
            not_built: not_built(),
        }
    }

    fn dialect(&self) -> Dialect {
        self.store.map_or(Dialect::Sqlite, Store::dialect)
    }

    async fn campaign(&self, key: &Key, difference: Option<&Difference>) -> Option<CampaignView> {
        let head = self.side(self.head, key).await?;
        let base = match self.base {
            Some((tree, _)) => self.side(tree, key).await,
            None => None,
        };
        let past = self.past(&key.namespace, &head.pinned.0.names()).await.unwrap_or_default();
        let bundle = &head.pinned.0;
        let timetable = bundle.campaign.schedule.as_ref().and_then(|schedule| Timetable::of(schedule).ok());
        let mut view = CampaignView {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            topic: bundle.campaign.topic.to_string(),
            because: difference.and_then(|d| d.touched.get(key)).cloned().unwrap_or_default(),
            schedule: self.schedule(timetable.as_ref(), &past),
            unknown: head.counted.as_ref().err().cloned(),
            last_run: past.last.as_ref().map(|run| run.name.clone()),
            steps: self.steps(&head, base.as_ref(), &past),
            samples: self.samples(&head, base.as_ref()).await,
            ..CampaignView::default()
        };
        for step in &mut view.steps {
            let Some(messages) = &mut step.messages else { continue };
            let price = bundle.channels.get(&messages.channel).and_then(|channel| channel.price.as_ref());
            let extents = view.samples.iter().filter(|sample| sample.step == step.name);
            let extents: Vec<_> = extents.filter_map(|sample| sample.extent.as_ref()).collect();
            messages.cost = price.map(|price| cost::cost(price, &messages.sent.now, &extents));
        }
        if let Ok(counted) = &head.counted {
            view.held = counted.held.iter().map(|hold| self.telling.hold(hold)).collect();
            match &counted.expected {
                Verdict::Outside(hold) => view.held.push(self.telling.hold(hold)),
                Verdict::Inside => view.notes.push("as many get it as `expect` says".to_owned()),
                Verdict::Unknown(why) => view.notes.push(format!("whether `expect` holds is unknown: {why}")),
                Verdict::NotDeclared if view.steps.iter().any(|step| step.messages.is_some()) => {
                    view.notes.push(
                        "it says nothing of how many it expects (`expect`): a run of any size is sent".to_owned(),
                    );
                }
                Verdict::NotDeclared => {}
            }
            view.notes.extend(counted.notes.iter().cloned());
            view.negations = counted.negations.iter().filter(|n| n.rows > 0).map(|n| self.negation(n)).collect();
        }
        view.notes.extend(difference.and_then(|d| d.notes.get(key)).into_iter().flatten().cloned());
        view.notes.extend(self.meaning(bundle, timetable.as_ref(), &past));
        if !view.schedule.is_over && view.unknown.is_none() && view.sent().now == Figure::Exact(0) {
            view.notes.push("nobody gets it".to_owned());
        }
        view.overlaps = self.overlaps(key, &head, timetable.as_ref(), &past).await;
        Some(view)
    }

    /// A campaign as a tree has it, compiled and counted.
    async fn side(&self, tree: &Tree, key: &Key) -> Option<Side> {
        let Sound::Campaign(campaign) = tree.checked().get(key)? else { return None };
        let bundle = campaign.bundle.clone();
        // It was compiled before, for the other database.
        let plan = bundle.compile(self.dialect()).ok()?;
        let counted = match self.store {
            None => Err(self.counted.clone()),
            Some(_) if self.telling.is_untrusted && self.foreign_statement(&bundle).is_some() => {
                let name = self.foreign_statement(&bundle).unwrap_or_default();
                Err(format!("audience `{name}` is a statement that differs from base, and none of a stranger's is run"))
            }
            Some(store) => {
                let moment = Moment {
                    scheduled: self.now,
                    now: self.now,
                    sample_percent: self.telling.sample_percent,
                    rows_max: self.rows_max,
                };
                count::count(store, (&bundle, &plan), &accepted(tree, key, &bundle), moment).await
            }
        };
        Some(Side { pinned: Arc::new((bundle, plan)), counted })
    }

    /// The name of an audience of a statement that is not the one of base.
    fn foreign_statement(&self, bundle: &Bundle) -> Option<String> {
        let is_sql = |form: Option<Form<'_>>| matches!(form, Some(Form::Sql(_)));
        let is_foreign = |name: &str, spec: &crate::api::AudienceSpec| {
            let before = self.base.and_then(|(tree, _)| tree.audience(&bundle.namespace, name));
            is_sql(spec.form()) && before.is_none_or(|before| before.form() != spec.form())
        };
        bundle.audiences.iter().find(|(name, spec)| is_foreign(name, spec)).map(|(name, _)| name.clone())
    }

    /// What is kept under the first of a campaign's names that the store knows.
    async fn past(&self, namespace: &str, names: &[String]) -> crate::store::Result<Past> {
        let Some(store) = self.store else { return Ok(Past::default()) };
        let name = store.known_as(namespace, names).await?;
        let runs = store.runs(namespace, &name, RUNS).await?;
        let mut past = Past {
            has_run: store.has_run_by_schedule(namespace, &name).await?,
            open: runs.iter().filter(|run| run.state != State::Done).cloned().collect(),
            last: runs.into_iter().find(Run::has_ended_well),
            ..Past::default()
        };
        if let Some(run) = &past.last {
            past.outputs = store.run_steps(run.no).await?.into_iter().map(|step| (step.name, step.out)).collect();
            past.channels = store.counts(run).await?.into_iter().collect();
        }
        Ok(past)
    }

    fn schedule(&self, timetable: Option<&Timetable>, past: &Past) -> ScheduleView {
        let Some(table) = timetable else {
            return ScheduleView { words: "runs are made by hand".to_owned(), ..ScheduleView::default() };
        };
        let starts: Vec<Timestamp> = match table.is_once() && past.has_run {
            true => vec![],
            false => self.starts(table).take(STARTS).collect(),
        };
        ScheduleView {
            words: table.words(),
            next: starts.iter().map(|at| table.in_zone(*at)).collect(),
            next_at: starts.iter().map(ToString::to_string).collect(),
            is_over: match table.not_after() {
                _ if table.is_once() && past.has_run => true,
                Some(until) => until.is_some_and(|until| until < self.now),
                None => starts.is_empty(),
            },
        }
    }

    fn starts<'t>(&self, table: &'t Timetable) -> impl Iterator<Item = Timestamp> + 't {
        let until = self.now.checked_add(HORIZON).unwrap_or(Timestamp::MAX);
        table.starts(self.now, until)
    }

    /// What an edit does to runs that are, were, or will be.
    fn meaning(&self, bundle: &Bundle, timetable: Option<&Timetable>, past: &Past) -> Vec<String> {
        let mut notes = vec![];
        if bundle.campaign.suspend {
            notes.push("it is suspended: nothing starts, and what is being sent pauses".to_owned());
        }
        let revision = bundle.revision().map(|(hash, _)| hash).unwrap_or_default();
        for run in past.open.iter().filter(|run| run.revision != revision) {
            notes.push(format!("run `{}` is in flight and keeps the revision that it began with", run.name));
        }
        let Some(table) = timetable else { return notes };
        let not_after = table.not_after();
        if table.is_once() && past.has_run {
            notes.push("it has run, and starts once: this edit sends to nobody".to_owned());
        } else if let Some(until) = not_after {
            notes.push(match until {
                Some(until) if until < self.now => {
                    format!("`notAfter` was {}: it does not start", table.in_zone(until))
                }
                Some(until) => format!(
                    "it starts at once where it has not run, until {}: also on a store that is new",
                    table.in_zone(until)
                ),
                None => "it starts at once where it has not run, also on a store that is new; live delivery needs \
                         `notAfter`"
                    .to_owned(),
            });
        } else if self.starts(table).next().is_none() {
            let words = if table.is_once() {
                "its time is past: it is missed, also on a store that is new"
            } else {
                "it does not start within a year"
            };
            notes.push(words.to_owned());
        }
        notes
    }

    /// What becomes of a campaign that is deleted.
    async fn removed(&self, object: &mut ObjectChange) {
        let key = Key::new(Kind::Campaign, &object.namespace, &object.name);
        let held = match self.head.heir(&key) {
            Some(heir) => format!("what waits in it goes on under `{}`", heir.name),
            None => "what waits in it is held (onDelete: Hold) until a campaign of this name is there again".to_owned(),
        };
        let spec: Option<&CampaignSpec> = self.base.and_then(|(tree, _)| tree.campaign(&key.namespace, &key.name));
        let past = self.past(&key.namespace, std::slice::from_ref(&key.name)).await.unwrap_or_default();
        if past.open.is_empty() {
            object.words.push("no run of it is in flight".to_owned());
        }
        for run in &past.open {
            let words = match spec.map(|spec| spec.on_delete) {
                Some(OnDelete::Cancel) => "what waits in it is cancelled (onDelete: Cancel)",
                _ => &held,
            };
            object.words.push(format!("run `{}` is in flight: {words}", run.name));
        }
    }

    fn steps(&self, head: &Side, base: Option<&Side>, past: &Past) -> Vec<StepView> {
        let telling = self.telling;
        let (bundle, plan) = (&head.pinned.0, &head.pinned.1);
        let figure = |side: &Side, read: &dyn Fn(&Counted) -> Option<i64>| match &side.counted {
            Ok(counted) => read(counted).map(|n| telling.figure(n)),
            Err(why) => Some(Figure::Unknown(why.clone())),
        };
        let tally = |read: &dyn Fn(&Counted) -> Option<i64>, last: Option<i64>| Tally {
            now: figure(head, read).unwrap_or(Figure::Exact(0)),
            base: base.and_then(|side| figure(side, read)),
            last: last.map(|n| Telling { sample_percent: None, ..telling }.figure(n)),
        };
        let step = |step: &crate::plan::Step| {
            let declared = bundle.campaign.steps.iter().find(|declared| *declared.name == *step.name);
            let outputs = step.outputs.iter().map(|output| OutputView {
                name: output.name.clone(),
                entity: output.entity.clone(),
                rows: tally(&|c| c.outputs.get(&output.name).copied(), past.outputs.get(&output.name).copied()),
            });
            let has_left = head.counted.as_ref().is_ok_and(|counted| counted.left.contains_key(&step.name));
            let messages = match &step.compiled {
                Compiled::Message(message) => {
                    let last = past.channels.get(&step.name);
                    let excluded = |reason: &str, counted: &Counted| {
                        Some(counted.channels.get(&step.name)?.excluded.get(reason).copied().unwrap_or(0))
                    };
                    let of = |side: &Side| side.counted.as_ref().ok().and_then(|c| c.channels.get(&step.name)).cloned();
                    let reasons: BTreeSet<String> = [Some(head), base]
                        .into_iter()
                        .flatten()
                        .filter_map(of)
                        .flat_map(|messages| messages.excluded.into_keys())
                        .collect();
                    Some(MessagesView {
                        channel: message.channel.clone(),
                        template: message.template_name.clone(),
                        file: messages::file(&head.pinned.0, &step.name, message),
                        entered: tally(&|c| Some(c.channels.get(&step.name)?.entered), last.map(|l| l.totals.entered)),
                        excluded: reasons
                            .into_iter()
                            .map(|reason| ExcludedView {
                                words: lines::reason(&reason).to_owned(),
                                rows: tally(
                                    &|c| excluded(&reason, c),
                                    last.map(|l| l.reasons.get(&reason).copied().unwrap_or(0)),
                                ),
                                reason,
                            })
                            .collect(),
                        sent: tally(&|c| Some(c.channels.get(&step.name)?.sent), last.map(|l| l.totals.sent)),
                        cost: None,
                    })
                }
                _ => None,
            };
            StepView {
                name: step.name.clone(),
                activity: declared.map_or("", |declared| declared.activity.word()).to_owned(),
                reads: reads(step),
                outputs: outputs.collect(),
                left: has_left.then(|| tally(&|c| c.left.get(&step.name).copied(), None)),
                messages,
            }
        };
        plan.steps.iter().map(step).collect()
    }

    fn negation(&self, found: &count::OnlyMissing) -> NegationView {
        NegationView {
            output: found.output.clone(),
            clause: found.clause.clone(),
            fields: found.fields.clone(),
            rows: self.telling.figure(found.rows),
        }
    }

    /// Other campaigns that start in the same days, and how many people are in both.
    async fn overlaps(&self, key: &Key, head: &Side, table: Option<&Timetable>, past: &Past) -> Vec<OverlapView> {
        let Some(store) = self.store.filter(|_| head.counted.is_ok()) else { return vec![] };
        let soon = self.now.checked_add(NEAR).unwrap_or(Timestamp::MAX);
        let starts_soon = |table: &Timetable, has_run: bool| match table.not_after() {
            _ if table.is_once() && has_run => None,
            Some(until) if until.is_some_and(|until| until < self.now) => None,
            Some(_) => Some(self.now),
            None => table.starts(self.now, soon).next(),
        };
        if table.and_then(|table| starts_soon(table, past.has_run)).is_none() {
            return vec![];
        }
        let mut views = vec![];
        for (other, sound) in self.head.checked() {
            let Sound::Campaign(campaign) = sound else { continue };
            let is_same = |bundle: &Bundle| bundle.campaign.dataset == head.pinned.0.campaign.dataset;
            if other == key || other.namespace != key.namespace || !is_same(&campaign.bundle) {
                continue;
            }
            let known_as = store.known_as(&other.namespace, &campaign.bundle.names()).await.unwrap_or_default();
            let has_run = store.has_run_by_schedule(&other.namespace, &known_as).await.unwrap_or(false);
            let Some(table) = campaign.timetable.as_ref().filter(|_| !campaign.bundle.campaign.suspend) else {
                continue;
            };
            let Some(at) = starts_soon(table, has_run) else { continue };
            let Ok(plan) = campaign.bundle.compile(self.dialect()) else { continue };
            let moment = Moment { scheduled: self.now, now: self.now, sample_percent: None, rows_max: self.rows_max };
            let sides = ((&head.pinned.0, &head.pinned.1), (&campaign.bundle, &plan));
            let people = match count::people_in_both(store, sides.0, sides.1, moment).await {
                Ok(0) => continue,
                Ok(n) => self.telling.figure(n),
                Err(why) => Figure::Unknown(why),
            };
            views.push(OverlapView {
                campaign: called(&other.namespace, &other.name),
                starts: table.in_zone(at),
                people,
            });
            if views.len() >= OVERLAPS_MAX {
                break;
            }
        }
        views
    }

    fn finding(&self, diagnostic: &Diagnostic) -> FindingView {
        let file = diagnostic.file.as_ref();
        let (line, column) = diagnostic.line_column();
        FindingView {
            severity: diagnostic.severity.as_str().to_owned(),
            id: diagnostic.id.to_owned(),
            message: diagnostic.message.clone(),
            hint: diagnostic.hint.clone(),
            file: file.map(|file| crate::review::format::relative(&file.path, self.folder)),
            line: file.map(|_| line),
            column: file.map(|_| column),
        }
    }
}

/// What a step works on; nothing of an audience.
fn reads(step: &crate::plan::Step) -> Vec<String> {
    let mut reads = step.inputs.clone();
    reads.extend(step.needs.iter().filter(|need| !step.inputs.contains(need)).cloned());
    reads
}

/// The sizes that a person let pass.
fn accepted(tree: &Tree, campaign: &Key, bundle: &Bundle) -> Accepted {
    let of = |key: &Key| audience::accepted(&tree.manifest(key)?.annotations()).ok()?;
    let sizes = bundle.audiences.keys().filter_map(|name| {
        let size = of(&Key::new(Kind::Audience, &bundle.namespace, name))?;
        Some((name.clone(), size))
    });
    Accepted { audiences: sizes.collect(), campaign: of(campaign) }
}

fn not_built() -> Vec<NotBuilt> {
    let all = [
        ("Caps and quiet hours", "of a ContactPolicy only suppression is built: neither holds anybody back"),
        ("Guardrails and approvals", "they are not built yet: guards of audiences are what is weighed"),
    ];
    all.map(|(what, note)| NotBuilt { what: what.to_owned(), note: note.to_owned() }).to_vec()
}

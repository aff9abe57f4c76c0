//! Messages as declared personas would get them, and as some real people would where that is asked.

use sea_query::SelectStatement;

use super::{Request, Side};
use crate::{
    api::{channel::Way, template::Persona},
    plan::{Bundle, message::MessagePlan},
    review::{
        count, difference,
        mask::{MASKED, Mask},
        report::{FileView, SampleView},
        sample::{Sample, Sampler},
    },
    rule::Inputs,
    run::audiences::{Ground, inputs_as_kept},
    store::Store,
};

/// Real people whose messages are shown of each step.
const REAL_SAMPLES: u64 = 3;

impl Request<'_> {
    /// Messages for each persona of each channel step, and for some of the people where that is asked.
    pub(super) async fn samples(&self, head: &Side, base: Option<&Side>) -> Vec<SampleView> {
        let sampler = |side: &Side| {
            let (bundle, plan) = &*side.pinned;
            Sampler::new(side.pinned.clone(), Inputs::at(self.now), Mask::of(&bundle.dataset, &plan.schema))
        };
        let (new, old) = (sampler(head), base.map(sampler));
        let mut views = vec![];
        for step in &head.pinned.0.campaign.steps {
            let Some((_, message)) = step.activity.message() else { continue };
            let personas = |side: &Side| -> Vec<Persona> {
                let template = side.pinned.0.templates.get(&*message.template);
                template.map(|template| template.personas.clone()).unwrap_or_default()
            };
            let before = base.map(personas).unwrap_or_default();
            for persona in personas(head) {
                let written = new.persona(&step.name, &persona, None);
                let known = before.iter().find(|known| known.name == persona.name);
                let old = old.as_ref().zip(known).map(|(old, known)| old.persona(&step.name, known, None));
                views.push(sample((&step.name, &message.channel), &persona.name, true, written, old));
            }
            if self.has_real_samples
                && let Some(store) = self.store
            {
                views.extend(self.real_samples(store, head, &step.name, &message.channel).await);
            }
        }
        views
    }

    async fn real_samples(&self, store: &Store, head: &Side, step: &str, channel: &str) -> Vec<SampleView> {
        let (bundle, plan) = &*head.pinned;
        let mask = Mask::of(&bundle.dataset, &plan.schema);
        let Ok(Ok(inputs)) = inputs_as_kept(store, &Ground::of(bundle, plan), self.now).await else { return vec![] };
        let sets = plan.chained(&inputs, self.now);
        let set: Option<SelectStatement> =
            plan.message_named(step).and_then(|(_, message)| sets.get(&message.input).cloned());
        let Some(mut set) = set else { return vec![] };
        let sampler = Sampler::new(head.pinned.clone(), inputs, mask);
        set.limit(REAL_SAMPLES);
        match sampler.read(store, step, set).await {
            Ok(people) => {
                let written = people.iter().map(|about| sampler.about(step, about, None));
                written.map(|written| sample((step, channel), MASKED, false, written, None)).collect()
            }
            Err(error) => vec![sample((step, channel), "", false, Err(count::said(&error)), None)],
        }
    }
}

/// The file that the letters of a step make.
pub(super) fn file(bundle: &Bundle, step: &str, message: &MessagePlan) -> Option<FileView> {
    let Way::MailFile(file) = bundle.channels.get(&message.channel)?.way() else { return None };
    let name = file.named(&[("namespace", &bundle.namespace), ("campaign", &bundle.name), ("step", step)]);
    let template = bundle.templates.get(&message.template_name)?;
    let columns = template.direct_mail.iter().flat_map(|mail| &mail.columns);
    Some(FileView {
        url: format!("{}/{name}{}", file.url.trim_end_matches('/'), file.extension()),
        format: file.format.word().to_owned(),
        columns: columns.map(|column| column.name.clone()).collect(),
        seeds: file.seeds.len(),
    })
}

fn sample(
    (step, channel): (&str, &str),
    who: &str,
    is_persona: bool,
    written: Result<Sample, String>,
    before: Option<Result<Sample, String>>,
) -> SampleView {
    let mut view = SampleView {
        step: step.to_owned(),
        channel: channel.to_owned(),
        who: who.to_owned(),
        is_persona,
        locale: String::new(),
        problem: None,
        subject: String::new(),
        text: None,
        size_bytes: 0,
        extent: None,
        difference: None,
    };
    match written {
        Ok(written) => {
            view.difference =
                before.and_then(Result::ok).map(|before| difference::lines(&words(&before), &words(&written)));
            (view.locale, view.subject, view.size_bytes) = (written.locale, written.subject, written.size_bytes);
            view.text = written.text.or(written.html);
            view.extent = written.extent;
        }
        Err(problem) => view.problem = Some(problem),
    }
    view
}

/// All that a reader sees of a message.
fn words(sample: &Sample) -> String {
    let body = sample.text.as_deref().or(sample.html.as_deref()).unwrap_or_default();
    let mut words = if sample.subject.is_empty() { String::new() } else { format!("Subject: {}\n", sample.subject) };
    words += body;
    if !sample.attachments.is_empty() {
        words = format!("{}\nAttached: {}\n", words.trim_end(), sample.attachments.join(", "));
    }
    words
}

//! `email`, `sms`, `push`, `directMail`, `http`: one message for each row of the set, or for each person.
//!
//! ```yaml
//! email: {channel: newsletter, template: pre-trip, per: booking, recipient: booking.customer}
//! sms: {channel: texts, template: pre-trip, to: booking.contact_phone}
//! ```

use super::{Compiled, Output, Place};
use crate::{
    api::{
        channel::{ChannelSpec, Way},
        dataset::Category,
        duration::Duration,
        medium::Medium,
        step::{MessageStep, OnDoubt},
    },
    plan::{
        Bundle, Finding, Ref,
        message::{self, Column, Extra, Line, MessagePlan, Once},
    },
    rule::{
        Path, Schema, check_path,
        schema::{Entity, FieldType},
    },
    send::{channel, template::Template},
};

/// Longer ways from an item to its person are named by the author.
const RECIPIENT_HOPS_MAX: usize = 3;
const EXPIRES_MARKETING: Duration = Duration::from_hours(24);
const EXPIRES_TRANSACTIONAL: Duration = Duration::from_hours(84);

pub fn compile(medium: Medium, step: &MessageStep, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let word = medium.step();
    let (input, entity) = place.input()?;
    let bundle = place.bundle;
    let profile = &*bundle.dataset.profile.entity;
    let mut found = vec![];
    let per_profile = match step.per.as_deref() {
        None => false,
        Some("profile") => true,
        Some(per) if per == entity.name => false,
        Some(per) => {
            let message = format!("`per` is `{}` or `profile`, not `{per}`", entity.name);
            found.push(place.finding(word, "per", message));
            false
        }
    };
    let recipient = recipient(word, step, place, &entity.name, profile);
    let ways = recipient.and_then(|recipient| Ways::compile(medium, step, place, entity, recipient));
    let ways = ways.unwrap_or_else(|wrong| {
        found.extend(wrong);
        // What the template says of the person can be checked all the same.
        Ways::to(profile)
    });
    let kept = bundle.dataset.retention.messages;
    if let Some(within) = step.once.as_ref().and_then(|once| once.within).filter(|within| *within > kept) {
        let dataset = &bundle.campaign.dataset;
        let message = format!("`once` looks back {within}, and dataset `{dataset}` keeps messages for {kept}");
        let hint = "raise the Dataset's `retention.messages`, or say `once: {ever: true}`, which needs none";
        found.push(place.finding(word, "once.within", message).hint(hint));
    }
    match bundle.channels.get(&*step.channel) {
        None => found.push(place.lost(word, "channel", "Channel", &step.channel)),
        Some(channel) if !channel.carries(medium) => {
            let message = format!("channel `{}` is {}, which carries no {word}", step.channel, channel.way().word());
            found.push(place.finding(word, "channel", message));
        }
        Some(channel) => found.extend(values_lost(medium, step, channel, bundle)),
    }
    if let Some(name) = bundle.channels.get(&*step.channel).and_then(|channel| channel.tracking.consent_topic.as_ref())
        && !bundle.dataset.topics.iter().any(|topic| topic.name == *name)
    {
        let owner = Ref::new("Channel", &step.channel);
        let message = format!("dataset `{}` has no topic `{name}`", bundle.campaign.dataset);
        let known = bundle.dataset.topics.iter().map(|topic| &*topic.name);
        found.push(Finding::new(&owner, "spec.tracking.consentTopic", message).suggest(name, known));
    }
    if let Some(Way::MailFile(file)) = bundle.channels.get(&*step.channel).map(|channel| channel.way()) {
        let template = bundle.templates.get(&*step.template);
        found.extend(template.into_iter().flat_map(|template| message::misfits(step, template, file)));
        if step.throttle.is_some() {
            found.push(place.finding(word, "throttle", "letters leave together, in the file of a run"));
        }
    }
    let topic = bundle.dataset.topics.iter().find(|t| t.name == bundle.campaign.topic);
    let is_marketing = topic.is_none_or(|t| t.category == Category::Marketing);
    let consent = topic.and_then(|t| t.consent.as_ref()).and_then(|c| c.of(medium));
    let said = said(medium, step, place, entity, &ways.recipient, is_marketing);
    let (template, reads, extras) = match said {
        Ok(said) if found.is_empty() => said,
        said => {
            found.extend(said.err().into_iter().flatten());
            return Err(found);
        }
    };
    let asking = place.inputs.first().and_then(|input| input.asking.clone());
    if asking.as_ref().is_some_and(|asking| asking.medium != medium) {
        let message = format!("those who are asked are to be asked by {}", asking.map_or("", |a| a.medium.word()));
        return Err(vec![place.finding(word, "template", message).hint("say `medium` in the step `unconfirmed`")]);
    }
    let Ways { recipient, to, lines, locale } = ways;
    let default_expiry = if is_marketing { EXPIRES_MARKETING } else { EXPIRES_TRANSACTIONAL };
    let plan = MessagePlan {
        medium,
        input: input.to_owned(),
        entity: entity.name.clone(),
        channel: step.channel.to_string(),
        template_name: step.template.to_string(),
        template,
        per_profile,
        recipient,
        to,
        lines,
        locale,
        reads,
        extras,
        topic: bundle.campaign.topic.to_string(),
        is_marketing,
        is_in_by_default: consent.is_some_and(|c| c.default == crate::api::dataset::ConsentDefault::OptedIn),
        // Whom to ask is decided by what she asked for, not by whether she was ever asked.
        once: if asking.is_some() && step.once.is_none() { Once::Never } else { once(step) },
        asking,
        expires_after: step.expires_after.unwrap_or(default_expiry),
        throttle: step.throttle.map(|t| t.per_second),
        record: step.record,
        resends: step.on_doubt == OnDoubt::Resend
            || bundle.channels.get(&*step.channel).is_some_and(ChannelSpec::is_idempotent),
    };
    Ok((Compiled::Message(Box::new(plan)), vec![]))
}

/// The values that the request of an `http` channel reads and the step's template does not have.
fn values_lost(medium: Medium, step: &MessageStep, channel: &ChannelSpec, bundle: &Bundle) -> Vec<Finding> {
    let Way::Http(http) = channel.way() else { return vec![] };
    let Some(section) = bundle.templates.get(&*step.template).filter(|template| Template::has(template, medium)) else {
        // That is said of the template.
        return vec![];
    };
    let known: Vec<&str> = section.http.iter().flat_map(|http| &http.values).map(|value| &*value.name).collect();
    let read = channel::http::values_read(http).into_iter();
    let lost = read.filter(|(value, _)| !known.contains(&value.as_str()));
    let owner = Ref::new("Channel", &step.channel);
    let finding = |(value, path): (String, String)| {
        let message = format!("template `{}` has no value `{value}`", step.template);
        Finding::new(&owner, format!("spec.http.{path}"), message).suggest(&value, known.iter().copied())
    };
    lost.map(finding).collect()
}

/// From the item to the person, the address and the language.
struct Ways {
    recipient: Path,
    to: Option<Path>,
    lines: Vec<Line>,
    locale: Option<Path>,
}

impl Ways {
    fn to(profile: &str) -> Self {
        let there = Path { hops: vec![], field: None, entity: profile.to_owned(), is_many: false };
        Self { recipient: there, to: None, lines: vec![], locale: None }
    }

    fn compile(
        medium: Medium,
        step: &MessageStep,
        place: &Place<'_>,
        entity: &Entity,
        recipient: Path,
    ) -> Result<Self, Vec<Finding>> {
        let (dataset, schema, word) = (&place.bundle.dataset, place.schema, medium.step());
        let profile = &*dataset.profile.entity;
        let own = dataset.profile.addresses.of(medium);
        let mut lines = vec![];
        if medium == Medium::Postal && step.to.is_none() {
            for (text, is_required) in dataset.profile.addresses.lines() {
                lines.push(Line { path: recipient.join(&own_path(text, schema, profile, place)?), is_required });
            }
        }
        let to = match (&step.to, own) {
            (Some(text), _) => Some(
                check_path(text, schema, &entity.name)
                    .map_err(|p| vec![Finding::of_problem(place.this, place.path(word, "to"), p)])?,
            ),
            (None, Some(text)) => Some(recipient.join(&own_path(text, schema, profile, place)?)),
            // Whom a request is about, its values say.
            (None, None) if medium == Medium::Http => None,
            (None, None) if !lines.is_empty() => None,
            (None, None) => {
                let (dataset, medium) = (&place.bundle.campaign.dataset, medium.word());
                let message = format!("dataset `{dataset}` has no {medium} address for the profile");
                return Err(vec![place.finding(word, "to", message)]);
            }
        };
        let is_fit = |to: &Path| match medium {
            Medium::Push if to.is_many => message::is_of_devices(to, schema, &entity.name),
            _ => !to.is_many && to.field_type(schema) == Some(FieldType::String),
        };
        if to.as_ref().is_some_and(|to| !is_fit(to)) {
            let text = step.to.as_deref().or(own).unwrap_or_default();
            return Err(vec![place.finding(word, "to", format!("`{text}` must lead to one String field"))]);
        }
        let locale = match &dataset.profile.locale {
            Some(text) => Some(recipient.join(&own_path(text, schema, profile, place)?)),
            None => None,
        };
        Ok(Self { recipient, to, lines, locale })
    }
}

type Said = (Template, Vec<Column>, Vec<Extra>);

/// The template, with what it reads here.
fn said(
    medium: Medium,
    step: &MessageStep,
    place: &Place<'_>,
    entity: &Entity,
    recipient: &Path,
    is_marketing: bool,
) -> Result<Said, Vec<Finding>> {
    let (bundle, schema, word) = (place.bundle, place.schema, medium.step());
    let lost = || vec![place.lost(word, "template", "MessageTemplate", &step.template)];
    let spec = bundle.templates.get(&*step.template).ok_or_else(lost)?;
    if !Template::has(spec, medium) {
        let message = format!("template `{}` has no section `{word}`", step.template);
        return Err(vec![place.finding(word, "template", message)]);
    }
    let template = Template::compile((&step.template, spec), &bundle.templates, medium);
    let template = template.map_err(message::template_findings)?;
    let enriched = place.inputs.first().map_or(&[][..], |input| &input.enriched);
    let profile = &*bundle.dataset.profile.entity;
    let scope = message::Scope { schema, item: &entity.name, profile, recipient, enriched };
    let (reads, extras) = message::resolve_reads(template.reads(), &scope)?;
    let links = [message::UNSUBSCRIBE_URL, message::PREFERENCES_URL, message::CONFIRM_URL];
    let asking = place.inputs.first().and_then(|input| input.asking.as_ref());
    for read in template.reads().iter().filter(|read| links.iter().any(|link| read.names == [*link])) {
        let finding = |text: &str, hint: &str| {
            let owner = Ref::new("MessageTemplate", &read.owner);
            let finding = Finding::new(&owner, &read.path, text).hint(hint);
            vec![Finding { span: Some(read.span.clone()), ..finding }]
        };
        if !is_marketing && read.names == [message::UNSUBSCRIBE_URL] {
            let text = "a Transactional topic has nothing to unsubscribe from";
            return Err(finding(text, "leave the link out, or give the campaign a Marketing topic"));
        }
        if asking.is_none() && read.names == [message::CONFIRM_URL] {
            let text = "these people have nothing to confirm";
            return Err(finding(text, "write it for a step behind `unconfirmed`, which finds those who do"));
        }
        if bundle.channels.get(&*step.channel).is_some_and(|channel| channel.public_url.is_none()) {
            let text = format!("channel `{}` has no `publicUrl`, so there is no link", step.channel);
            return Err(finding(&text, "say in the Channel where `--listen` is reached from outside"));
        }
    }
    Ok((template, reads, extras))
}

fn once(step: &MessageStep) -> Once {
    match step.once.as_ref().map(|o| (o.within, o.ever)) {
        None => Once::BySchedule,
        Some((Some(within), _)) => Once::Within(within),
        Some((None, Some(false))) => Once::Never,
        Some((None, _)) => Once::Ever,
    }
}

/// A path that the Dataset states for its profile; the Dataset's own check says what is wrong with it.
fn own_path(text: &str, schema: &Schema, profile: &str, place: &Place<'_>) -> Result<Path, Vec<Finding>> {
    let owner = Ref::new("Dataset", &place.bundle.campaign.dataset);
    check_path(text, schema, profile).map_err(|problem| vec![Finding::of_problem(&owner, "spec.profile", problem)])
}

/// The to-one path from the item to the person: as named, or the only one there is.
fn recipient(
    word: &str,
    step: &MessageStep,
    place: &Place<'_>,
    entity: &str,
    profile: &str,
) -> Result<Path, Vec<Finding>> {
    if let Some(text) = &step.recipient {
        let path = check_path(text, place.schema, entity)
            .map_err(|problem| vec![Finding::of_problem(place.this, place.path(word, "recipient"), problem)])?;
        if path.is_many || path.field.is_some() || path.entity != profile {
            let message = format!("`{text}` must lead over to-one links to {profile}, the profile");
            return Err(vec![place.finding(word, "recipient", message)]);
        }
        return Ok(path);
    }
    let start = Path { hops: vec![], field: None, entity: entity.to_owned(), is_many: false };
    if entity == profile {
        return Ok(start);
    }
    let mut ways = vec![];
    find_ways(place.schema, start, profile, &mut vec![entity.to_owned()], &mut ways);
    match ways.len() {
        1 => Ok(ways.remove(0)),
        0 => Err(vec![
            place
                .finding(word, "recipient", format!("no to-one links lead from {entity} to {profile}, the profile"))
                .hint("name the path with `recipient`, or lead the set there with `changeEntity`"),
        ]),
        _ => {
            let names: Vec<String> = ways.iter().map(|w| format!("{entity}.{}", w.hops.join("."))).collect();
            let message = format!("several paths lead from {entity} to {profile}: {}", names.join(", "));
            Err(vec![place.finding(word, "recipient", message).hint("name one with `recipient`")])
        }
    }
}

/// The one path of to-one links from an entity to the profile; none where there are several.
pub fn only_way(schema: &Schema, entity: &str, profile: &str) -> Option<Path> {
    let mut ways = ways(schema, entity, profile);
    if ways.len() == 1 { ways.pop() } else { None }
}

/// The paths of to-one links from an entity to the profile, as long as they are followed.
pub fn ways(schema: &Schema, entity: &str, profile: &str) -> Vec<Path> {
    let start = Path { hops: vec![], field: None, entity: entity.to_owned(), is_many: false };
    if entity == profile {
        return vec![start];
    }
    let mut ways = vec![];
    find_ways(schema, start, profile, &mut vec![entity.to_owned()], &mut ways);
    ways
}

fn find_ways(schema: &Schema, path: Path, profile: &str, seen: &mut Vec<String>, ways: &mut Vec<Path>) {
    let Some(entity) = schema.entity(&path.entity).filter(|_| path.hops.len() < RECIPIENT_HOPS_MAX) else { return };
    for link in entity.links.iter().filter(|link| !link.is_many) {
        if seen.contains(&link.to) {
            continue;
        }
        let hops = path.hops.iter().cloned().chain([link.name.clone()]).collect();
        let next = Path { hops, field: None, entity: link.to.clone(), is_many: false };
        if link.to == profile {
            ways.push(next);
            continue;
        }
        seen.push(link.to.clone());
        find_ways(schema, next, profile, seen, ways);
        seen.pop();
    }
}

//! Campaigns: the same people again and again, branches that nobody reaches, values that nobody reads.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{Look, Spot};
use crate::{
    api::{audience::Form, step::Activity},
    plan::{
        activity::{Compiled, rules_of},
        check::Campaign,
        message::Once,
    },
    source::Key,
};

/// Starts in a week, from which on a person would count them.
const STARTS_A_WEEK_MAX: usize = 4;

pub(super) fn look(look: &mut Look<'_>) {
    for (key, campaign) in look.campaigns() {
        same_people(look, key, campaign);
        unread(look, key, campaign);
        for (index, step) in campaign.bundle.campaign.steps.iter().enumerate() {
            match &step.activity {
                Activity::Split(split) if !split.overlap => {
                    let rules =
                        split.branches.iter().map(|branch| branch.rule.as_deref().filter(|_| branch.at_most.is_none()));
                    unreachable(look, key, &format!("spec.steps[{index}].split.branches"), rules);
                }
                Activity::Choose(choose) => {
                    let rules = choose.branches.iter().map(|case| Some(case.when.as_str()));
                    unreachable(look, key, &format!("spec.steps[{index}].choose.branches"), rules);
                }
                _ => {}
            }
        }
    }
}

/// Branches behind one that takes all, or that takes the same rows.
fn unreachable<'r>(look: &mut Look<'_>, key: &Key, at: &str, rules: impl Iterator<Item = Option<&'r str>>) {
    let mut taken: Vec<&str> = vec![];
    for (index, rule) in rules.enumerate() {
        let rule = rule.map(str::trim);
        let message = if taken.contains(&"true") {
            "an earlier branch takes every row"
        } else if rule.is_some_and(|rule| taken.contains(&rule)) {
            "an earlier branch takes the same rows"
        } else {
            taken.extend(rule);
            continue;
        };
        look.warn("unreachable-branch", Spot::at(key, &format!("{at}[{index}]")), message, None);
    }
}

/// What `enrich` steps add and no template reads.
fn unread(look: &mut Look<'_>, key: &Key, campaign: &Campaign) {
    let read: BTreeSet<&str> = campaign.plan.messages().flat_map(|(_, _, message)| message.enriched_by()).collect();
    for (index, step) in campaign.bundle.campaign.steps.iter().enumerate() {
        let Activity::Enrich(enrich) = &step.activity else { continue };
        if !read.contains(&*step.name) {
            let path = format!("spec.steps[{index}].enrich.as");
            let message = format!("no template behind this step reads `{}`", enrich.name);
            look.warn("unread-enrichment", Spot::at(key, &path), message, None);
        }
    }
}

/// A campaign that starts nearly every day, and of which nothing says that it finds others the next day.
fn same_people(look: &mut Look<'_>, key: &Key, campaign: &Campaign) {
    let Some(table) = campaign.timetable.as_ref().filter(|table| !table.is_once()) else { return };
    let week = look.now.checked_add(SignedDuration::from_hours(7 * 24)).unwrap_or(look.now);
    let starts = table.starts(look.now, week).count();
    let steps = || campaign.plan.steps.iter().map(|step| &step.compiled);
    let again = steps().any(|step| match step {
        Compiled::Message(message) => matches!(message.once, Once::BySchedule | Once::Never),
        _ => false,
    });
    let is_narrowed = steps().any(|step| matches!(step, Compiled::Incremental(_) | Compiled::Unconfirmed(_)));
    if starts > STARTS_A_WEEK_MAX && again && !is_narrowed && !changes_by_itself(campaign) {
        let message = format!("this comes {starts} times a week, for the same people each time");
        let hint = "say `once` in the channel step, add `incremental`, or let the rule ask about `now` or `messages`";
        look.warn("same-people-again", Spot::at(key, "spec.schedule.cron"), message, Some(hint.to_owned()));
    }
}

/// Whether the rules ask about time or about what was sent, or the rows come from elsewhere.
fn changes_by_itself(campaign: &Campaign) -> bool {
    let bundle = &campaign.bundle;
    let steps = bundle.campaign.steps.iter();
    let mut texts: Vec<&str> = steps.flat_map(|step| rules_of(&step.activity)).map(|(_, rule)| rule).collect();
    for audience in bundle.audiences.values() {
        match audience.form() {
            Some(Form::Rule(rule)) => texts.push(rule),
            Some(Form::Combined(..)) => {}
            _ => return true,
        }
    }
    let conditions = &bundle.dataset.conditions;
    let used = conditions.iter().filter(|condition| texts.iter().any(|text| has_word(text, &condition.name)));
    let used: Vec<&str> = used.map(|condition| condition.rule.as_str()).collect();
    texts.into_iter().chain(used).any(|text| has_word(text, "now") || has_word(text, "messages"))
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

//! The sentences that all faces for people share.

use super::{
    CampaignView, Change, FileView, ObjectChange, Report, SampleView, StepView, Tally, called, figure::grouped,
};

/// A reason for which somebody gets no message, in words.
pub fn reason(reason: &str) -> &'static str {
    match reason {
        "NoConsent" => "has not agreed to the topic",
        "NoAddress" => "has no address",
        "MalformedAddress" => "has an address that is none",
        "UnmatchedProfile" => "nobody is behind the row",
        "Duplicate" => "another row of the same person comes first",
        "AlreadySent" => "got it before",
        "Suppressed" => "has an address that bounced or complained",
        _ => "is held back",
    }
}

/// `1,204 (+12 against base)`.
pub fn tally(tally: &Tally) -> String {
    let changes = tally.changes();
    if changes.is_empty() { tally.now.to_string() } else { format!("{} ({})", tally.now, changes.join(", ")) }
}

/// `1,204 messages (+12 against base)`.
pub fn tally_of(tally: &Tally, what: &str) -> String {
    let changes = tally.changes();
    let changes = if changes.is_empty() { String::new() } else { format!(" ({})", changes.join(", ")) };
    format!("{} {what}{changes}", tally.now)
}

/// `1 message`, `23 messages (-2 against base)`.
pub fn messages(sent: &Tally) -> String {
    tally_of(sent, noun(sent))
}

/// What is sent, in one word.
pub fn noun(sent: &Tally) -> &'static str {
    if sent.now.value() == Some(1) { "message" } else { "messages" }
}

/// What a step is and reads, and what a channel step says by which channel.
pub fn step(step: &StepView) -> String {
    let from = if step.reads.is_empty() { String::new() } else { format!(" from {}", step.reads.join(", ")) };
    let how = step.messages.as_ref().map(|m| format!(", template {}, channel {}", m.template, m.channel));
    let file = step.messages.as_ref().and_then(|messages| messages.file.as_ref()).map(file);
    format!("{}{from}{}{}", step.activity, how.unwrap_or_default(), file.unwrap_or_default())
}

fn file(file: &FileView) -> String {
    let seeds = match file.seeds {
        0 => String::new(),
        1 => ", 1 seed".to_owned(),
        n => format!(", {n} seeds"),
    };
    format!(", file {} ({}: {}{seeds})", file.url, file.format, file.columns.join(", "))
}

/// `Campaign greeting changed`.
pub fn object(object: &ObjectChange) -> String {
    let how = match object.change {
        Change::Added => "is new",
        Change::Changed => "changed",
        Change::Removed => "is removed",
    };
    format!("{} {} {how}", object.kind, called(&object.namespace, &object.name))
}

/// What the figures of a campaign come to, in one line.
pub fn headline(view: &CampaignView) -> String {
    match &view.unknown {
        Some(why) => format!("how many get it is unknown: {why}"),
        None => {
            let sent = view.sent();
            if view.schedule.is_over {
                return format!("it starts no more by itself; a run by hand would send {}", messages(&sent));
            }
            let next = view.schedule.next.first().map(|next| format!("; next start {next}")).unwrap_or_default();
            format!("{}{next}", messages(&sent))
        }
    }
}

/// When it starts next, in a word or two.
pub fn next(view: &CampaignView) -> String {
    let schedule = &view.schedule;
    if schedule.is_over {
        "starts no more".to_owned()
    } else {
        schedule.next.first().unwrap_or(&schedule.words).clone()
    }
}

/// What is compared with what, on which rows.
pub fn ground(report: &Report) -> Vec<String> {
    let mut lines = vec![];
    if let Some(base) = &report.base {
        lines.push(format!("Compared with {base}."));
    }
    lines.push(format!("Counted: {}.", report.counted));
    if report.untrusted {
        lines.push("Counts are rounded to tens, and those under 10 are not told.".to_owned());
    }
    lines
}

/// `mail for zoe (it), 1,234 bytes`.
/// All of a message, as its medium has it.
pub fn message(sample: &SampleView) -> String {
    let text = sample.text.as_deref().unwrap_or_default();
    if sample.subject.is_empty() { text.to_owned() } else { format!("Subject: {}\n\n{text}", sample.subject) }
}

pub fn sample(sample: &SampleView) -> String {
    let locale = if sample.locale.is_empty() { String::new() } else { format!(" ({})", sample.locale) };
    let who = if sample.is_persona { sample.who.clone() } else { format!("somebody real, masked {}", sample.who) };
    match &sample.problem {
        Some(problem) => format!("{} for {who}: cannot be written: {problem}", sample.step),
        None if sample.extent.is_some() => {
            let extent = sample.extent.iter().map(|extent| format!(", {extent}")).collect::<String>();
            format!("{} for {who}{locale}{extent}", sample.step)
        }
        None => {
            let size = u64::try_from(sample.size_bytes).unwrap_or(u64::MAX);
            format!("{} for {who}{locale}, {} bytes", sample.step, grouped(size))
        }
    }
}

/// Negations that let people in only because something is missing.
pub fn negations(view: &CampaignView) -> Vec<String> {
    let line = |n: &super::NegationView| {
        format!("{}: {} in only because {} is missing (`{}`)", n.output, n.rows, n.fields.join(" or "), n.clause)
    };
    view.negations.iter().map(line).collect()
}

pub fn overlaps(view: &CampaignView) -> Vec<String> {
    let line = |o: &super::OverlapView| format!("{} starts {}: {} people are in both", o.campaign, o.starts, o.people);
    view.overlaps.iter().map(line).collect()
}

/// `2 errors, 1 warning`, where there are any.
pub fn findings(report: &Report) -> Option<String> {
    let count = |severity: &str| report.findings.iter().filter(|f| f.severity == severity).count();
    let many = |n: usize, what: &str| match n {
        0 => None,
        1 => Some(format!("1 {what}")),
        n => Some(format!("{n} {what}s")),
    };
    let found: Vec<String> =
        [many(count("error"), "error"), many(count("warning"), "warning")].into_iter().flatten().collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// `town.yaml:12:3: error[unknown-name]: …`.
pub fn finding(finding: &super::FindingView) -> String {
    let place = match (&finding.file, finding.line, finding.column) {
        (Some(file), Some(line), Some(column)) => format!("{file}:{line}:{column}: "),
        _ => String::new(),
    };
    let hint = finding.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{place}{}[{}]: {}{hint}", finding.severity, finding.id, finding.message)
}

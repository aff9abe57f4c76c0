//! A walk for a person to read.
//!
//! ```text
//! overdue-reminders: customer ••• at 2026-03-01T09:00:00Z
//!   overdue  audience
//!     rental 1  out
//!       ✗ !has(rental.return_date)    rental.return_date = 2026-02-27T10:00:00Z
//! ```

use std::fmt::{self, Display, Formatter};

use serde_json::Value as Json;

use super::{ClauseView, RowView, RuleView, Truth, Why};

/// Rows of a step that go on, and that do not.
const IN_SHOWN: usize = 5;
const OUT_SHOWN: usize = 3;
/// A value whose name is a whole expression stands beside it already.
const NAME_CHARS_MAX: usize = 40;

impl Truth {
    fn mark(self) -> &'static str {
        match self {
            Self::True => "✓",
            Self::False | Self::Missing => "✗",
            Self::NotAsked => "-",
            Self::Faults => "!",
        }
    }
}

impl Display for Why {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let run = self.run.as_ref().map_or_else(String::new, |run| format!(", in run {run}"));
        writeln!(f, "{}: {} {} at {}{run}", self.campaign, self.entity, self.key, self.now)?;
        if !self.is_there {
            writeln!(f, "there is no such {}", self.entity)?;
        }
        let width = self.steps.iter().map(|step| step.step.chars().count()).max().unwrap_or(0);
        for step in &self.steps {
            write!(f, "  {:width$}  {}", step.step, step.activity)?;
            match &step.note {
                Some(note) => writeln!(f, ": {note}")?,
                None if step.rows.is_empty() => writeln!(f, ": nothing comes here")?,
                None => writeln!(f)?,
            }
            // Those that go on come first; a few of either kind tell how it is.
            let of_kind = |is_in: bool, most: usize| step.rows.iter().filter(move |row| row.is_in == is_in).take(most);
            let shown: Vec<&RowView> = of_kind(true, IN_SHOWN).chain(of_kind(false, OUT_SHOWN)).collect();
            shown.iter().try_for_each(|row| put_row(row, f))?;
            let more = step.total - i64::try_from(shown.len()).unwrap_or(0);
            if more > 0 {
                writeln!(f, "    and {more} more of {}", step.entity)?;
            }
        }
        for end in &self.ends {
            let of = &end.step;
            match (end.messages, &end.left_at) {
                _ if end.note.is_some() => {
                    writeln!(f, "{of}: no message; {}", end.note.as_deref().unwrap_or_default())?
                }
                (0, Some(step)) => writeln!(f, "{of}: no message; left at `{step}`")?,
                (0, None) => writeln!(f, "{of}: no message; {}", end.reasons.join(", "))?,
                (1, _) => writeln!(f, "{of}: one message")?,
                (n, _) => writeln!(f, "{of}: {n} messages")?,
            }
        }
        self.paused.iter().try_for_each(|why| writeln!(f, "nothing is sent now: {why}"))?;
        for fate in &self.fates {
            write!(f, "run {}: {}, {}: {}", fate.run, fate.step, fate.row, fate.outcome)?;
            fate.reason.iter().try_for_each(|reason| write!(f, " ({reason})"))?;
            fate.at.iter().try_for_each(|at| write!(f, " at {at:.0}"))?;
            if fate.attempts > 1 {
                write!(f, ", {} attempts", fate.attempts)?;
            }
            fate.due.iter().try_for_each(|due| write!(f, ", due at {due:.0}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

fn put_row(row: &RowView, f: &mut Formatter<'_>) -> fmt::Result {
    let state = match (row.is_in, row.outputs.as_slice(), &row.reason) {
        (_, _, Some(reason)) => reason.clone(),
        (true, outputs, _) if outputs.iter().any(|output| output.contains('.')) => format!("to {}", outputs.join(", ")),
        (true, ..) => "in".to_owned(),
        (false, ..) => "out".to_owned(),
    };
    let why = row.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    writeln!(f, "    {}  {state}{why}", row.row)?;
    row.rules.iter().try_for_each(|rule| put_rule(rule, 6, row.rules.len() > 1, f))
}

fn put_rule(rule: &RuleView, indent: usize, is_one_of: bool, f: &mut Formatter<'_>) -> fmt::Result {
    let is_plain = rule.of == "where" && !is_one_of;
    if !is_plain {
        let mark = if rule.is_in { "✓" } else { "✗" };
        let note = rule.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        writeln!(f, "{:indent$}{mark} {}{note}", "", rule.of)?;
    }
    let inner = if is_plain { indent } else { indent + 2 };
    if let Some(clause) = &rule.clause {
        // The rule as a whole says no more than its row.
        match clause.parts.as_slice() {
            [] => put_clause(clause, inner, f)?,
            parts => parts.iter().try_for_each(|part| put_clause(part, inner, f))?,
        }
    }
    rule.parts.iter().try_for_each(|part| put_rule(part, inner, true, f))
}

fn put_clause(clause: &ClauseView, indent: usize, f: &mut Formatter<'_>) -> fmt::Result {
    // A rule may be written over several lines.
    let text = clause.text.split_whitespace().collect::<Vec<_>>().join(" ");
    write!(f, "{:indent$}{} {text}", "", clause.truth.mark())?;
    let shown = clause.values.iter().map(|value| {
        let is_long = value.name.chars().count() > NAME_CHARS_MAX && clause.values.len() == 1;
        let name = if is_long { "it" } else { &value.name };
        match &value.value {
            Json::Null => format!("{name} is missing"),
            Json::String(text) => format!("{name} = {text}"),
            other => format!("{name} = {other}"),
        }
    });
    let mut said: Vec<String> = shown.collect();
    match clause.truth {
        Truth::NotAsked => said = vec!["not asked".to_owned()],
        Truth::Faults => said.push("it overflows or divides by zero".to_owned()),
        Truth::True if !clause.missing.is_empty() && clause.parts.is_empty() => {
            said.push("holds because it is missing".to_owned());
        }
        _ => {}
    }
    if !said.is_empty() {
        write!(f, "    {}", said.join(", "))?;
    }
    writeln!(f)?;
    // What stands in the brackets of a `!(…)` needs no line of its own.
    let parts = match clause.parts.as_slice() {
        [one] if !one.parts.is_empty() => &one.parts,
        _ => &clause.parts,
    };
    parts.iter().try_for_each(|part| put_clause(part, indent + 2, f))
}

//! For a terminal.

use std::fmt::Write;

use super::{Report, StepView, lines};

const BOLD: &str = "\u{1b}[1m";
const FAINT: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// The whole report. Nothing is lost without `is_coloured`.
pub fn write(report: &Report, is_coloured: bool) -> String {
    let mut out = Out { text: String::new(), is_coloured };
    lines::ground(report).iter().for_each(|line| out.line(0, line));
    if report.base.is_some() && report.objects.is_empty() {
        out.line(0, "Nothing differs.");
    }
    if !report.objects.is_empty() {
        out.title("What changes");
        for object in &report.objects {
            out.line(1, &lines::object(object));
            object.words.iter().for_each(|word| out.line(2, word));
        }
    }
    for view in &report.campaigns {
        out.title(&format!("Campaign {}", view.called()));
        out.line(1, &lines::headline(view));
        if !view.because.is_empty() {
            out.line(1, &format!("here because {}", view.because.join(", ")));
        }
        view.held.iter().for_each(|why| out.line(1, &format!("HELD: {why}")));
        view.notes.iter().for_each(|note| out.line(1, &format!("note: {note}")));
        out.graph(&view.steps);
        out.list("Negations", &lines::negations(view));
        out.list("Next starts", &[vec![view.schedule.words.clone()], view.schedule.next.clone()].concat());
        out.list("The same people within a week", &lines::overlaps(view));
        for sample in &view.samples {
            out.line(1, &format!("Message: {}", lines::sample(sample)));
            match &sample.difference {
                Some(difference) if difference.iter().any(|line| !line.starts_with(' ')) => {
                    difference.iter().for_each(|line| out.line(3, line));
                }
                _ if sample.problem.is_none() => {
                    if !sample.subject.is_empty() {
                        out.line(3, &format!("Subject: {}", sample.subject));
                    }
                    sample.text.iter().flat_map(|text| text.lines()).for_each(|line| out.line(3, line));
                }
                _ => {}
            }
        }
    }
    if report.campaigns.is_empty() {
        out.line(0, "No campaign is touched.");
    }
    if let Some(found) = lines::findings(report) {
        out.title(&format!("Manifests: {found}"));
        report.findings.iter().for_each(|finding| out.line(1, &lines::finding(finding)));
    }
    out.title("Not built yet");
    report.not_built.iter().for_each(|place| out.line(1, &format!("{}: {}", place.what, place.note)));
    out.text
}

struct Out {
    text: String,
    is_coloured: bool,
}

impl Out {
    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.text, "{}{text}", "  ".repeat(depth));
    }

    fn title(&mut self, text: &str) {
        let (bold, plain) = if self.is_coloured { (BOLD, PLAIN) } else { ("", "") };
        let _ = writeln!(self.text, "\n{bold}{text}{plain}");
    }

    fn list(&mut self, title: &str, items: &[String]) {
        if !items.is_empty() {
            self.line(1, title);
            items.iter().for_each(|item| self.line(2, item));
        }
    }

    /// Each step with its outputs; figures under each other.
    fn graph(&mut self, steps: &[StepView]) {
        let mut rows = vec![];
        for step in steps {
            let what = lines::step(step);
            for output in &step.outputs {
                rows.push((output.name.clone(), lines::tally_of(&output.rows, &output.entity), what.clone()));
            }
            rows.extend(
                step.left.as_ref().map(|left| (format!("{} leaves out", step.name), lines::tally(left), String::new())),
            );
            if let Some(messages) = &step.messages {
                rows.push((step.name.clone(), lines::tally_of(&messages.entered, "enter"), what));
                for excluded in &messages.excluded {
                    let why = format!("{}: {}", excluded.reason, excluded.words);
                    rows.push((String::new(), lines::tally(&excluded.rows), why));
                }
                rows.push((String::new(), lines::messages(&messages.sent), String::new()));
                rows.extend(messages.cost.iter().map(|cost| (String::new(), cost.amount.clone(), cost.words.clone())));
            }
        }
        let width = |part: &dyn Fn(&(String, String, String)) -> usize| rows.iter().map(part).max().unwrap_or(0);
        let (first, second) = (width(&|r| r.0.chars().count()), width(&|r| r.1.chars().count()));
        let (faint, plain) = if self.is_coloured { (FAINT, PLAIN) } else { ("", "") };
        for (name, rows, what) in rows {
            let line = format!("{name:first$}  {rows:second$}  {faint}{what}{plain}");
            self.line(2, line.trim_end());
        }
    }
}

//! For a comment on a pull request.
//!
//! A comment of GitHub has at most 65,536 characters. What is over it is cut by whole sections, the longest details first,
//! and a line says what was left out.

use std::fmt::Write;

use super::{CampaignView, Report, StepView, lines};

/// Of a comment of GitHub, less what a pipeline writes around the plan.
pub const CHARS_MAX: usize = 65_536 - 2_048;

/// The report within `chars_max` characters.
pub fn write(report: &Report, chars_max: usize) -> String {
    let mut sections = vec![Section::must(head(report))];
    for view in &report.campaigns {
        sections.push(Section { text: campaign(view), weight: 3, what: format!("campaign {}", view.called()) });
        let samples = samples(view);
        if !samples.is_empty() {
            sections.push(Section { text: samples, weight: 1, what: format!("messages of {}", view.called()) });
        }
    }
    if !report.objects.is_empty() {
        sections.push(Section { text: objects(report), weight: 2, what: "what changed by field".to_owned() });
    }
    if let Some(found) = lines::findings(report) {
        let mut text = format!("### Manifests: {found}\n\n");
        report.findings.iter().for_each(|finding| {
            let _ = writeln!(text, "- {}", escaped(&lines::finding(finding)));
        });
        sections.push(Section { text: text + "\n", weight: 2, what: "findings".to_owned() });
    }
    sections.push(Section::must(foot(report)));
    cut(sections, chars_max)
}

struct Section {
    text: String,
    /// Lower ones go first; those without a weight stay.
    weight: u8,
    what: String,
}

impl Section {
    fn must(text: String) -> Self {
        Self { text, weight: u8::MAX, what: String::new() }
    }
}

/// Leaves out sections until the rest fits: the lightest first, of these the last.
fn cut(mut sections: Vec<Section>, chars_max: usize) -> String {
    let mut left_out = vec![];
    loop {
        let note = note(&left_out);
        let length: usize = sections.iter().map(|s| s.text.chars().count()).sum::<usize>() + note.chars().count();
        let lightest = sections.iter().enumerate().filter(|(_, s)| s.weight < u8::MAX);
        let lightest = lightest.min_by_key(|(index, s)| (s.weight, usize::MAX - index)).map(|(index, _)| index);
        match lightest {
            Some(index) if length > chars_max => left_out.push(sections.remove(index).what),
            _ => {
                let mut text: String = sections.iter().map(|s| s.text.as_str()).collect();
                text.push_str(&note);
                // Not even the table of campaigns fits.
                if text.chars().count() > chars_max {
                    let end = "\n\n*This is longer than a comment may be.*\n";
                    let keep = chars_max.saturating_sub(end.chars().count());
                    let start: String = text.chars().take(keep).collect();
                    let whole = start.rfind('\n').map_or("", |end| &start[..end]);
                    return format!("{whole}{end}");
                }
                return text;
            }
        }
    }
}

fn note(left_out: &[String]) -> String {
    match left_out.len() {
        0 => String::new(),
        1..=12 => format!("\n*Left out, as a comment may not be longer: {}.*\n", left_out.join(", ")),
        n => format!("\n*Left out, as a comment may not be longer: {n} sections.*\n"),
    }
}

fn head(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}\n", escaped(&lines::ground(report).join(" ")));
    if report.campaigns.is_empty() {
        text.push_str("No campaign is touched.\n\n");
        return text;
    }
    text.push_str("| campaign | messages | held back | next start | |\n| --- | ---: | ---: | --- | --- |\n");
    for view in &report.campaigns {
        let messages = view.steps.iter().filter_map(|step| step.messages.as_ref());
        let excluded = super::Tally::sum(messages.flat_map(|m| m.excluded.iter().map(|e| &e.rows)));
        let next = lines::next(view);
        let (sent, excluded) = match &view.unknown {
            Some(_) => ("unknown".to_owned(), "unknown".to_owned()),
            None => (lines::tally(&view.sent()), excluded.now.to_string()),
        };
        let state = if !view.held.is_empty() {
            "**held**"
        } else if view.unknown.is_some() {
            "unknown"
        } else {
            ""
        };
        let name = escaped(&view.called());
        let _ = writeln!(text, "| **{name}** | {} | {} | {} | {state} |", cell(&sent), cell(&excluded), cell(&next));
    }
    text.push('\n');
    text
}

fn campaign(view: &CampaignView) -> String {
    let mut text = format!("### {}\n\n", escaped(&view.called()));
    let _ = writeln!(text, "{}\n", escaped(&lines::headline(view)));
    let list = |text: &mut String, items: &mut dyn Iterator<Item = String>| {
        let mut any = false;
        for item in items {
            any = true;
            let _ = writeln!(text, "- {item}");
        }
        if any {
            text.push('\n');
        }
    };
    let because = (!view.because.is_empty()).then(|| format!("here because {}", escaped(&view.because.join(", "))));
    let held = view.held.iter().map(|why| format!("**held:** {}", escaped(why)));
    let notes = view.notes.iter().map(|note| escaped(note));
    list(&mut text, &mut because.into_iter().chain(held).chain(notes));
    text.push_str("| step | rows | what |\n| --- | ---: | --- |\n");
    view.steps.iter().for_each(|step| rows(step, &mut text));
    text.push('\n');
    list(&mut text, &mut lines::negations(view).iter().map(|line| escaped(line)));
    list(&mut text, &mut lines::overlaps(view).iter().map(|line| format!("the same people: {}", escaped(line))));
    let starts =
        if view.schedule.next.is_empty() { String::new() } else { format!(": {}", view.schedule.next.join(", ")) };
    let _ = writeln!(text, "Starts: {}{}\n", escaped(&view.schedule.words), escaped(&starts));
    text
}

fn rows(step: &StepView, text: &mut String) {
    let what = lines::step(step);
    for output in &step.outputs {
        let rows = lines::tally_of(&output.rows, &output.entity);
        let _ = writeln!(text, "| {} | {} | {} |", cell(&output.name), cell(&rows), cell(&what));
    }
    if let Some(left) = &step.left {
        let _ = writeln!(text, "| {} leaves out | {} | |", cell(&step.name), cell(&lines::tally(left)));
    }
    let Some(messages) = &step.messages else { return };
    let entered = lines::tally_of(&messages.entered, "enter");
    let _ = writeln!(text, "| {} | {} | {} |", cell(&step.name), cell(&entered), cell(&what));
    for excluded in &messages.excluded {
        let what = format!("{}: {}", excluded.reason, excluded.words);
        let _ = writeln!(text, "| | {} | {} |", cell(&lines::tally(&excluded.rows)), cell(&what));
    }
    let _ = writeln!(text, "| | **{}** | |", cell(&lines::messages(&messages.sent)));
    if let Some(cost) = &messages.cost {
        let _ = writeln!(text, "| | {} | {} |", cell(&cost.amount), cell(&cost.words));
    }
}

fn samples(view: &CampaignView) -> String {
    let mut text = String::new();
    for sample in &view.samples {
        let _ = writeln!(text, "<details><summary>{}</summary>\n", html(&lines::sample(sample)));
        if sample.problem.is_none() {
            let (language, body) = match &sample.difference {
                Some(lines) if lines.iter().any(|line| !line.starts_with(' ')) => ("diff", lines.join("\n")),
                _ => ("", lines::message(sample).trim_end().to_owned()),
            };
            let fence = fence(&body);
            let _ = writeln!(text, "{fence}{language}\n{body}\n{fence}\n");
        }
        text.push_str("</details>\n\n");
    }
    text
}

fn objects(report: &Report) -> String {
    let mut text = "<details><summary>What changed, by field</summary>\n\n".to_owned();
    for object in &report.objects {
        let _ = writeln!(text, "- **{}**", escaped(&lines::object(object)));
        object.words.iter().for_each(|word| {
            let _ = writeln!(text, "  - {}", escaped(word));
        });
    }
    text + "\n</details>\n\n"
}

fn foot(report: &Report) -> String {
    let places = report.not_built.iter().map(|place| format!("{}: {}", place.what, place.note));
    format!("<sub>{}</sub>\n", html(&places.collect::<Vec<_>>().join(" · ")))
}

/// A fence that nothing in the text ends.
fn fence(body: &str) -> String {
    let longest = body.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

/// Words of authors as words: no mention, no link, no markup. What stands between backticks stays code.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        let is_code = index % 2 == 1 && text.matches('`').count() > index;
        if index > 0 {
            out.push('`');
        }
        for c in part.chars() {
            match c {
                '\n' | '\r' => out.push(' '),
                _ if is_code => out.push(c),
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '@' => out.push_str("@\u{200b}"),
                '*' | '_' | '[' | ']' | '\\' | '|' | '#' | '~' => {
                    out.push('\\');
                    out.push(c);
                }
                _ => out.push(c),
            }
        }
    }
    out
}

/// Code in a table's cell needs its bars escaped, too.
fn cell(text: &str) -> String {
    let text = escaped(text);
    let mut out = String::new();
    let mut before = ' ';
    for c in text.chars() {
        if c == '|' && before != '\\' {
            out.push('\\');
        }
        out.push(c);
        before = c;
    }
    out
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('@', "@\u{200b}").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_by_sections_and_said() {
        let section = |weight, what: &str, n: usize| Section {
            text: format!("{what} {}\n", "x".repeat(n)),
            weight,
            what: what.to_owned(),
        };
        let all = || {
            vec![Section::must("head\n".to_owned()), section(3, "a", 100), section(1, "b", 100), section(1, "c", 100)]
        };
        assert!(!cut(all(), 400).contains("Left out"));
        let less = cut(all(), 300);
        assert!(less.contains("Left out, as a comment may not be longer: c.") && less.contains("b xxx"), "{less}");
        assert!(less.chars().count() <= 300);
        let least = cut(vec![Section::must("é\n".repeat(1_000))], 100);
        assert!(least.chars().count() <= 100 && least.contains("longer than a comment"), "{least}");
    }

    #[test]
    fn authors_cannot_call_people_or_leave_a_cell() {
        assert_eq!(escaped("@all | <b> `a|b<c` *x*"), "@\u{200b}all \\| &lt;b> `a|b<c` \\*x\\*");
        assert_eq!(cell("`a|b` c|d"), "`a\\|b` c\\|d");
        assert_eq!(fence("a ``` b"), "````");
    }
}

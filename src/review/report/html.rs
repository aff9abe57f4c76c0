//! One page that needs nothing else: to keep, and to look at in any browser, light or dark, wide or narrow.

use std::fmt::Write;

use super::{CampaignView, Report, StepView, Tally, graph, lines};

/// The look of all pages of reviews.
pub const STYLE: &str = include_str!("page.css");

/// The page.
pub fn write(report: &Report) -> String {
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>What this change will do</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>What this change will do</h1>\n<p class=\"ground\">{}</p>\n",
        escaped(&lines::ground(report).join(" "))
    );
    summary(&mut page, report);
    for view in &report.campaigns {
        campaign(&mut page, view);
    }
    if !report.objects.is_empty() {
        page.push_str("<h2>What changed, by field</h2>\n<ul>\n");
        for object in &report.objects {
            let _ = write!(page, "<li><strong>{}</strong>", escaped(&lines::object(object)));
            list(&mut page, &object.words);
            page.push_str("</li>\n");
        }
        page.push_str("</ul>\n");
    }
    if let Some(found) = lines::findings(report) {
        let _ = writeln!(page, "<h2>Manifests: {found}</h2>");
        list(&mut page, &report.findings.iter().map(lines::finding).collect::<Vec<_>>());
    }
    page.push_str("<footer><h3>Not built yet</h3>\n");
    list(&mut page, &report.not_built.iter().map(|p| format!("{}: {}", p.what, p.note)).collect::<Vec<_>>());
    let _ = write!(page, "<p>As of {}.</p></footer>\n</main>\n</body>\n</html>\n", escaped(&report.now));
    page
}

fn summary(page: &mut String, report: &Report) {
    if report.campaigns.is_empty() {
        page.push_str("<p>No campaign is touched.</p>\n");
        return;
    }
    page.push_str(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Campaign</th><th class=\"n\">Messages</th>\
         <th class=\"n\">Held back</th><th>Next start</th></tr></thead>\n<tbody>\n",
    );
    for view in &report.campaigns {
        let messages = view.steps.iter().filter_map(|step| step.messages.as_ref());
        let excluded = Tally::sum(messages.flat_map(|m| m.excluded.iter().map(|e| &e.rows)));
        let next = lines::next(view);
        let excluded = if view.unknown.is_some() { "unknown".to_owned() } else { excluded.now.to_string() };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{excluded}</td><td>{}</td></tr>",
            escaped(&view.called()),
            tally(&view.sent()),
            escaped(&next)
        );
    }
    page.push_str("</tbody>\n</table></div>\n");
}

fn campaign(page: &mut String, view: &CampaignView) {
    let _ = write!(
        page,
        "<h2>{}</h2>\n<p class=\"headline\">{}</p>\n",
        escaped(&view.called()),
        escaped(&lines::headline(view))
    );
    if !view.because.is_empty() {
        let _ = writeln!(page, "<p class=\"faint\">Here because {}.</p>", coded(&view.because.join(", ")));
    }
    for why in &view.held {
        let _ = writeln!(page, "<p class=\"held\">Held: {}</p>", coded(why));
    }
    list(page, &view.notes);
    let _ =
        write!(page, "<div class=\"scroll\">{}</div>\n<details><summary>All figures</summary>\n", graph::draw(view));
    page.push_str("<div class=\"scroll\"><table>\n<thead><tr><th>Step</th><th class=\"n\">Rows</th><th>What</th></tr></thead>\n<tbody>\n");
    view.steps.iter().for_each(|step| rows(page, step));
    page.push_str("</tbody>\n</table></div></details>\n");
    section(page, "Negations", &lines::negations(view));
    section(page, "The same people within a week", &lines::overlaps(view));
    section(page, "Next starts", &[vec![view.schedule.words.clone()], view.schedule.next.clone()].concat());
    if !view.samples.is_empty() {
        page.push_str("<h3>Messages</h3>\n");
    }
    for sample in &view.samples {
        let _ = writeln!(page, "<details open><summary>{}</summary>", escaped(&lines::sample(sample)));
        let has_changed = |lines: &&Vec<String>| lines.iter().any(|line| !line.starts_with(' '));
        match sample.difference.as_ref().filter(has_changed) {
            Some(lines) => {
                page.push_str("<pre>");
                for line in lines {
                    let _ = match line.chars().next() {
                        Some('+') => write!(page, "<ins>{}</ins>", escaped(line)),
                        Some('-') => write!(page, "<del>{}</del>", escaped(line)),
                        _ => writeln!(page, "{}", escaped(line)),
                    };
                }
                page.push_str("</pre>");
            }
            None if sample.problem.is_none() => {
                let _ = write!(page, "<pre>{}</pre>", escaped(&lines::message(sample)));
            }
            None => {}
        }
        page.push_str("</details>\n");
    }
}

fn rows(page: &mut String, step: &StepView) {
    let what = lines::step(step);
    let mut row = |name: &str, n: &Tally, unit: &str, what: &str| {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escaped(name),
            unit_tally(n, unit),
            escaped(what)
        );
    };
    for output in &step.outputs {
        row(&output.name, &output.rows, &output.entity, &what);
    }
    if let Some(left) = &step.left {
        row(&format!("{} leaves out", step.name), left, "", "");
    }
    if let Some(messages) = &step.messages {
        row(&step.name, &messages.entered, "enter", &what);
        for excluded in &messages.excluded {
            row("", &excluded.rows, "", &format!("{}: {}", excluded.reason, excluded.words));
        }
        row("", &messages.sent, lines::noun(&messages.sent), "");
        if let Some(cost) = &messages.cost {
            let (amount, words) = (escaped(&cost.amount), escaped(&cost.words));
            let _ = writeln!(page, "<tr><td></td><td class=\"n\">{amount}</td><td>{words}</td></tr>");
        }
    }
}

fn tally(tally: &Tally) -> String {
    unit_tally(tally, "")
}

fn unit_tally(tally: &Tally, unit: &str) -> String {
    let changes: String = tally.changes().iter().map(|change| format!("<small>{}</small>", escaped(change))).collect();
    format!("{} {}{changes}", escaped(&tally.now.to_string()), escaped(unit))
}

fn section(page: &mut String, title: &str, items: &[String]) {
    if !items.is_empty() {
        let _ = writeln!(page, "<h3>{title}</h3>");
        list(page, items);
    }
}

fn list(page: &mut String, items: &[String]) {
    if items.is_empty() {
        return;
    }
    page.push_str("<ul>\n");
    for item in items {
        let _ = writeln!(page, "<li>{}</li>", coded(item));
    }
    page.push_str("</ul>\n");
}

/// Words in which what stands between backticks is code.
fn coded(text: &str) -> String {
    let mut out = String::new();
    let parts: Vec<&str> = text.split('`').collect();
    for (index, part) in parts.iter().enumerate() {
        let is_code = index % 2 == 1 && index + 1 < parts.len();
        let part = escaped(part);
        out.push_str(&if is_code { format!("<code>{part}</code>") } else { part });
    }
    out
}

/// For a text or an attribute of HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

use super::{format::ical, *};

const HEAD: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    fields: [{name: id, type: Integer}, {name: email, type: String}]
  profile: {entity: person, addresses: {email: email}}
  topics: [{name: news, category: Transactional}]
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: out}
spec: {outbox: {}}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: other}
spec: {outbox: {}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec: {email: {subject: Hello, text: Hello}}
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: kept}
spec: {dataset: town, entity: person, where: 'person.id > 1', refresh: {cron: "30 9 * * *", timeZone: Europe/Rome}}
"#;

const STEPS: &str = "  steps:\n  - name: all\n    audience: {entity: person, where: 'true'}\n  - name: mail\n    email: {channel: out, template: hello}\n";

fn campaign(name: &str, schedule: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: campanile.dev/v1alpha1\nkind: Campaign\nmetadata: {{name: {name}}}\nspec:\n  dataset: town\n  topic: news\n  schedule: {{{schedule}}}\n{rest}"
    )
}

fn rome(cron: &str) -> String {
    format!("cron: \"{cron}\", timeZone: Europe/Rome")
}

fn calendar(campaigns: &[String], from: &str, to: &str) -> Calendar {
    let tree = tree(campaigns);
    let window = Window { from: from.parse().unwrap(), to: to.parse().unwrap(), takes: None };
    Calendar::of(&tree, window, None).unwrap()
}

fn tree(campaigns: &[String]) -> Tree {
    let tree = Tree::of_files([("a.yaml".into(), (HEAD.to_owned() + &campaigns.concat()).into_bytes())]);
    let errors: Vec<String> = tree.errors().iter().map(ToString::to_string).collect();
    assert_eq!(errors, Vec::<String>::new());
    tree
}

/// What happens, one line each.
fn lines(calendar: &Calendar) -> Vec<String> {
    let line = |entry: &Entry| {
        let at = entry.at.to_zoned(entry.zone.clone()).strftime("%m-%d %H:%M %Z").to_string();
        format!("{at} {} {} {}", entry.campaign.name, format::words(entry), format::notes(entry).join("; "))
    };
    calendar.entries.iter().map(line).map(|line| line.trim().to_owned()).collect()
}

fn troubles(calendar: &Calendar) -> Vec<String> {
    calendar.conflicts.iter().map(|c| format!("{} {}", c.trouble, c.count)).collect()
}

#[test]
fn daylight_saving_both_ways() {
    let night = [campaign("night", &rome("30 2 * * *"), STEPS)];
    assert_eq!(
        lines(&calendar(&night, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z")),
        [
            "03-28 02:30 CET night starts",
            "03-29 03:00 CEST night starts 02:30 does not exist on this day",
            "03-30 02:30 CEST night starts",
        ]
    );
    assert_eq!(
        lines(&calendar(&night, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z")),
        [
            "10-25 02:30 CEST night starts its time comes twice on this day: the first one",
            "10-26 02:30 CET night starts",
        ]
    );
}

#[test]
fn the_ends_are_in_and_what_starts_once_starts_once() {
    let campaigns = [
        campaign("at", "at: 2026-01-01T00:00:00Z", STEPS),
        campaign("past", "at: 2025-12-31T23:59:59Z", STEPS),
        campaign("end", "cron: \"0 0 3 1 *\", timeZone: UTC", STEPS),
        campaign("now", "immediate: {notAfter: 2026-01-02T00:00:00Z}", STEPS),
        campaign("over", "immediate: {notAfter: 2025-12-02T00:00:00Z}", STEPS),
        campaign("paused", "cron: \"0 0 3 1 *\", timeZone: UTC", &format!("  suspend: true\n{STEPS}")),
    ];
    let found = calendar(&campaigns, "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z");
    assert_eq!(
        lines(&found),
        [
            "01-01 00:00 UTC at starts",
            "01-01 00:00 UTC now starts as soon as it is seen, until 2026-01-02 00:00 UTC",
            "01-03 00:00 UTC end starts",
        ]
    );
    let quiet: Vec<String> = found.quiet.iter().map(|(key, why)| format!("{}: {why}", key.name)).collect();
    assert_eq!(
        quiet,
        ["over: starts at no time in between", "past: starts at no time in between", "paused: suspended"]
    );
    // What a store remembers starts no more.
    let ran = Memory { has_run: true, ..Memory::default() };
    let memory = BTreeMap::from([(Key::new(crate::source::Kind::Campaign, "default", "at"), ran)]);
    let window = found.window;
    let found = Calendar::of(&tree(&campaigns), window, Some(&memory)).unwrap();
    assert!(found.quiet.iter().any(|(key, why)| key.name == "at" && why == "has run, and starts once"));
    assert_eq!(found.entries[0].event, Event::Start(Size::Unknown("it has never run".to_owned())));
}

#[test]
fn a_run_goes_on_behind_its_waits() {
    let steps = concat!(
        "  steps:\n  - name: all\n    audience: {entity: person, where: 'true'}\n  - name: first\n    email: {channel: out, template: hello}\n",
        "  - name: days\n    from: all\n    wait: {for: 2d}\n  - name: morning\n    wait: {timeOfDay: {at: \"09:00\", timeZone: Europe/Rome}}\n",
        "  - name: second\n    email: {channel: other, template: hello}\n",
    );
    let found = calendar(
        &[campaign("series", "at: 2026-03-27T10:00:00Z", steps)],
        "2026-03-27T00:00:00Z",
        "2026-04-01T00:00:00Z",
    );
    assert_eq!(
        lines(&found),
        [
            "03-27 10:00 UTC series starts",
            "03-29 10:00 UTC series goes on behind days of the run of Fri 2026-03-27 10:00 UTC",
            "03-30 07:00 UTC series goes on behind morning of the run of Fri 2026-03-27 10:00 UTC",
        ]
    );
    let channels: Vec<String> = found.entries.iter().map(format::channels).collect();
    assert_eq!(channels, ["out", "", "other"]);
    // What started before goes on in between.
    let campaigns = [
        campaign("series", "at: 2026-03-27T10:00:00Z", steps),
        campaign("weekly", "cron: \"0 10 * * FRI\", timeZone: UTC", steps),
    ];
    let found = calendar(&campaigns, "2026-03-30T00:00:00Z", "2026-03-30T12:00:00Z");
    assert_eq!(
        lines(&found),
        [
            "03-30 07:00 UTC series goes on behind morning of the run of Fri 2026-03-27 10:00 UTC",
            "03-30 07:00 UTC weekly goes on behind morning of the run of Fri 2026-03-27 10:00 UTC",
        ]
    );
}

#[test]
fn a_run_that_still_works_is_minded() {
    let overlap = |overlap: &str, wait: &str| {
        let steps =
            STEPS.replace("  - name: mail\n", &format!("  - name: pause\n    wait: {{for: {wait}}}\n  - name: mail\n"));
        let schedule = format!("cron: \"0 */2 1 1 *\", timeZone: UTC, overlap: {overlap}");
        let found = calendar(&[campaign("c", &schedule, &steps)], "2026-01-01T00:00:00Z", "2026-01-01T06:00:00Z");
        let starts = lines(&found).into_iter().filter(|line| !line.contains("goes on"));
        (starts.map(|line| line[6..].to_owned()).collect::<Vec<_>>(), troubles(&found))
    };
    // Two hours of pause and one of sending.
    let (found, trouble) = overlap("Forbid", "2h");
    assert_eq!(
        found,
        [
            "00:00 UTC c starts",
            "02:00 UTC c is skipped the run of Thu 2026-01-01 00:00 UTC still works",
            "04:00 UTC c starts",
            "06:00 UTC c is skipped the run of Thu 2026-01-01 04:00 UTC still works",
        ]
    );
    assert_eq!(trouble, ["`c` does not start, as its earlier run still works 2"]);
    let (found, _) = overlap("Replace", "2h");
    assert_eq!(found[1], "02:00 UTC c starts cancels the run of 2026-01-01 00:00 UTC");
    let (found, _) = overlap("Queue", "90m");
    assert_eq!(found[1], "02:30 UTC c starts waits for the run of 2026-01-01 00:00 UTC");
    let (found, trouble) = overlap("Queue", "4h");
    assert_eq!(found[1], "02:00 UTC c is missed waits for the run of 2026-01-01 00:00 UTC");
    assert_eq!(trouble.len(), 1);
}

#[test]
fn conflicts_are_told_once_with_how_often() {
    let other = STEPS.replace("channel: out", "channel: other");
    let kept = STEPS.replace("{entity: person, where: 'true'}", "{ref: kept}");
    let campaigns = [
        campaign("a", &rome("0 9 * * *"), STEPS),
        campaign("b", &rome("30 9 * * *"), STEPS),
        campaign("c", &rome("59 8 * * *"), &other),
        campaign("d", &rome("0 9 * * MON"), &kept),
        campaign("e", &rome("45 9 * * MON"), &kept),
    ];
    let found = calendar(&campaigns[..3], "2026-01-05T00:00:00Z", "2026-01-08T00:00:00Z");
    assert_eq!(
        troubles(&found),
        [
            "`a` and `c` begin within an hour to people of `town` 3",
            "`a` and `b` begin within an hour over `out` to people of `town` 3",
            "`b` and `c` begin within an hour to people of `town` 3",
        ]
    );
    let found = calendar(&campaigns[3..], "2026-01-05T00:00:00Z", "2026-01-08T00:00:00Z");
    let early = "`d` reads audience `kept` within the hour before it is refreshed 1";
    assert_eq!(troubles(&found), [early, "`d` and `e` begin within an hour over `out` to people of `town` 1"]);
    assert_eq!((found.refreshes[0].audience.name.as_str(), found.refreshes[0].count), ("kept", 3));
}

#[test]
fn limits_are_said() {
    let tree = tree(&[campaign("often", "cron: \"* * * * *\", timeZone: UTC", STEPS)]);
    let said = |from: &str, to: &str| {
        let window = Window { from: from.parse().unwrap(), to: to.parse().unwrap(), takes: Some(SignedDuration::ZERO) };
        Calendar::of(&tree, window, None).map(|calendar| calendar.entries.len()).map_err(|e| e.to_string())
    };
    assert_eq!(said("2026-01-01T00:00:00Z", "2026-01-01T00:59:59Z"), Ok(60));
    assert_eq!(
        said("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z").unwrap_err(),
        "there are more than 10000 starts; campaign `often` has most of them"
    );
    assert_eq!(said("2026-01-01T00:00:00Z", "2027-06-01T00:00:00Z").unwrap_err(), "a calendar has at most 400 days");
    assert_eq!(said("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z").unwrap_err(), "the end is not after the beginning");
}

/// The unfolded lines, after checking that each is short and ended as RFC 5545 says.
fn unfolded(text: &str) -> Vec<String> {
    let mut lines = vec![];
    assert!(text.ends_with("\r\n") && !text.replace("\r\n", "").contains(['\r', '\n']));
    for line in text.split_terminator("\r\n") {
        assert!(line.len() <= 75, "{line}");
        match line.strip_prefix(' ') {
            Some(more) => lines.last_mut().map(|last: &mut String| last.push_str(more)).unwrap(),
            None => lines.push(line.to_owned()),
        }
    }
    lines
}

#[test]
fn icalendar_as_rfc_5545_has_it() {
    let steps = STEPS.replace("name: mail", "name: mail-with-a-name-that-is-long-enough-to-be-folded");
    let campaigns = [campaign("night", &rome("30 2 * * *"), &steps)];
    let mut found = calendar(&campaigns, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
    found.entries[0].notes.push("Zoë, Noël; \\ and more: ".to_owned() + &"ééé ".repeat(40));
    let lines = unfolded(&ical::write(&found, "2026-01-02T03:04:05Z".parse().unwrap()));
    assert_eq!((lines.first().unwrap().as_str(), lines.last().unwrap().as_str()), ("BEGIN:VCALENDAR", "END:VCALENDAR"));
    assert!(lines.contains(&"VERSION:2.0".to_owned()) && lines.iter().any(|line| line.starts_with("PRODID:")));
    let starts: Vec<&String> = lines.iter().filter(|line| line.starts_with("DTSTART:")).collect();
    // 03:00 CEST, in the hour that is skipped, and 02:30 CEST the day after.
    assert_eq!(starts, ["DTSTART:20260329T010000Z", "DTSTART:20260330T003000Z"]);
    let mut uids: Vec<&String> = lines.iter().filter(|line| line.starts_with("UID:")).collect();
    uids.dedup();
    assert_eq!(uids.len(), 2);
    for wanted in ["DTSTAMP:20260102T030405Z", "DURATION:PT3600S", "SUMMARY:night starts", "STATUS:CONFIRMED"] {
        assert_eq!(lines.iter().filter(|line| *line == wanted).count(), 2, "{wanted}");
    }
    let about = lines.iter().find(|line| line.starts_with("DESCRIPTION:")).unwrap();
    assert!(
        about.contains("Zoë\\, Noël\\; \\\\ and more: ééé") && about.contains("Channels: out\\nSize: unknown"),
        "{about}"
    );
    assert_eq!(lines.iter().filter(|line| *line == "BEGIN:VEVENT").count(), 2);
}

#[test]
fn the_page_needs_nothing_else_and_shows_names_as_text() {
    let campaigns = [campaign("a", &rome("0 9 * * *"), STEPS), campaign("b", &rome("30 9 * * *"), STEPS)];
    let mut found = calendar(&campaigns, "2026-01-05T00:00:00Z", "2026-02-08T00:00:00Z");
    found.entries[0].notes.push("<script>alert(1)</script>".to_owned());
    let page = format::html::write(&found, None);
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
    for outside in ["http:", "https:", "url(", "@import", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<div class=\"lane\">").count(), 2);
    assert_eq!(page.matches("<tr>").count() - 1, found.entries.len());
}

//! The corpus of bounces, complaints and what looks like them: each is told right, and the table in the docs is made of it.

use std::{collections::BTreeSet, fs};

use campanile::feedback::mail::{What, read};
use proptest::prelude::*;

use crate::home::repository;

const REFERENCE: &str = "1.3.42.0123456789ab.0123456789abcdef";
const DOCS: &str = "docs/feedback.md";
const MARKS: [&str; 2] = ["<!-- corpus: made by tests/it/bounces.rs -->\n", "<!-- end of corpus -->"];

struct Expected {
    file: String,
    system: String,
    /// What is told, the class, the status, the recipient, whether it names the message; `-` for nothing.
    told: [String; 5],
}

fn expected() -> Vec<Expected> {
    let text = fs::read_to_string(repository().join("tests/bounces/expected.tsv")).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    rows.map(|row| {
        let [file, system, told @ ..] = <[String; 7]>::try_from(row).unwrap();
        Expected { file, system, told }
    })
    .collect()
}

fn raw(file: &str) -> Vec<u8> {
    fs::read(repository().join("tests/bounces").join(file)).unwrap()
}

fn told(raw: &[u8]) -> [String; 5] {
    let told = read(raw);
    let none = || "-".to_owned();
    let (what, class, status) = match &told.what {
        What::Bounced { class, status } => {
            ("Bounced", class.as_str().to_owned(), status.map_or_else(none, |status| status.to_string()))
        }
        What::Delayed => ("Delayed", none(), none()),
        What::Delivered => ("Delivered", none(), none()),
        What::Complained => ("Complained", none(), none()),
        What::Answered => ("Answered", none(), none()),
        What::Noted => ("Noted", none(), none()),
        What::Unknown => ("Unknown", none(), none()),
    };
    let names = if told.references.iter().any(|text| text == REFERENCE) { "yes" } else { "no" };
    [what.to_owned(), class, status, told.recipient.unwrap_or_else(none), names.to_owned()]
}

#[test]
fn each_is_told_right() {
    let all = expected();
    assert!(all.len() >= 40, "{}", all.len());
    let wrong: Vec<String> = all
        .iter()
        .filter_map(|of| {
            let told = told(&raw(&of.file));
            (told != of.told).then(|| format!("{}: {} instead of {}", of.file, told.join(" "), of.told.join(" ")))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let listed: BTreeSet<String> = all.into_iter().map(|of| of.file).collect();
    let there = fs::read_dir(repository().join("tests/bounces")).unwrap();
    let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.filter(|name| name.ends_with(".eml")).collect::<BTreeSet<_>>(), listed);
}

/// A table in Markdown. With `CAMPANILE_RECORD=1` it is written.
#[test]
fn the_table_in_the_docs_is_made_of_it() {
    let mut table = "| mail | of | tells | class | status | hard |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    for Expected { file, system, told: [what, class, status, ..] } in expected() {
        let hard = match campanile::feedback::mail::Class::named(&class) {
            Some(class) if class.is_hard() => "hard",
            Some(class) if class.is_soft() => "soft",
            _ => "",
        };
        let [class, status] = [class, status].map(|text| text.replace('-', ""));
        table += &format!("| {} | {system} | {what} | {class} | {status} | {hard} |\n", file.trim_end_matches(".eml"));
    }
    let path = repository().join(DOCS);
    let docs = fs::read_to_string(&path).unwrap();
    let (before, rest) = docs.split_once(MARKS[0]).expect(DOCS);
    let (old, after) = rest.split_once(MARKS[1]).expect(DOCS);
    if std::env::var_os("CAMPANILE_RECORD").is_some() {
        fs::write(&path, format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1])).unwrap();
        return;
    }
    assert_eq!(old, table, "CAMPANILE_RECORD=1 writes it");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_crash_it(bytes in proptest::collection::vec(any::<u8>(), 0..4_000)) {
        read(&bytes);
    }

    /// Mails of the corpus, cut, torn and with bytes changed.
    #[test]
    fn damaged_mails_never_crash_it(
        file in 0..40_usize,
        cut in 0..6_000_usize,
        changes in proptest::collection::vec((0..6_000_usize, any::<u8>()), 0..40),
        twice in any::<bool>(),
    ) {
        let all = expected();
        let mut bytes = raw(&all[file].file);
        for (at, byte) in changes {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        bytes.truncate(cut.max(1));
        if twice {
            bytes.extend_from_slice(&raw(&all[(file + 7) % 40].file));
        }
        read(&bytes);
    }
}

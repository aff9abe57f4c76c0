use super::*;

const TOWN: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    fields:
    - {name: id, type: Integer}
    - {name: email, type: String}
    - {name: name, type: String}
    - {name: age, type: Integer}
  - name: visit
    key: [id]
    fields: [{name: id, type: Integer}, {name: person_id, type: Integer}]
    links: [{name: person, to: person, keys: {person_id: id}, inverse: visits}]
  profile: {entity: person, addresses: {email: email}}
  topics: [{name: news, category: Transactional}]
  conditions: [{name: adult, entity: person, where: 'person.age >= 18'}]
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: out}
spec: {outbox: {}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec: {email: {subject: "Hello {{ person.name }}", text: "Dear {{ person.name }}"}}
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: adults}
spec: {dataset: town, entity: person, where: 'person.adult && person.visits.size() > 1'}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: greet}
spec:
  dataset: town
  topic: news
  schedule: {cron: "0 9 * * *", timeZone: Europe/Rome}
  steps:
  - name: all
    audience: {ref: adults}
  - name: mail
    email: {channel: out, template: hello}
"#;

/// What is said of the town with some mistakes, one line each.
fn said(mistakes: &[(&str, &str)]) -> Vec<String> {
    let mut town = TOWN.to_owned();
    for (from, to) in mistakes {
        assert!(town.contains(from), "{from}");
        town = town.replacen(from, to, 1);
    }
    let tree = Tree::of_files([("town.yaml".into(), town.into_bytes())]);
    tree.errors().iter().map(|d| format!("[{}] {}", d.id, d.one_line())).collect()
}

#[test]
fn nothing_is_wrong_with_the_town() {
    assert_eq!(said(&[]), Vec::<String>::new());
}

#[test]
fn one_mistake_in_the_dataset_is_said_once_and_hides_no_other() {
    insta::assert_debug_snapshot!(
        "a field of an unknown type",
        said(&[
            ("name: name, type: String", "name: name, type: Strin"),
            ("{ref: adults}", "{ref: adult}"),
            ("{{ person.name }}\", text", "{{ person.nmae }}\", text"),
            ("visits.size()", "visit.size()"),
        ])
    );
    insta::assert_debug_snapshot!(
        "a link to nowhere",
        said(&[("to: person,", "to: persn,"), ("0 9 * * *", "0 9 31 2 *"), ("person.age >= 18", "person.aeg >= 18")])
    );
    insta::assert_debug_snapshot!(
        "no dataset at all",
        said(&[
            ("kind: Dataset", "kind: Datset"),
            ("person.adult &&", "person.adult &&&"),
            ("{channel: out", "{channel: in")
        ])
    );
}

#[test]
fn a_limit_that_cannot_be_read_is_wrong() {
    let source = |limits: &str| {
        let source =
            format!("    - {{name: age, type: Integer}}\n    source: {{files: {{url: a, format: CSV, {limits}}}}}");
        said(&[("    - {name: age, type: Integer}", &source)])
    };
    assert_eq!(source("maxDeletes: 2.5%, maxRejects: 10"), Vec::<String>::new());
    let wrong = source("maxDeletes: 2.5 %, maxRejects: many");
    assert_eq!(
        wrong,
        [
            "[invalid-spec] town.yaml:13:55: `2.5 %` is neither a number of rows nor a percent; write it as 500 or 2%",
            "[invalid-spec] town.yaml:13:74: `many` is neither a number of rows nor a percent; write it as 500 or 2%",
        ]
    );
}

#[test]
fn all_mistakes_are_said_not_the_first() {
    insta::assert_debug_snapshot!(
        "in one campaign",
        said(&[
            (
                "  - name: all\n    audience: {ref: adults}\n",
                concat!(
                    "  - name: all\n    audience: {entity: person, where: 'person.nam == \"x\" && person.aeg > 1 || person.name > 2'}\n",
                    "  - name: others\n    audience: {ref: nobody}\n",
                    "  - name: left\n    audience: {ref: adults}\n",
                    "  - name: both\n    union: {of: [all, lfet]}\n",
                )
            ),
            ("Europe/Rome", "Europe/Roma"),
            ("  - name: mail\n", "  - name: mail\n    from: left\n"),
            ("template: hello}", "template: hello, to: person.age}"),
            ("topic: news\n", "topic: nws\n"),
        ])
    );
}

#[test]
fn a_circle_is_said_once() {
    let circle = concat!(
        "spec: {dataset: town, entity: person, where: 'person in audience(\"a\")'}\n---\n",
        "apiVersion: campanile.dev/v1alpha1\nkind: Audience\nmetadata: {name: a}\n",
        "spec: {dataset: town, entity: person, where: 'person in audience(\"b\")'}\n---\n",
        "apiVersion: campanile.dev/v1alpha1\nkind: Audience\nmetadata: {name: b}\n",
        "spec: {dataset: town, entity: person, union: [{ref: a}, {ref: adults}]}\n",
    );
    let spec = "spec: {dataset: town, entity: person, where: 'person.adult && person.visits.size() > 1'}\n";
    assert_eq!(
        said(&[(spec, circle)]),
        [
            "[circle] town.yaml:44:53: the audiences go in a circle: a -> b -> a",
            "[circle] town.yaml:44:63: the audiences go in a circle: a -> b -> adults -> a",
        ]
    );
    assert_eq!(
        said(&[(
            "conditions: [",
            "conditions: [{name: a, entity: person, where: person.b}, {name: b, entity: person, where: person.a}, {name: c, entity: person, where: person.a}, "
        )]),
        ["[circle] town.yaml:19:56: the conditions go in a circle: person.a -> person.b -> person.a"]
    );
}

#[test]
fn two_paths_that_overlap_are_read_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("sub/town.yaml"), TOWN).unwrap();
    let tree = Tree::read(&[folder.path().to_owned(), folder.path().join("sub"), folder.path().join("sub/town.yaml")]);
    assert_eq!((tree.errors().len(), tree.manifests().len()), (0, 5));
    assert!(tree.is_sound(&Key::new(Kind::Campaign, "default", "greet")));
}

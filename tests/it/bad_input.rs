//! Bad input gets a clear error, with its place, and nothing is lost.

use std::fmt::Write;

use crate::home::{Home, lawful, people, people_manifests};

const CRON: &str = "  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Rome}";

/// The manifests with one mistake, and what is said of it.
fn said(manifest: &str) -> (i32, String) {
    let home = Home::new();
    home.write("town/town.yaml", manifest);
    home.write("town/data/people.csv", &people(2));
    let ran = home.run(&["town"]);
    let root = format!("{}/", home.path().canonicalize().unwrap().display());
    (ran.code, ran.err.replace(&root, ""))
}

#[test]
fn each_mistake_in_a_manifest_is_shown_at_its_place() {
    let good = people_manifests(CRON, "person.id > 0");
    let mistakes = [
        ("a rule naming an unknown field", "person.id > 0", "person.nam > 0"),
        ("a rule of the wrong type", "person.id > 0", "person.name > 0"),
        ("a rule that is none", "person.id > 0", "person.id >"),
        ("a template with an unknown field", "Hello {{ person.name }}", "Hello {{ person.nmae }}"),
        ("a template that is none", "Hello {{ person.name }}", "Hello {{ person.name"),
        ("a template with an unknown entity", "Hello {{ person.name }}", "Hello {{ customer.name }}"),
        ("a step that reads itself", "  - name: mail\n", "  - name: mail\n    from: mail\n"),
        ("a missing reference", "template: hello}", "template: helo}"),
        (
            "an output nobody reads",
            "  - name: mail\n",
            "  - name: other\n    audience: {entity: person, where: \"true\"}\n  - name: mail\n    from: all\n",
        ),
        ("a cron that never fires", "0 9 * * *", "0 9 31 2 *"),
        ("an unknown time zone", "Europe/Rome", "Europe/Roma"),
        ("an unknown field", "  topic: news", "  topik: news"),
        ("an unknown activity", "    email: {channel", "    emial: {channel"),
        ("an unknown topic", "  topic: news", "  topic: nws"),
        (
            "a word that kubectl reads as a boolean",
            "metadata: {name: greet}",
            "metadata: {name: greet, labels: {country: NO}}",
        ),
        (
            "a key that kubectl reads as a boolean",
            "metadata: {name: greet}",
            "metadata: {name: greet, annotations: {y: \"1\"}}",
        ),
        ("a missing field", "    key: [id]\n", ""),
        ("a rule of the schema", "timeZone: Europe/Rome", "overlap: Queue"),
        (
            "two objects with one name",
            "metadata: {name: out}\nspec: {outbox: {}}",
            "metadata: {name: out}\nspec: {outbox: {}}\n---\napiVersion: campanile.dev/v1alpha1\nkind: Channel\nmetadata: {name: out}\nspec: {outbox: {}}",
        ),
        ("an unknown kind", "kind: MessageTemplate", "kind: MessageTemplat"),
        (
            "an unknown version",
            "apiVersion: campanile.dev/v1alpha1\nkind: Campaign",
            "apiVersion: campanile.dev/v1\nkind: Campaign",
        ),
        ("a tab", "  topic: news", "\ttopic: news"),
    ];
    let mut report = String::new();
    for (what, from, to) in mistakes {
        assert!(good.contains(from), "{what}");
        let (code, said) = said(&good.replacen(from, to, 1));
        assert_eq!(code, 2, "{what}: {said}");
        let shown: Vec<&str> = said.lines().filter(|l| !l.starts_with("not ready:") && !l.contains(" WARN ")).collect();
        writeln!(report, "# {what}\n{}\n", shown.join("\n")).unwrap();
    }
    insta::assert_snapshot!(report);
}

#[test]
fn a_file_with_a_wrong_header_or_encoding_is_said_with_its_name() {
    for (bytes, wanted) in [
        (
            b"id,mail\n1,a@b.c\n".to_vec(),
            "data/people.csv: line 1: the header has no column email, name, news, news_at, updated_at",
        ),
        (people(1).replace("email", "id").into_bytes(), "data/people.csv: line 1: the header names column `id` twice"),
    ] {
        let home = Home::new();
        home.write("town/town.yaml", &people_manifests("", "true"));
        home.write("town/data/people.csv", "");
        std::fs::write(home.path().join("town/data/people.csv"), bytes).unwrap();
        assert_eq!(home.run(&["town"]).code, 1);
        let (_, reason, message) = home.ready("dataset", "town");
        assert_eq!((reason.as_str(), message.as_str()), ("FileRefused", wanted));
    }
    // Single rows are rejects, and the rest of the file is in.
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests("", "true"));
    home.write("town/data/people.csv", "");
    let mut bytes = people(1).into_bytes();
    bytes.extend(b"2,b@b.c,\xff\xfe,t,,\n3,c@b.c,a\0b,t,,\n");
    std::fs::write(home.path().join("town/data/people.csv"), bytes).unwrap();
    assert_eq!(home.run(&["town"]).code, 0);
    let status = home.get("dataset", "town")["status"].clone();
    assert_eq!((&status["rows"], &status["rejected"]), (&1.into(), &2.into()));
}

#[test]
fn an_address_with_a_line_break_is_one_excluded_recipient() {
    let home = Home::new();
    let schedule = "  schedule: {immediate: {}}";
    home.write("town/town.yaml", &people_manifests(schedule, "true").replace("topic: news", "topic: service"));
    let head = "id,email,name,news,news_at,updated_at\n";
    let rows = "1,\"a@b.c\r\nBcc: evil@b.c\",x,t,,\n2,a b@c.d,x,t,,\n3,\u{fc}@b.c,x,t,,\n4,ok@b.c,\"Bob\r\nBcc: evil@b.c\",t,,\n5, ,x,t,,\n";
    home.write("town/data/people.csv", &format!("{head}{rows}"));
    assert_eq!(home.run(&["town"]).code, 0);
    let channel = home.get("campaignrun", "greet-immediate")["status"]["channels"][0].clone();
    assert_eq!(
        (&channel["sent"], &channel["reasons"]["MalformedAddress"], &channel["reasons"]["NoAddress"]),
        (&1.into(), &3.into(), &1.into())
    );
    let text = std::fs::read_to_string(&home.outbox()[0]).unwrap();
    let (headers, _) = text.split_once("\r\n\r\n").unwrap();
    assert!(headers.contains("Subject: Hello Bob Bcc: evil@b.c\r\n") && !headers.contains("\nBcc:"), "{text}");
}

#[test]
fn an_empty_audience_is_a_run_without_recipients() {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests("  schedule: {immediate: {}}", "person.id > 99"));
    home.write("town/data/people.csv", &people(2));
    assert_eq!(home.run(&["town"]).code, 0);
    let run = home.get("campaignrun", "greet-immediate");
    assert_eq!(
        (&run["status"]["totals"]["entered"], home.ready("campaignrun", "greet-immediate").1.as_str()),
        (&0.into(), "Completed")
    );
}

#[test]
fn the_call_itself_is_checked() {
    let home = Home::new();
    let ran = home.run(&["nowhere"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("nowhere: No such file or directory"), "{}", ran.err);
    let ran = home.call(&["get", "campagins"]);
    assert!(ran.code == 2 && ran.err.contains("did you mean `campaigns`?"), "{}", ran.err);
    home.write("town/town.yaml", &people_manifests("", "true"));
    assert_eq!(home.run(&["town", "--deliver", "LIVE"]).code, 2);
    assert_eq!(home.run(&["town", "--store", "mysql://x"]).code, 1);
}

#[test]
fn one_run_per_store() {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests("", "true"));
    home.write("town/data/people.csv", &people(2));
    assert_eq!(home.run(&["town"]).code, 0);
    let lock = std::fs::File::options().write(true).open(home.path().join(".campanile/lock")).unwrap();
    lock.lock().unwrap();
    let ran = home.run(&["town"]);
    assert!(ran.code == 2 && ran.err.contains("another `campanile run` works on this store"), "{}", ran.err);
    assert_eq!(home.call(&["get", "campaigns"]).code, 0);
}

#[test]
fn a_secret_that_is_missing_holds_the_messages() {
    let home = Home::new();
    let smtp = "spec: {email: {from: a@example.com, smtp: {host: 127.0.0.1, port: 1, tls: None, secretRef: {name: smtp-login}}}}";
    home.write("town/town.yaml", &lawful(&people_manifests("", "true").replace("spec: {outbox: {}}", smtp)));
    home.write("town/data/people.csv", &people(2));
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.call(&["trigger", "greet", "--name", "r"]).code, 0);
    let _running = home.spawn(&["run", "town", "--deliver", "live"], "log");
    let end = std::time::Instant::now() + crate::home::PATIENCE;
    while !home.read("log").contains("there is no Secret `smtp-login`") {
        assert!(std::time::Instant::now() < end, "{}", home.read("log"));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let status = home.get("campaignrun", "r")["status"].clone();
    assert_eq!(status["totals"]["waiting"], status["totals"]["entered"]);
}

#[test]
fn a_store_that_is_gone_read_only_or_none_is_said() {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests("", "true"));
    home.write("town/data/people.csv", &people(2));
    home.write("letter.db", &"Dear store, ".repeat(1000));
    assert_eq!(home.run(&["town"]).code, 0);
    for (store, words) in [
        ("postgres://nobody@127.0.0.1:1/none", "Connection refused"),
        ("sqlite://.campanile/store.db?mode=ro", "attempt to write a readonly database"),
        ("sqlite://letter.db", "file is not a database"),
        ("mysql://somewhere", "a store is sqlite://PATH or postgres://USER@HOST/DATABASE"),
    ] {
        let ran = home.run(&["town", "--store", store]);
        assert!(ran.code != 0 && ran.err.contains(words), "{store}: {ran:?}");
    }
}

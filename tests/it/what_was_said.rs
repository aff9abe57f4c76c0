//! What was said to whom can be shown again, byte for byte, whatever has changed since.

use std::fs;

use crate::{
    home::{Home, people, people_manifests},
    world::Postgres,
};

fn write(home: &Home, record: &str) {
    let text = people_manifests("  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}", "true")
        .replace("template: hello}", &format!("template: hello{record}}}"))
        .replace("spec: {outbox: {}}", "spec: {outbox: {}, publicUrl: \"https://mail.example.com\"}")
        .replace("text: \"Dear", "text: \"{{ now }} {{ run.name }} {{ unsubscribe_url }} Dear");
    home.write("town/town.yaml", &text);
}

fn everybody_is_shown_as_sent(home: &Home, url: &str, count: usize) {
    let sent = home.outbox();
    assert_eq!(sent.len(), count);
    for path in sent {
        let mail = fs::read(&path).unwrap();
        let to = String::from_utf8_lossy(&mail).lines().find(|l| l.starts_with("To: ")).unwrap().to_owned();
        let id = to.strip_prefix("To: p").and_then(|rest| rest.split('@').next()).unwrap().to_owned();
        let shown = home.command(&["render", "--run", "greet-immediate", &id, "--store", url]).output().unwrap();
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        assert_eq!(String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&mail), "{}", path.display());
    }
}

fn said_and_changed(home: &Home, url: &str) {
    write(home, "");
    home.write("town/data/people.csv", &people(5).replace("Person 3", "Zoë \"Q\" d'Été"));
    assert_eq!(home.run(&["town", "--store", url, "--now", "2026-03-01T09:00:00Z"]).code, 0);
    everybody_is_shown_as_sent(home, url, 5);
    // Everybody is called something else now, and the template says something else.
    let changed = people(5).replace("Person", "Somebody").replace(",2026-01-01T00:00:00Z\n", ",2026-04-01T00:00:00Z\n");
    home.write("town/data/later.csv", &changed);
    home.write("town/town.yaml", &home.read("town/town.yaml").replace("Hello", "Goodbye"));
    assert_eq!(home.run(&["town", "--store", url, "--now", "2026-04-02T09:00:00Z"]).code, 0);
    everybody_is_shown_as_sent(home, url, 5);
    let unknown = home.call(&["render", "--run", "greet-immediate", "77", "--store", url]);
    assert_eq!((unknown.code, unknown.out.as_str()), (2, ""), "{unknown:?}");
}

#[test]
fn a_message_is_shown_as_it_was_sent_on_sqlite() {
    said_and_changed(&Home::new(), "sqlite://.campanile/store.db");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_shown_as_it_was_sent_on_postgres() {
    let postgres = Postgres::start().await.unwrap();
    said_and_changed(&Home::new(), &postgres.database().await.unwrap());
}

#[tokio::test]
async fn nothing_personal_is_kept_where_the_step_says_so() {
    for record in [", record: Hash", ", record: None"] {
        let home = Home::new();
        write(&home, record);
        home.write("town/data/people.csv", &people(2));
        let url = "sqlite://.campanile/store.db";
        assert_eq!(home.run(&["town"]).code, 0);
        let file = format!("sqlite://{}", home.path().join(".campanile/store.db").display());
        let store = campanile::store::Store::open(&file).await.unwrap();
        let sql = campanile::store::Sql::new("SELECT coalesce(said, '') FROM attempt");
        let said: String = store.fetch_one(sql).await.unwrap().unwrap().get(0).unwrap();
        assert_eq!(said.is_empty(), record.contains("None"), "{said}");
        assert!(!said.contains("example.com") && !said.contains("Person"), "{said}");
        let shown = home.call(&["render", "--run", "greet-immediate", "1", "--store", url]);
        assert!(shown.code == 2 && shown.err.contains("kept nothing"), "{shown:?}");
        store.close().await;
    }
}

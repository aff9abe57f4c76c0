//! `campanile forget KEY`, on both stores: counts stay true, what waits is not sent, tomorrow's file brings nobody back, and
//! no table of the store holds what was hers.

use campanile::store::event::EventType;
use serde_json::{Value, json};

use crate::{
    consent_elsewhere::{http, listening},
    consent_over_time::{link, sent_at, with_links},
    either::Place,
    home::{PATIENCE, assert_conserved},
    whole_history::{record, store_of},
    world::until_true,
};

const HEAD: &str = "id,email,name,news,news_at,updated_at\n";

fn row(id: i64, name: &str) -> String {
    format!("{id},{name}@example.com,{name},t,2026-02-01T00:00:00Z,2026-02-01T00:00:00Z\n")
}

/// Every table of the store that holds one of the texts, whatever the case.
async fn tables_with(place: &Place, texts: &[&str]) -> Vec<String> {
    let columns = if place.url.is_some() {
        "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) || ' ' || quote_ident(column_name) \
         FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
    } else {
        "SELECT '\"' || m.name || '\" \"' || c.name || '\"' FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
    };
    let mut found = vec![];
    for column in place.ask(columns).await {
        let (table, name) = column.split_once(' ').unwrap();
        for text in texts {
            let sql = format!(
                "SELECT CAST(count(*) AS TEXT) FROM {table} WHERE lower(CAST({name} AS TEXT)) LIKE '%{}%'",
                text.to_lowercase()
            );
            if place.ask(&sql).await != ["0"] {
                found.push(format!("{column}: {text}"));
            }
        }
    }
    found
}

fn run_status(place: &Place, run: &str) -> Value {
    place.get("run", run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_erased_and_what_was_counted_stays() {
    for place in Place::both().await {
        with_links(&place, "");
        place.home.write("town/data/1.csv", &format!("{HEAD}{}{}", row(41, "Zita"), row(42, "Bob")));
        place.read();
        assert_eq!(sent_at(&place, "first", "2026-03-01T09:00:00Z"), (2, 0));
        let store = store_of(&place).await;
        record(&store, "41", EventType::Clicked, "2026-03-01T09:02:00Z", (Some("https://s.example/zita"), false)).await;
        store.close().await;
        let unsubscribe = link(&place, "Zita@example.com", 'u');
        let preferences = link(&place, "Zita@example.com", 'p');
        let before = run_status(&place, "first");
        let held = ["zita"];
        let there = tables_with(&place, &held).await;
        assert!(there.len() >= 4, "rows, words, links: {there:?}");

        let asked = place.call(&["forget", "41"]);
        assert!(asked.code == 2 && asked.err.contains("--yes"), "{asked:?}");
        let unknown = place.call(&["forget", "4242", "--yes"]);
        assert!(unknown.code == 2 && unknown.err.contains("nobody is known"), "{unknown:?}");
        let done = place.call(&["forget", "41", "--yes"]);
        assert_eq!(done.code, 0, "{done:?}");
        for part in ["1 row, 1 message, 1 entry of consent", "data", "default/greet/first", "backups"] {
            assert!(done.out.contains(part), "{part}: {}", done.out);
        }
        assert_eq!(tables_with(&place, &held).await, Vec::<String>::new());
        // Her key, where a column holds nothing else.
        let key = place
            .ask("SELECT item FROM ledger WHERE item = '41' OR profile = '41' UNION ALL SELECT profile FROM consent WHERE profile = '41' \
                  UNION ALL SELECT item FROM once_fence WHERE item = '41' UNION ALL SELECT CAST(id AS TEXT) FROM PERSON WHERE id = 41")
            .await;
        assert_eq!(key, Vec::<String>::new());
        assert_eq!(run_status(&place, "first")["status"]["totals"], before["status"]["totals"]);

        let told = place.call(&["person", "41", "-o", "json"]);
        assert_eq!(told.code, 0, "{told:?}");
        let told: Value = serde_json::from_str(&told.out).unwrap();
        assert!(told["isThere"] == false && told["erasedAt"].is_string(), "{told}");
        assert_eq!((told["fields"].clone(), told["addresses"].clone()), (json!([]), json!([])), "{told}");
        let message = &told["messages"][0];
        assert_eq!((&message["outcome"], &message["events"][0]["type"]), (&json!("Sent"), &json!("Clicked")), "{told}");
        assert_eq!(message["events"][0]["url"], Value::Null, "{told}");
        assert_eq!(told["consent"][0]["source"], "erased", "{told}");

        // Tomorrow's export has her again, and a delete of her that names her key.
        let more = "id,email,name,news,news_at,updated_at,_change_request_type\n";
        let again = "41,Zita@example.com,Zita,t,2026-03-02T00:00:00Z,2026-03-02T00:00:00Z,u\n41,,,,,2026-03-03T00:00:00Z,d\n\
                     43,Cleo@example.com,Cleo,t,2026-03-02T00:00:00Z,2026-03-02T00:00:00Z,u\n";
        place.home.write("town/data/2.csv", &format!("{more}{again}"));
        place.read();
        assert_eq!(place.people().await, ["42 Bob", "43 Cleo"]);
        let entity = &place.status()["entities"][0];
        assert_eq!((&entity["erased"], &entity["rejected"]), (&json!(2), &json!(0)), "{entity}");
        // Her old links still answer, and bring nothing of her back.
        let (running, port) = listening(&place, "log", &["--now", "2026-03-03T08:00:00Z"]).await;
        assert_eq!(http(port, "POST", &unsubscribe, &[], "List-Unsubscribe=One-Click").0, 200);
        assert_eq!(http(port, "GET", &preferences, &[], "").0, 410);
        drop(running);
        assert_eq!(sent_at(&place, "second", "2026-03-03T09:00:00Z"), (2, 0));
        assert_eq!(tables_with(&place, &held).await, Vec::<String>::new());
        let key = place.ask("SELECT profile FROM consent WHERE profile = '41'").await;
        assert_eq!(key, Vec::<String>::new());
        // Again, it finds nothing more to do.
        let done = place.call(&["forget", "41", "--yes"]);
        assert!(done.code == 0 && done.out.contains("0 rows, 0 messages"), "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_person_is_not_sent_though_its_run_is_in_flight() {
    for place in Place::both().await {
        with_links(&place, "");
        let rows: String = (1..=9).map(|id| row(id, &format!("P{id}x"))).collect();
        place.home.write("town/data/1.csv", &format!("{HEAD}{rows}"));
        place.read();
        let running = place.spawn("log");
        assert_eq!(place.call(&["stop", "--channel", "out", "--reason", "a look at it"]).code, 0);
        assert_eq!(place.call(&["trigger", "greet", "--name", "waits"]).code, 0);
        let waiting = || run_status(&place, "waits")["status"]["totals"]["waiting"] == 9;
        until_true("what waits", PATIENCE, waiting).await.unwrap();
        // Beside the running home.
        let done = place.call(&["forget", "5", "--yes"]);
        assert!(done.code == 0 && done.out.contains("not sent: 1 message that waited"), "{done:?}");
        assert_eq!(tables_with(&place, &["p5x"]).await, Vec::<String>::new());
        assert_eq!(place.call(&["start", "--channel", "out"]).code, 0);
        let ended = || run_status(&place, "waits")["status"]["completedAt"].is_string();
        until_true("the end", PATIENCE, ended).await.unwrap();
        let run = run_status(&place, "waits");
        assert_conserved(&run);
        assert_eq!((&run["status"]["totals"]["sent"], &run["status"]["totals"]["excluded"]), (&json!(8), &json!(1)));
        assert_eq!(run["status"]["channels"][0]["reasons"]["Erased"], 1, "{run}");
        let sent: String = place.home.outbox().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert!(!sent.contains("P5x") && sent.contains("P4x"), "{sent}");
        drop(running);
    }
}

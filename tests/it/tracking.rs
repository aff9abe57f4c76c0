//! Opens and clicks as declared: of the person only with her consent, of the step otherwise; no link leads elsewhere than its
//! author said.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use crate::{
    either::Place,
    home::{PATIENCE, people, people_manifests},
    world::until_true,
};

const PERSON: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

fn ask(port: u16, path: &str, agent: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\nUser-Agent: {agent}\r\n\r\n").unwrap();
    let mut answer = vec![];
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The paths of the links of a mail, of a kind.
fn paths(mail: &str, kind: &str) -> Vec<String> {
    let whole = mail.replace("=\r\n", "").replace("=3D", "=");
    let base = format!("https://mail.example.com/{kind}/");
    let tokens = whole.split(&base).skip(1);
    tokens
        .map(|rest| {
            format!(
                "/{kind}/{}",
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect::<String>()
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn individual_only_with_consent() {
    for place in Place::both().await {
        let home = &place.home;
        let manifests = people_manifests("", "true")
            .replace(
                "spec: {outbox: {}}",
                "spec: {outbox: {}, publicUrl: \"https://mail.example.com\", tracking: {opens: Individual, clicks: Individual, consentTopic: apart}}",
            )
            .replace("  - {name: service", "  - {name: apart, category: Marketing, consent: {email: {field: apart, changedAt: news_at}}}\n  - {name: service")
            .replace("    - {name: updated_at", "    - {name: apart, type: Boolean}\n    - {name: updated_at")
            .replace(
                "text: \"Dear",
                "html: '<p><a href=\"https://shop.example.com/a?x=1&amp;y=2\">A</a> <a href=\"{{ unsubscribe_url }}\">no</a></p>', text: \"See https://shop.example.com/b. {{ unsubscribe_url }} Dear",
            );
        home.write("town/town.yaml", &manifests);
        let rows = people(2)
            .replace("news_at,", "news_at,apart,")
            .replace(",t,2026-01-01T00:00:00Z,", ",t,2026-01-01T00:00:00Z,f,");
        home.write("town/data/people.csv", &rows.replacen(",f,", ",t,", 1));
        place.read();
        let store = place.url.clone().unwrap_or_else(|| "sqlite://.campanile/store.db".to_owned());
        assert_eq!(home.call(&["trigger", "greet", "--name", "first", "--store", &store]).code, 0);
        place.read();
        let mail_to = |address: &str| {
            let mut all = home.outbox().into_iter().map(|path| fs::read_to_string(path).unwrap());
            all.find(|mail| mail.contains(address)).unwrap()
        };
        let (with, without) = (mail_to("p1@example.com"), mail_to("p2@example.com"));
        let shown = home.call(&["render", "--run", "first", "1", "--store", &store]);
        assert_eq!(shown.out, with, "byte for byte, links and all");
        // In the header and the text; in HTML its slashes are escaped.
        assert_eq!(paths(&with, "u").len(), 2, "the links of withdrawal are left alone");
        let running = home.spawn(&["inbound", "--listen", "127.0.0.1:0", "--store", &store], "log");
        until_true("the listener", PATIENCE, || home.read("log").contains("listening on")).await.unwrap();
        let port = home.read("log").rsplit("127.0.0.1:").next().unwrap().lines().next().unwrap().parse().unwrap();
        for mail in [&with, &without] {
            let links = paths(mail, "l");
            assert_eq!(links.len(), 2, "{mail}");
            let answer = ask(port, &links[0], PERSON);
            assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
            assert!(answer.contains("\r\nlocation: https://shop.example.com/"), "{answer}");
            // What somebody adds changes nothing of where it leads.
            for more in ["?url=https://evil.example", "?next=//evil.example", "#https://evil.example"] {
                let added = ask(port, &format!("{}{more}", links[0]), PERSON);
                assert!(!added.contains("evil"), "{added}");
            }
            ask(port, &links[1], "Mozilla/5.0 (Windows NT 5.1) GoogleImageProxy");
            let picture = ask(port, &paths(mail, "o")[0], PERSON);
            assert!(picture.starts_with("HTTP/1.1 200") && picture.contains("image/gif"), "{picture}");
        }
        let link = &paths(&with, "l")[0];
        let half = &link[..link.len() / 2];
        for forged in
            ["/l/", "/l/AAAA", "/l/https://evil.example", half, &format!("{link}AAAA"), &link.replace("/l/", "/l/AA")]
        {
            let answer = ask(port, forged, PERSON);
            assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("location"), "{forged}: {answer}");
        }
        // A picture's token is no link's.
        let swapped = paths(&with, "o")[0].replace("/o/", "/l/");
        assert!(ask(port, &swapped, PERSON).starts_with("HTTP/1.1 404"));
        drop(running);
        // Which a minute's end may have made two of.
        let events = "SELECT DISTINCT type || ' ' || coalesce(url, '') || ' ' || CAST(machine AS TEXT) AS told FROM message_event ORDER BY told";
        let mut seen = place.ask(events).await;
        seen.sort();
        let hers =
            ["Clicked https://shop.example.com/a?x=1&y=2 1", "Clicked https://shop.example.com/b 0", "Opened  0"];
        assert_eq!(seen, hers);
        let counted =
            "SELECT type || ' ' || url || ' ' || CAST(machine AS TEXT) || ' ' || CAST(n AS TEXT) FROM link_count";
        let mut counted = place.ask(counted).await;
        counted.sort();
        // Without what stands behind the path; the link and what was added to it are one link.
        let of_step =
            ["Clicked https://shop.example.com/a 1 1", "Clicked https://shop.example.com/b 0 4", "Opened  0 1"];
        assert_eq!(counted, of_step);
        place.read();
        let run = home.call(&["get", "run", "first", "--store", &store, "-o", "json"]);
        let run: serde_json::Value = serde_json::from_str(&run.out).unwrap();
        // One message that she clicked in, and four clicks of nobody in particular.
        let totals = &run["status"]["totals"];
        assert_eq!((&totals["clicked"], &totals["opened"]), (&5.into(), &2.into()), "{totals}");
        // Who has withdrawn since is counted without her.
        let rows = "id,email,name,news,news_at,apart,updated_at\n1,p1@example.com,Person 1,t,2026-02-01T00:00:00Z,f,2026-02-01T00:00:00Z\n";
        home.write("town/data/later.csv", rows);
        place.read();
        let running = home.spawn(&["inbound", "--listen", "127.0.0.1:0", "--store", &store], "log2");
        until_true("the listener", PATIENCE, || home.read("log2").contains("listening on")).await.unwrap();
        let port = home.read("log2").rsplit("127.0.0.1:").next().unwrap().lines().next().unwrap().parse().unwrap();
        let before = place.ask("SELECT CAST(count(*) AS TEXT) FROM message_event").await;
        for link in paths(&with, "l") {
            ask(port, &link, PERSON);
        }
        drop(running);
        assert_eq!(place.ask("SELECT CAST(count(*) AS TEXT) FROM message_event").await, before);
    }
}

//! One-click unsubscribe (RFC 8058): a POST withdraws and holds at the next message; a look changes nothing.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use crate::{
    home::{Home, PATIENCE, Running, people, people_manifests},
    world::until_true,
};

fn manifests(home: &Home, schedule: &str) {
    let text = people_manifests(schedule, "true")
        .replace("spec: {outbox: {}}", "spec: {outbox: {}, publicUrl: \"https://mail.example.com\"}")
        .replace("text: \"Dear", "text: \"Stop: {{ unsubscribe_url }} Dear");
    home.write("town/town.yaml", &text);
}

/// The path of the link in a message, which stands in its header and in its text alike.
fn path_of(mail: &str) -> String {
    let unfolded = mail.replace("\r\n ", " ");
    let header = unfolded.lines().find(|line| line.starts_with("List-Unsubscribe:")).unwrap();
    let link = header.split(['<', '>']).nth(1).unwrap();
    assert!(unfolded.contains("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"));
    let soft = unfolded.replace("=\r\n", "");
    assert_eq!(soft.matches(link).count(), 2, "{soft}");
    link.strip_prefix("https://mail.example.com").unwrap().to_owned()
}

fn mail_to(home: &Home, address: &str) -> String {
    let mut all = home.outbox().into_iter().map(|path| fs::read_to_string(path).unwrap());
    all.rfind(|mail| mail.contains(address)).unwrap()
}

fn ask(port: u16, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let body = if method == "POST" { "List-Unsubscribe=One-Click" } else { "" };
    let kind = "application/x-www-form-urlencoded";
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (code, answer)
}

async fn listening(home: &Home, log: &str) -> (Running, u16) {
    let running = home.spawn(&["run", "town", "--listen", "127.0.0.1:0"], log);
    until_true("the listener", PATIENCE, || home.read(log).contains("listening on")).await.unwrap();
    let text = home.read(log);
    let port = text.rsplit("127.0.0.1:").next().unwrap().lines().next().unwrap().parse().unwrap();
    (running, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_withdraws_and_a_look_does_not() {
    let home = Home::new();
    manifests(&home, "");
    home.write("town/data/people.csv", &people(3));
    let trigger = || assert_eq!(home.call(&["trigger", "greet"]).code, 0);
    let (running, port) = listening(&home, "first.log").await;
    until_true("the campaign", PATIENCE, || home.ready("campaign", "greet").0 == "True").await.unwrap();
    trigger();
    until_true("three messages", PATIENCE, || home.outbox().len() == 3).await.unwrap();

    let path = path_of(&mail_to(&home, "p2@example.com"));
    let (code, page) = ask(port, "GET", &path);
    assert!(code == 200 && page.contains("<form method=\"post\">"), "{page}");
    // The link of a proof answers as one does, and withdraws nobody.
    for method in ["GET", "POST"] {
        let (code, page) = ask(port, method, "/u/specimen");
        assert!(code == 200 && page.contains("nobody was unsubscribed"), "{page}");
    }
    for forged in ["/u/", "/u/AAAA", &format!("{}A", &path[..path.len() - 1]), &path.replace("/u/", "/u/AA")] {
        assert_eq!(ask(port, "POST", forged).0, 404, "{forged}");
    }
    drop(running);

    // Who only looked still gets the next message, and that one's link works as well as the first.
    let more = people(4).replace("2026-01-01T00:00:00Z\n", "2026-02-01T00:00:00Z\n");
    home.write("town/data/more.csv", &more);
    manifests(
        &home,
        "  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}\n  onEdit: Finish".lines().next().unwrap(),
    );
    let (running, port) = listening(&home, "second.log").await;
    until_true("the one who is new", PATIENCE, || home.outbox().len() == 4).await.unwrap();
    let (code, answer) = ask(port, "POST", &path);
    assert!(code == 200 && !answer.to_lowercase().contains("\r\nlocation:"), "{answer}");
    assert_eq!(ask(port, "POST", &path).0, 200, "again is no error");
    // A campaign of the same topic: everybody but who withdrew.
    let other = people_manifests("  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}", "true");
    let other = other.split("---\n").find(|part| part.contains("kind: Campaign")).unwrap().replace("greet", "again");
    home.write("town/again.yaml", &other);
    until_true("the second campaign", PATIENCE, || {
        home.get("run", "again-immediate")["status"]["completedAt"].is_string()
    })
    .await
    .unwrap();
    let run = home.get("run", "again-immediate");
    assert_eq!(run["status"]["totals"]["sent"], 3, "{run}");
    assert_eq!(run["status"]["channels"][0]["reasons"]["NoConsent"], 1, "{run}");
    drop(running);
}

#[test]
fn a_link_without_a_public_url_is_an_error_that_points_at_it() {
    let home = Home::new();
    manifests(&home, "");
    let text = home.read("town/town.yaml").replace(", publicUrl: \"https://mail.example.com\"", "");
    home.write("town/town.yaml", &text);
    home.write("town/data/people.csv", &people(1));
    let ran = home.run(&["town"]);
    assert_ne!(ran.code, 0);
    let (_, _, message) = home.ready("campaign", "greet");
    assert!(message.contains("channel `out` has no `publicUrl`"), "{message}");
}

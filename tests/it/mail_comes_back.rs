//! Bounces and complaints by Maildir and SMTP: events, counts, suppression, on both stores; what is answered stands
//! through `kill -9`; what is forged is counted and changes nothing.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
};

use serde_json::Value;

use crate::{
    either::Place,
    home::{PATIENCE, Running, lawful, people, people_manifests},
    world::{
        SmtpSink, free_port,
        scripted_smtp::{Act, Script, Server},
        until_true,
    },
};

const REFERENCE: &str = "1.3.42.0123456789ab.0123456789abcdef";

/// A mail of the corpus about the message of that reference, for a person of that address.
fn corpus(file: &str, reference: &str, address: &str) -> String {
    let folder = fs::read_dir(crate::home::repository().join("tests/bounces")).unwrap();
    let mut paths = folder.map(|entry| entry.unwrap().path());
    let path = paths.find(|path| path.to_string_lossy().ends_with(&format!("-{file}"))).expect(file);
    fs::read_to_string(path).unwrap().replace(REFERENCE, reference).replace("ann@example.org", address)
}

fn args(place: &Place, more: &[&str]) -> Vec<String> {
    let store = place.url.iter().flat_map(|url| ["--store", url]);
    more.iter().copied().chain(store).map(str::to_owned).collect()
}

fn call(place: &Place, more: &[&str]) -> crate::home::Ran {
    let args = args(place, more);
    place.home.call(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn inbound(place: &Place, log: &str, more: &[&str]) -> Running {
    let args = args(place, &[&["inbound"], more].concat());
    place.home.spawn(&args.iter().map(String::as_str).collect::<Vec<_>>(), log)
}

fn run_named(place: &Place, name: &str) -> Value {
    serde_json::from_str(&call(place, &["get", "run", name, "-o", "json"]).out).unwrap_or_default()
}

/// Sends to `n` people; the reference of each by the address.
async fn sent(place: &Place, name: &str, n: usize, policy: &str) -> Vec<(String, String)> {
    let manifests = people_manifests("  policies: [careful]", "true")
        .replace("template: hello}", "template: hello, once: {ever: false}}");
    let policy = format!(
        "---\napiVersion: campanile.dev/v1alpha1\nkind: ContactPolicy\nmetadata: {{name: careful}}\nspec: {{suppression: {{{policy}}}}}\n"
    );
    place.home.write("town/town.yaml", &(manifests + &policy));
    place.home.write("town/data/people.csv", &people(n));
    place.read();
    assert_eq!(call(place, &["trigger", "greet", "--name", name]).code, 0);
    place.read();
    let mails = place.home.outbox().into_iter().map(|path| fs::read_to_string(path).unwrap());
    mails
        .filter(|mail| mail.contains("Message-ID"))
        .map(|mail| {
            let field = |name: &str, end: char| {
                let rest = mail.split_once(name).unwrap().1.trim_start();
                rest.split([end, '\r']).next().unwrap().trim_start_matches('<').to_owned()
            };
            (field("\r\nTo:", '\r'), field("\r\nMessage-ID:", '@'))
        })
        .collect()
}

fn of<'a>(sent: &'a [(String, String)], address: &str) -> &'a str {
    &sent.iter().find(|(to, _)| to == address).unwrap().1
}

fn maildir(place: &Place) -> std::path::PathBuf {
    let path = place.home.path().join("mail");
    ["new", "cur", "tmp"].iter().for_each(|part| fs::create_dir_all(path.join(part)).unwrap());
    path
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

async fn figures(place: &Place) -> Vec<String> {
    place.ask("SELECT told || ' ' || reason || ' ' || CAST(n AS TEXT) FROM feedback_count ORDER BY told, reason").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maildir_is_read_once_and_suppresses() {
    for place in Place::both().await {
        let sent = sent(&place, "first", 5, "softBounces: {count: 2}").await;
        let mail = maildir(&place);
        let put = |name: &str, text: &str| fs::write(mail.join("new").join(name), text).unwrap();
        put("1", &corpus("postfix-user-unknown.eml", of(&sent, "p1@example.com"), "p1@example.com"));
        put("2", &corpus("postfix-full.eml", of(&sent, "p2@example.com"), "p2@example.com"));
        put("3", &corpus("arf-abuse.eml", of(&sent, "p3@example.com"), "p3@example.com"));
        put("4", &corpus("out-of-office.eml", of(&sent, "p4@example.com"), "p4@example.com"));
        // Somebody who got one message makes up a bounce of another's.
        let forged = of(&sent, "p4@example.com").replacen(".0.", ".1.", 1);
        let other = format!("{}{}", &of(&sent, "p4@example.com")[..forged.len() - 1], "x");
        put("5", &corpus("postfix-user-unknown.eml", REFERENCE, "p5@example.com"));
        put("6", &corpus("postfix-user-unknown.eml", &other, "p5@example.com"));
        put("7", "no mail at all");
        {
            let _running = inbound(&place, "inbound.log", &["--maildir", "mail"]);
            until_true("the mail", PATIENCE, || count(&mail.join("new")) == 0).await.unwrap();
            assert_eq!(count(&mail.join("cur")), 7);
        }
        // Another process finds them in `new` once more, as after a crash before they moved: nothing changes by it.
        for entry in fs::read_dir(mail.join("cur")).unwrap() {
            let path = entry.unwrap().path();
            fs::rename(&path, mail.join("new").join(path.file_name().unwrap())).unwrap();
        }
        {
            let _running = inbound(&place, "again.log", &["--maildir", "mail"]);
            until_true("the mail again", PATIENCE, || count(&mail.join("new")) == 0).await.unwrap();
        }
        let figures = figures(&place).await;
        let expected = [
            "Answered  2",
            "Bounced  4",
            "Bounced ForgedReference 2",
            "Bounced NoReference 2",
            "Complained  2",
            "Unknown  2",
        ];
        assert_eq!(figures, expected, "{figures:?}");
        let events = "SELECT type || ' ' || coalesce(reason, '') FROM message_event ORDER BY 1";
        assert_eq!(place.ask(events).await, ["Bounced MailboxFull", "Bounced UnknownMailbox", "Complained "]);
        assert_eq!(place.ask("SELECT reason FROM suppression ORDER BY 1").await, ["Complaint", "HardBounce"]);
        place.read();
        let totals = run_named(&place, "first")["status"]["totals"].clone();
        assert_eq!(
            (&totals["sent"], &totals["bounced"], &totals["complained"]),
            (&5.into(), &2.into(), &1.into()),
            "{totals}"
        );
        // The next run leaves them out; one more soft bounce, of that one, does so, too.
        assert_eq!(call(&place, &["trigger", "greet", "--name", "second"]).code, 0);
        place.read();
        let run = run_named(&place, "second");
        assert_eq!(run["status"]["channels"][0]["reasons"]["Suppressed"], 2, "{run}");
        let second = place.home.outbox().into_iter().filter(|path| path.to_string_lossy().contains("second"));
        let second: Vec<String> = second.map(|path| fs::read_to_string(path).unwrap()).collect();
        let mail_of = second.iter().find(|mail| mail.contains("p2@example.com")).unwrap();
        let reference = mail_of.split_once("Message-ID: <").unwrap().1.split('@').next().unwrap();
        put("8", &corpus("postfix-full.eml", reference, "p2@example.com"));
        {
            let _running = inbound(&place, "third.log", &["--maildir", "mail"]);
            until_true("the mail", PATIENCE, || count(&mail.join("new")) == 0).await.unwrap();
        }
        let soft =
            "SELECT CAST(count(*) AS TEXT) FROM suppression WHERE reason = 'SoftBounces' AND until_us IS NOT NULL";
        assert_eq!(place.ask(soft).await, ["1"]);
    }
}

/// A conversation with the listener: what is sent, and how the answer begins.
struct Talk(BufReader<TcpStream>);

impl Talk {
    fn begin(port: u16) -> Self {
        let mut talk = Self(BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap()));
        talk.hears("220");
        talk
    }

    fn hears(&mut self, code: &str) {
        let mut line = String::new();
        loop {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            if line.get(3..4) != Some("-") {
                break;
            }
        }
        assert!(line.starts_with(code), "{line} instead of {code}");
    }

    fn says(&mut self, text: &str, code: &str) {
        self.0.get_mut().write_all(format!("{text}\r\n").as_bytes()).unwrap();
        self.hears(code);
    }

    fn mail(&mut self, to: &str, text: &str) {
        self.says("MAIL FROM:<>", "250");
        self.says(&format!("RCPT TO:<{to}>"), "250");
        self.says("DATA", "354");
        self.says(&format!("{}\r\n.", text.replace("\r\n.", "\r\n..")), "250");
    }
}

async fn port_of(place: &Place, log: &str, what: &str) -> u16 {
    until_true("the listener", PATIENCE, || place.home.read(log).contains(what)).await.unwrap();
    let text = place.home.read(log);
    text.split_once(what).unwrap().1.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_smtp_answers_stands_through_a_kill() {
    for place in Place::both().await {
        let sent = sent(&place, "first", 6, "scope: Store").await;
        for (round, address) in ["p1@example.com", "p2@example.com", "p3@example.com"].into_iter().enumerate() {
            let log = format!("smtp-{round}.log");
            let mut running = inbound(&place, &log, &["--listen-mail", "127.0.0.1:0"]);
            let mut talk = Talk::begin(port_of(&place, &log, "mail on smtp://").await);
            talk.says("EHLO relay.example.net", "250");
            // Only the return path names the message.
            let bounce = corpus("postfix-no-domain.eml", "none", address);
            talk.mail(&format!("bounces+{}@example.com", of(&sent, address).to_uppercase()), &bounce);
            running.child.kill().unwrap();
        }
        let suppressed = place.ask("SELECT namespace || ' ' || reason FROM suppression").await;
        assert_eq!(suppressed, ["* HardBounce"; 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_has_limits_and_says_them() {
    let [place, _] = Place::both().await;
    sent(&place, "first", 1, "").await;
    let _running = inbound(&place, "log", &["--listen-mail", "127.0.0.1:0"]);
    let port = port_of(&place, "log", "mail on smtp://").await;
    let mut talk = Talk::begin(port);
    talk.says("RCPT TO:<a@b.c>", "503");
    talk.says("DATA", "503");
    talk.says("MAIL FROM:<> SIZE=999999999", "552");
    talk.says("MAIL a", "501");
    talk.says(&"X".repeat(10_000), "500");
    talk.says("MAIL FROM:<a@b.c>", "250");
    talk.says("RCPT TO:a", "501");
    for _ in 0..100 {
        talk.says("RCPT TO:<a@b.c>", "250");
    }
    talk.says("RCPT TO:<a@b.c>", "452");
    talk.says("HELP", "500");
    talk.says("RSET", "250");
    // A line without an end, and more than a mail may have, end the connection and not the process.
    talk.says("MAIL FROM:<>", "250");
    talk.says("RCPT TO:<a@b.c>", "250");
    talk.says("DATA", "354");
    let piece = vec![b'x'; 1_024 * 1_024];
    for _ in 0..51 {
        if talk.0.get_mut().write_all(&piece).is_err() {
            break;
        }
    }
    drop(talk);
    let greeting = || {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        (line, stream)
    };
    // As many as there is room for; the next one is told to come back, and may when there is.
    let mut all = vec![];
    until_true("the end of the room", PATIENCE, || {
        let (line, stream) = greeting();
        all.push(stream);
        assert!(all.len() <= 65, "there is room for 64");
        line.starts_with("421 4.3.2")
    })
    .await
    .unwrap();
    drop(all);
    until_true("room again", PATIENCE, || greeting().0.starts_with("220")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_runs_takes_mail_itself_and_shows_what_came() {
    for place in Place::both().await {
        let sent = sent(&place, "first", 2, "").await;
        let mail = maildir(&place);
        let metrics = free_port();
        let address = format!("127.0.0.1:{metrics}");
        let _running = place.spawn_with("log", &["--maildir", "mail", "--metrics", &address]);
        let bounce = corpus("postfix-user-unknown.eml", of(&sent, "p1@example.com"), "p1@example.com");
        fs::write(mail.join("new/1"), bounce).unwrap();
        let bounced = || run_named(&place, "first")["status"]["totals"]["bounced"].clone();
        until_true("the run's status", PATIENCE, || bounced() == 1).await.unwrap();
        let campaign = || {
            let text = call(&place, &["get", "campaign", "greet", "-o", "json"]).out;
            serde_json::from_str::<Value>(&text).unwrap_or_default()["status"]["totals"]["bounced"].clone()
        };
        until_true("the campaign's status", PATIENCE, || campaign() == 1).await.unwrap();
        let page = || {
            let mut stream = TcpStream::connect(("127.0.0.1", metrics)).unwrap();
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        let told = "campanile_feedback_total{source=\"mail\",told=\"Bounced\",reason=\"\"} 1\n";
        assert!(page().contains(told), "{}", page());
    }
}

#[test]
fn a_folder_that_is_no_maildir_is_an_error() {
    let home = crate::home::Home::new();
    home.write("town/town.yaml", &people_manifests("", "true"));
    home.write("town/data/people.csv", &people(1));
    assert_eq!(home.run(&["town"]).code, 0);
    let ran = home.call(&["inbound", "--maildir", "town"]);
    assert!(ran.code == 2 && ran.err.contains("is no Maildir"), "{ran:?}");
    let ran = home.call(&["inbound"]);
    assert!(ran.code == 2 && ran.err.contains("nowhere to take anything from"), "{ran:?}");
}

/// A channel over a real server, with a return path.
fn over_smtp(place: &Place, port: u16) {
    let channel = format!(
        "spec: {{email: {{from: \"Town <town@example.com>\", returnPath: bounces@mail.example.com, smtp: {{host: 127.0.0.1, port: {port}, tls: None}}}}}}"
    );
    let manifests = people_manifests("", "true")
        .replace("spec: {outbox: {}}", &channel)
        .replace("template: hello}", "template: hello, once: {ever: false}}");
    place.home.write("town/town.yaml", &lawful(&manifests));
    place.home.write("town/data/people.csv", &people(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_has_a_return_path_of_its_own_that_comes_back() {
    for place in Place::both().await {
        let sink = SmtpSink::start(&[]).await.unwrap();
        over_smtp(&place, sink.port());
        place.run(&[]);
        assert_eq!(call(&place, &["trigger", "greet", "--name", "first"]).code, 0);
        let ran = place.run(&["--deliver", "live"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let mails = sink.wait_for(2, PATIENCE).await.unwrap();
        let from: std::collections::BTreeSet<&String> = mails.iter().map(|mail| &mail.from).collect();
        assert_eq!(from.len(), 2, "{from:?}");
        let mail = mails.iter().find(|mail| mail.to == ["p2@example.com"]).unwrap();
        let reference =
            mail.from.strip_prefix("bounces+").and_then(|rest| rest.strip_suffix("@mail.example.com")).unwrap();
        assert!(mail.text.contains(&format!("<{reference}@example.com>")), "{}", mail.text);
        let _running = inbound(&place, "log", &["--listen-mail", "127.0.0.1:0"]);
        let mut talk = Talk::begin(port_of(&place, "log", "mail on smtp://").await);
        talk.says("HELO relay.example.net", "250");
        talk.mail(&mail.from, &corpus("only-verp.eml", "none", "p2@example.com"));
        assert_eq!(place.ask("SELECT type || ' ' || reason FROM message_event").await, ["Bounced UnknownMailbox"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_is_refused_for_good_is_suppressed_at_once() {
    for place in Place::both().await {
        let server = Server::start(Script { rcpt: Act::Say("550 5.1.1 no such user here"), ..Script::default() });
        over_smtp(&place, server.port);
        place.run(&[]);
        assert_eq!(call(&place, &["trigger", "greet", "--name", "first"]).code, 0);
        place.run(&["--deliver", "live"]);
        assert_eq!(run_named(&place, "first")["status"]["totals"]["failed"], 2);
        assert_eq!(place.ask("SELECT reason FROM suppression").await, ["HardBounce"; 2]);
        assert_eq!(call(&place, &["trigger", "greet", "--name", "second"]).code, 0);
        place.run(&["--deliver", "live"]);
        assert_eq!(run_named(&place, "second")["status"]["channels"][0]["reasons"]["Suppressed"], 2);
    }
}

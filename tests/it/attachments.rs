//! Files that travel with mail and images that its HTML shows: kept once, the same bytes in every message, and not too many.

use std::{fs, process::Command};

use campanile::store::{Sql, Store};
use k8s_openapi::ByteString;
use mail_parser::{Message, MessageParser, MimeHeaders, PartType};

use crate::{
    cluster::Cluster,
    home::{Home, PATIENCE, people_manifests},
    world::{Postgres, until_true},
};

const DAILY: &str = "  schedule: {cron: \"0 9 * * *\", timeZone: UTC}";
const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and so on";
const EMAIL: &str = r#"{subject: Hello, html: "<p>Dear {{ person.name }}</p><img src='cid:logo'>",
    attachments: [
      {name: "Bedingungen für alle.pdf", file: files/terms.pdf},
      {name: logo.png, inline: logo, configMap: {name: art, key: logo.png}}]}"#;
const ITALIAN: &str = "{it: {email: {attachments: [{name: \"Bedingungen für alle.pdf\", file: files/terms.it.pdf}]}}}";

const PEOPLE: &str = "id,email,name,lang,news,news_at,updated_at
1,p1@example.com,Ann,,t,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z
2,p2@example.com,Zoë,it-CH,t,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z
";

fn town(schedule: &str, email: &str, locales: &str) -> String {
    let written =
        r#"{email: {subject: "Hello {{ person.name }}", text: "Dear {{ person.name | default('friend') }}"}}"#;
    let text = people_manifests(schedule, "true");
    assert!(text.contains(written));
    text.replace(written, &format!("{{email: {email}, locales: {locales}}}"))
        .replace("addresses: {email: email}}", "addresses: {email: email}, locale: lang}")
        .replace("    - {name: news, type", "    - {name: lang, type: String}\n    - {name: news, type")
}

fn art() -> String {
    let pixel = serde_json::to_string(&ByteString(PIXEL.to_vec())).unwrap();
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: art}}\nbinaryData: {{logo.png: {pixel}}}\n")
}

fn write(home: &Home) {
    home.write("town/town.yaml", &town(DAILY, EMAIL, ITALIAN));
    home.write("town/art.yaml", &art());
    home.write("town/files/terms.pdf", "%PDF terms");
    home.write("town/files/terms.it.pdf", "%PDF condizioni");
    home.write("town/data/people.csv", PEOPLE);
}

fn mail_to(home: &Home, to: &str, run: &str) -> Vec<u8> {
    let of_run = home.outbox().into_iter().filter(|path| path.to_string_lossy().contains(run));
    let mut all = of_run.map(|path| fs::read(path).unwrap());
    all.find(|bytes| String::from_utf8_lossy(bytes).contains(&format!("To: {to}"))).unwrap()
}

/// What is attached, and what is shown, with its content id.
fn files(bytes: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let message: Message<'_> = MessageParser::new().parse(bytes).unwrap();
    assert!(matches!(&message.parts[0].body, PartType::Multipart(_)));
    let of = |part: &mail_parser::MessagePart<'_>| {
        let id = part.content_id().unwrap_or_default().to_owned();
        (part.attachment_name().unwrap_or_default().to_owned(), id, part.contents().to_vec())
    };
    message.attachments().map(of).collect()
}

async fn sent_and_pinned(home: &Home, url: &str) {
    write(home);
    let run = |now: &str| {
        let ran = home.run(&["town", "--store", url, "--now", now]);
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    run("2026-03-01T08:59:00Z");
    run("2026-03-01T09:00:00Z");
    let first = mail_to(home, "p1@example.com", "20260301");
    let terms = "Bedingungen für alle.pdf".to_owned();
    let domain = String::from_utf8_lossy(&first).split("cid:logo@").nth(1).unwrap().to_owned();
    let domain: String = domain.chars().take_while(|c| *c != '\'').collect();
    let logo = ("logo.png".to_owned(), format!("logo@{domain}"), PIXEL.to_vec());
    assert_eq!(files(&first), [logo.clone(), (terms.clone(), String::new(), b"%PDF terms".to_vec())]);
    // Each locale has its own file of the name, and what falls back.
    let italian = mail_to(home, "p2@example.com", "20260301");
    assert_eq!(files(&italian), [logo, (terms, String::new(), b"%PDF condizioni".to_vec())]);

    home.write("town/files/terms.pdf", "%PDF other terms");
    run("2026-03-02T09:00:00Z");
    assert_eq!(files(&mail_to(home, "p1@example.com", "20260302"))[1].2, b"%PDF other terms");
    fs::remove_dir_all(home.path().join("town/files")).unwrap();
    let shown = home.command(&["render", "--run", "greet-20260301090000", "1", "--store", url]).output().unwrap();
    assert_eq!(shown.stdout, first, "{}", String::from_utf8_lossy(&shown.stderr));

    // Each file is kept once, whatever names it.
    let store = Store::open(url).await.unwrap();
    for (table, expected) in [("SELECT sha256 FROM attachment", 4), ("SELECT sha256 FROM revision_attachment", 6)] {
        assert_eq!(store.fetch(Sql::new(table)).await.unwrap().len(), expected, "{table}");
    }
    // What a run sent stays as long as the run, though nothing declares it any more.
    let later = "2027-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(store.retire_attachments(&[], later).await.unwrap(), 0);
    store.put_attachment("ab", "YQ==\r\n", "2026-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    assert_eq!(store.retire_attachments(&["ab".to_owned()], later).await.unwrap(), 0);
    assert_eq!(store.retire_attachments(&[], later).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_travel_and_are_kept_once_on_sqlite() {
    let home = Home::new();
    let url = format!("sqlite://{}", home.path().join(".campanile/store.db").display());
    sent_and_pinned(&home, &url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_travel_and_are_kept_once_on_postgres() {
    let postgres = Postgres::shared().await.unwrap();
    sent_and_pinned(&Home::new(), &postgres.database().await.unwrap()).await;
}

/// Python's own mail library, which nobody here wrote.
#[test]
fn another_reader_finds_the_words_the_image_and_the_file() {
    let home = Home::new();
    write(&home);
    assert_eq!(home.run(&["town", "--now", "2026-03-01T08:59:00Z"]).code, 0);
    assert_eq!(home.run(&["town", "--now", "2026-03-01T09:00:00Z"]).code, 0);
    let path = home.write("mail.eml", "");
    fs::write(&path, mail_to(&home, "p1@example.com", "20260301")).unwrap();
    let script = "import email, email.policy, sys\n\
        m = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)\n\
        html = m.get_body(('html',)).get_content()\n\
        ids = {p['Content-ID']: p for p in m.walk() if p['Content-ID']}\n\
        cid = html.split(\"cid:\")[1].split(\"'\")[0]\n\
        print(m.get_content_type(), m.get_body(('plain',)).get_content().strip())\n\
        print(ids['<' + cid + '>'].get_content()[:4], [a.get_filename() for a in m.iter_attachments()])\n\
        print([d for p in m.walk() for d in p.defects])\n";
    let read = Command::new("python3").args(["-c", script]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&read.stdout);
    assert_eq!(
        said,
        "multipart/mixed Dear Ann\nb'\\x89PNG' ['Bedingungen für alle.pdf']\n[]\n",
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
}

#[test]
fn what_is_wrong_is_said_at_the_attachment() {
    let home = Home::new();
    write(&home);
    let good = home.call(&["validate", "town"]);
    assert_eq!(good.code, 0, "{good:?}");
    let long = |n: usize| vec![7_u8; n];
    fs::write(home.path().join("town/files/long.bin"), long(7_400_000)).unwrap();
    fs::write(home.path().join("town/files/half.bin"), long(4_000_000)).unwrap();
    fs::write(home.path().join("town/files/other.bin"), vec![8_u8; 4_000_000]).unwrap();
    let halves = "{name: half.bin, file: files/half.bin}, {name: other.bin, file: files/other.bin}";
    for (from, to, wanted) in [
        ("'cid:logo'", "'cid:lego'", "no attachment is `cid:lego`"),
        ("inline: logo, ", "", "say `inline: logo` of an attachment"),
        ("html: \"<p>Dear {{ person.name }}</p><img src='cid:logo'>\"", "text: t", "shown by HTML, and there is none"),
        ("files/terms.pdf", "files/none.pdf", "there is no file `files/none.pdf` beside the manifest"),
        ("files/terms.pdf", "files/long.bin", "`files/long.bin` has more than 7307685 bytes"),
        ("{name: logo.png", &format!("{halves}, {{name: logo.png"), "and a message has at most 10000000"),
        ("key: logo.png", "key: logo.pn", "has no key `logo.pn`"),
        ("name: logo.png", "name: \"a/b\"", "name"),
        ("file: files/terms.pdf", "file: files/terms.pdf, pinned: {sha256: x}", "unknown field `pinned`"),
    ] {
        let text = town(DAILY, EMAIL, "{}");
        assert!(text.contains(from), "{from}");
        home.write("town/town.yaml", &text.replace(from, to));
        let said = home.call(&["validate", "town"]);
        let all = format!("{}{}", said.out, said.err);
        assert!(said.code == 2 && all.contains(wanted) && all.contains("town.yaml:"), "{to}: {all}");
    }
}

#[test]
fn a_message_that_is_too_long_for_one_person_is_excluded() {
    let home = Home::new();
    write(&home);
    fs::write(home.path().join("town/files/terms.pdf"), vec![7_u8; 7_200_000]).unwrap();
    let words = "text: \"{% if person.id == 1 %}{% for n in range(9000) %}0123456789012345678901234567890{% endfor %}{% endif %}\"";
    let html = "html: \"<p>Dear {{ person.name }}</p><img src='cid:logo'>\"";
    assert!(EMAIL.contains(html));
    home.write("town/town.yaml", &town(DAILY, &EMAIL.replace(html, &format!("{html}, {words}")), "{}"));
    assert_eq!(home.run(&["town", "--now", "2026-03-01T08:59:00Z"]).code, 0);
    home.run(&["town", "--now", "2026-03-01T09:00:00Z"]);
    let run = home.get("campaignrun", "greet-20260301090000");
    let channel = &run["status"]["channels"][0];
    assert_eq!((&channel["sent"], &channel["reasons"]["RenderError"]), (&1.into(), &1.into()), "{channel}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_takes_files_of_config_maps() {
    let cluster = Cluster::start("attachments", "no-such-folder").await;
    let (kubectl, home) = (&cluster.kubectl, &cluster.home);
    home.write("data/people.csv", PEOPLE);
    let email = EMAIL.replace("{name: \"Bedingungen für alle.pdf\", file: files/terms.pdf},", "");
    let text = town("  schedule: {immediate: {}}", &email, "{}");
    let file = home.write("town.yaml", &format!("{}---\n{text}", art()));
    kubectl.done(&["apply", "-f", file.to_str().unwrap()]);
    let is_sent = || kubectl.json("campaign", "greet")["status"]["totals"]["sent"] == 2;
    until_true("the messages are sent", PATIENCE, is_sent).await.unwrap();
    let found = files(&mail_to(home, "p1@example.com", "greet"));
    assert_eq!(
        found.iter().map(|(name, _, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>(),
        [("logo.png", PIXEL)]
    );
}

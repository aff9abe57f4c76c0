//! The manifests of `examples/every-channel` send to real counterparts, once those stand in the place of the placeholders.
//! What `http` sends is held by `any_provider`.

use std::{fs, path::Path};

use crate::{
    home::{Home, Ran, assert_conserved, copy, repository},
    push_on_the_wire::rsa_pair,
    world::{
        S3, SmtpSink,
        push_services::Google,
        smpp::{Centre, PASSWORD, SYSTEM_ID},
        twilio::{ACCOUNT, TOKEN, Twilio},
    },
};

/// A home with the people of the example and one of its channels, changed.
fn home(file: &str, changes: &[(&str, String)]) -> Home {
    let home = Home::new();
    let folder = home.path().join("club");
    copy(&repository().join("examples/every-channel"), &folder);
    let is_needed = |path: &Path| [file, "people.yaml", "data"].iter().any(|name| path.ends_with(name));
    for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        if !is_needed(&path) && path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    let mut text = fs::read_to_string(folder.join(file)).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    fs::write(folder.join(file), text).unwrap();
    home
}

fn live(home: &Home, secrets: &[(&str, &str)], more: &[&str]) -> Ran {
    let mut command = home.command(&["run", "club", "--until-idle", "--deliver", "live"]);
    command.args(more).envs(secrets.iter().map(|(name, value)| (format!("CAMPANILE_SECRET_{name}"), value)));
    Ran::of(&command.output().unwrap())
}

fn sent(home: &Home, run: &str) -> i64 {
    let run = home.get("campaignrun", run);
    assert_conserved(&run);
    run["status"]["totals"]["sent"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_reaches_a_relay() {
    let sink = SmtpSink::start(&[]).await.unwrap();
    let relay = "host: smtp.example.com, port: 587, tls: Required, secretRef: {name: relay}";
    let home = home("email.yaml", &[(relay, format!("host: 127.0.0.1, port: {}, tls: None", sink.port()))]);
    let ran = live(&home, &[], &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(sent(&home, "evening-by-mail-immediate"), 5);
    let mails = sink.mails().unwrap();
    assert_eq!(mails.len(), 5);
    let subjects: Vec<_> = mails.iter().filter_map(|mail| mail.header("Subject")).collect();
    assert!(subjects.iter().any(|subject| subject == "Tonight at eight, Ada"), "{subjects:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_reach_a_message_centre() {
    let centre = Centre::start().await.unwrap();
    let place = "host: smpp.example.com, tls: Implicit";
    let home = home("smpp.yaml", &[(place, format!("host: 127.0.0.1, port: {}, tls: None", centre.port))]);
    let ran = live(&home, &[("CENTRE_SYSTEM_ID", SYSTEM_ID), ("CENTRE_PASSWORD", PASSWORD)], &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    // One has no number, and one a number that is none. Çiçek's name makes two segments of hers.
    assert_eq!((sent(&home, "list-by-text-immediate"), centre.messages().len()), (4, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_reach_twilio() {
    let fake = Twilio::start().await.unwrap();
    let changes = [
        ("AC00000000000000000000000000000000", ACCOUNT.to_owned()),
        ("secretRef: {name: twilio}", format!("secretRef: {{name: twilio}}\n      endpoint: {}", fake.url())),
    ];
    let home = home("sms.yaml", &changes);
    let ran = live(&home, &[("TWILIO_AUTH_TOKEN", TOKEN)], &["--allow-url", &fake.url()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((sent(&home, "evening-by-text-immediate"), fake.taken().len()), (3, 3));
    assert!(fake.taken().iter().any(|message| message["Body"].starts_with("Ciao Ada")), "{:?}", fake.taken());
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_reach_firebase() {
    let (private, public) = rsa_pair();
    let fake = Google::start(public).await.unwrap();
    let url = format!("http://127.0.0.1:{}/", fake.server.port);
    let secret = "secretRef: {name: firebase}";
    let home = home("push.yaml", &[(secret, format!("{secret}\n      endpoint: {url}"))]);
    let ran = live(&home, &[("FIREBASE_KEY", &fake.account(&private))], &["--allow-url", &url]);
    assert_eq!(ran.code, 0, "{ran:?}");
    // Two of them to Ada, who has two devices.
    let taken = fake.messages.lock().unwrap();
    assert_eq!((sent(&home, "evening-by-push-immediate"), taken.len()), (4, 4));
    let of_ada =
        taken.iter().filter(|message| message["notification"]["body"].as_str().unwrap().starts_with("Ada, si apre"));
    assert_eq!(of_ada.count(), 2, "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_reach_a_bucket() {
    let s3 = S3::start().await.unwrap();
    s3.put("example-printer", b"").unwrap();
    let bucket = "url: s3://example-printer/club";
    let home = home("direct-mail.yaml", &[(bucket, format!("{bucket}\n      endpoint: {}", s3.endpoint()))]);
    let secrets = [("PRINTER_ACCESS_KEY_ID", "a"), ("PRINTER_SECRET_ACCESS_KEY", "b")];
    let ran = live(&home, &secrets, &["--allow-url", &s3.endpoint()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(sent(&home, "evening-by-letter-immediate"), 4);
    let manifest = s3.get("example-printer/club/evening-by-letter-immediate.manifest.json").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!((&manifest["rows"], &manifest["seeds"]), (&5.into(), &1.into()), "{manifest:#}");
    let file = manifest["files"][0]["name"].as_str().unwrap();
    assert!(s3.get(&format!("example-printer/club/{file}")).unwrap().starts_with(&[0x1f, 0x8b]), "it is gzip");
}

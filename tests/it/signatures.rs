//! What is signed with DKIM verifies with another's code: dkimpy, as Debian has it.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::{
    home::{Home, PATIENCE, people, people_manifests},
    world::{SmtpSink, program},
};

/// Reads `public key in base64, kind` as arguments and the message from stdin; ends with 0 if the signature holds.
const VERIFY: &str = r#"
import sys, dkim
record = ("v=DKIM1; k=" + sys.argv[2] + "; p=" + sys.argv[1]).encode()
def dns(name, timeout=5):
    return record if name.decode().rstrip(".") == "s1._domainkey.example.com" else None
verifier = dkim.DKIM(sys.stdin.buffer.read())
sys.exit(0 if verifier.verify(dnsfunc=dns) else 1)
"#;

fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program("openssl", "openssl").unwrap());
    let mut child =
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}");
    output.stdout
}

fn verifies(message: &str, public: &str, kind: &str) -> bool {
    // It brings the module along, and is one of its programs.
    program("dkimverify", "python3-dkim python3-nacl").unwrap();
    let mut command = Command::new("/usr/bin/python3");
    let mut child = command.args(["-c", VERIFY, public, kind]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
    let code = child.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 1)), "the verifier broke");
    code == Some(0)
}

fn manifests(port: u16, key: &str) -> String {
    let smtp = format!(
        "spec: {{email: {{from: \"Shop <a@example.com>\", smtp: {{host: 127.0.0.1, port: {port}, tls: None}}, \
         dkim: {{domain: example.com, selector: s1, secretRef: {{name: dkim}}}}}}}}"
    );
    let key: String = key.lines().map(|line| format!("    {line}\n")).collect();
    let secret = format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: dkim}}\nstringData:\n  key: |\n{key}");
    let text = "text: \"Dear  {{ person.name }},\\n\\nça va ?   \\n.\\n\\n\\n\"";
    people_manifests("  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}", "true")
        .replace("spec: {outbox: {}}", &smtp)
        .replace("topic: news", "topic: service")
        .replace("text: \"Dear {{ person.name | default('friend') }}\"", text)
        + &secret
}

#[tokio::test]
async fn others_verify_what_is_signed() {
    for (algorithm, kind) in [("rsa", "rsa"), ("ed25519", "ed25519")] {
        let key = openssl(&["genpkey", "-algorithm", algorithm], b"");
        let public = openssl(&["pkey", "-pubout", "-outform", "DER"], &key);
        // The raw key of Ed25519 is the end of its wrapping (RFC 8463, section 4).
        let public = if kind == "rsa" { &public[..] } else { &public[public.len() - 32..] };
        let public = String::from_utf8(openssl(&["base64", "-A"], public)).unwrap();
        let sink = SmtpSink::start(&[]).await.unwrap();
        let home = Home::new();
        home.write("town/town.yaml", &manifests(sink.port(), std::str::from_utf8(&key).unwrap()));
        home.write("town/data/people.csv", &people(2));
        let ran = home.run(&["town", "--deliver", "live"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        for mail in sink.wait_for(2, PATIENCE).await.unwrap() {
            assert!(verifies(&mail.text, &public, kind), "{kind}: {}", mail.text);
            assert!(!verifies(&mail.text.replace("Subject: Hello", "Subject: hullo"), &public, kind));
            assert!(!verifies(&mail.text.replace("From: Shop", "From: Chop"), &public, kind));
            assert!(!verifies(&format!("From: x@example.org\n{}", mail.text), &public, kind), "a second author");
        }
    }
}

#[test]
fn without_its_key_nothing_leaves_and_nobody_is_tried() {
    let home = Home::new();
    home.write("town/town.yaml", &manifests(1, "not a key").replace("kind: Secret", "kind: Service"));
    home.write("town/data/people.csv", &people(2));
    // To a folder it goes all the same, unsigned.
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.outbox().len(), 2);
    let text = std::fs::read_to_string(&home.outbox()[0]).unwrap();
    assert!(!text.contains("DKIM-Signature"), "{text}");
}

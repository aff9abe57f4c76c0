//! Whatever a message is made of, and however a preview is asked for, it holds no value of a person that is not revealed: not
//! her words, not her addresses, not the key by which she was named, and no error does.

use std::fs;

use crate::home::{Home, Ran, assert_conserved};

const MANIFEST: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    fields:
    - {name: id, type: String}
    - {name: email, type: String}
    - {name: phone, type: String}
    - {name: name, type: String}
    - {name: tier, type: String, reveal: true}
    - {name: language, type: String}
    source: {files: {url: data, format: CSV}}
  profile: {entity: person, locale: language, addresses: {email: email, sms: phone}}
  topics:
  - {name: news, category: Transactional}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: out}
spec: {outbox: {}, publicUrl: "https://mail.example.com"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data:
  page.mjml: "<mjml><mj-body><mj-section><mj-column><mj-text>Dear {{ person.name }} {% include 'foot' %}</mj-text><mj-image src='cid:logo' /></mj-column></mj-section></mj-body></mjml>"
binaryData: {logo.png: iVBORw0KGgo=}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec:
  email:
    subject: "Hello {{ person.name | upper }} of {{ person.tier }}"
    preheader: "For {{ person.name }}"
    mjmlFrom: {configMap: {name: words, key: page.mjml}}
    attachments:
    - {name: terms.pdf, file: terms.pdf}
    - {name: logo.png, inline: logo, configMap: {name: words, key: logo.png}}
  sms: {textFrom: {file: text.txt}}
  http:
    values:
    - {name: name, value: "{{ person.name | default('nobody') }}"}
    - {name: mail, valueFrom: {file: value.txt}}
  fragments:
  - {name: foot, mjml: "{{ person.email }}, {{ person.phone | replace('+', '00') }}"}
  locales:
    it: {email: {subject: "Ciao {{ person.name }}"}, sms: {text: "Ciao {{ person.name }} {{ person.phone }}"}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: broken}
spec: {sms: {text: "{{ person.name }} {{ person.name // 2 }}"}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: greet}
spec:
  dataset: town
  topic: news
  steps:
  - {name: all, audience: {entity: person, where: "person.name != 'x'"}}
  - {name: mail, email: {channel: out, template: hello}}
  - {name: text, from: all, sms: {channel: out, template: hello}}
  - {name: tell, from: all, http: {channel: out, template: hello}}
  - {name: fail, from: all, sms: {channel: out, template: broken}}
"#;

const STEPS: [&str; 3] = ["mail", "text", "tell"];
/// In every value of hers that is not revealed, in one writing or another.
const HERS: [&str; 3] = ["s3cr3t", "3334445556", "S3CR3T"];

fn assert_names_nobody(what: &str, said: &str) {
    for hers in HERS {
        assert!(!said.contains(hers), "{what}: {said}");
    }
}

fn home() -> Home {
    let home = Home::new();
    home.write("town/town.yaml", MANIFEST);
    home.write("town/text.txt", "Hi {{ person.name }} {{ person.phone }}");
    home.write("town/value.txt", "{{ person.email }}");
    home.write("town/terms.pdf", "%PDF");
    let people = "id,email,phone,name,tier,language\n\
                  s3cr3t-1,s3cr3t@example.com,+393334445556,s3cr3t Ann,gold,\n\
                  s3cr3t-2,s3cr3t.2@example.com,+393334445556,s3cr3t Zoe,blue,it-CH\n";
    home.write("town/data/people.csv", people);
    home
}

#[test]
fn no_preview_of_any_medium_holds_a_persons_value() {
    let home = home();
    let loaded = home.run(&["town"]);
    assert_eq!(loaded.code, 0, "{loaded:?}");
    assert_names_nobody("run", &format!("{}{}", loaded.out, loaded.err));
    let look = |args: &[&str]| -> Ran {
        let ran = home.call(args);
        assert_names_nobody(&args.join(" "), &format!("{}{}", ran.out, ran.err));
        ran
    };
    for key in ["s3cr3t-1", "s3cr3t-2"] {
        for step in STEPS {
            let shown = look(&["render", "greet", key, "town", "--step", step]);
            assert!(shown.code == 0 && shown.out.contains("•••"), "{step}: {shown:?}");
            let json = look(&["render", "greet", key, "town", "--step", step, "-o", "json"]);
            assert!(json.code == 0 && json.out.contains("•••"), "{step}: {json:?}");
            let file = look(&["render", "greet", key, "town", "--step", step, "--locale", "it", "-o", "eml"]);
            assert_eq!(file.code, 0, "{step}: {file:?}");
        }
        let mail = look(&["render", "greet", key, "town", "--step", "mail"]);
        let tier = if key.ends_with('1') { "gold" } else { "Ciao •••" };
        assert!(mail.out.contains(tier) && mail.out.contains("Attached: terms.pdf, logo.png"), "{}", mail.out);
        let html = look(&["render", "greet", key, "town", "--step", "mail", "--locale", "it", "-o", "html"]);
        assert!(html.out.contains("Dear •••"), "{html:?}");
        let failed = look(&["render", "greet", key, "town", "--step", "fail"]);
        assert!(failed.code == 1 && failed.err.contains("`fail` cannot be written"), "{failed:?}");
        assert_eq!(look(&["why", "greet", key, "town"]).code, 0);
        look(&["proof", "greet", "town", "--to", "me@example.com", "--as", key, "--step", "tell"]);
    }
    for format in ["text", "markdown", "html", "json"] {
        let plan = look(&["plan", "town", "-o", format]);
        assert_eq!(plan.code, 0, "{plan:?}");
    }
    fs::create_dir(home.path().join("before")).unwrap();
    for file in ["town.yaml", "text.txt", "value.txt", "terms.pdf"] {
        fs::copy(home.path().join("town").join(file), home.path().join("before").join(file)).unwrap();
    }
    home.write("town/text.txt", "Dear {{ person.name }} {{ person.phone }}");
    let plan = look(&["plan", "town", "--base", "before"]);
    assert!(plan.code == 0 && plan.out.contains("sms.text was"), "{plan:?}");
    look(&["validate", "town"]);

    // What a run says of itself, of the messages that it could not write, too.
    assert_eq!(home.call(&["trigger", "greet", "--name", "r"]).code, 0);
    let ran = home.run(&["town"]);
    assert_names_nobody("run", &format!("{}{}", ran.out, ran.err));
    for kind in ["campaignrun", "campaign", "messagetemplate", "dataset", "channel"] {
        let got = look(&["get", kind, "-o", "yaml"]);
        assert_eq!(got.code, 0, "{got:?}");
    }
    let run = home.get("campaignrun", "r");
    assert_conserved(&run);
    let steps = run["status"]["channels"].as_array().unwrap();
    let of = |step: &str| steps.iter().find(|channel| channel["step"] == step).unwrap();
    assert!(STEPS.iter().all(|step| of(step)["sent"] == 2), "{run}");
    assert_eq!(of("fail")["reasons"], serde_json::json!({"RenderError": 2}));
}

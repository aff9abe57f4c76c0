//! Each medium has its own consent, its own address and its own file in an outbox; all else is the same for all of them.

use std::fs;

use serde_json::Value;

use crate::{
    either::Place,
    home::{Ran, assert_conserved},
};

const MANIFEST: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    fields:
    - {name: id, type: Integer, reveal: true}
    - {name: email, type: String}
    - {name: phone, type: String}
    - {name: name, type: String}
    - {name: language, type: String}
    - {name: news, type: Boolean}
    - {name: texts, type: Boolean}
    source: {files: {url: data, format: CSV}}
  profile: {entity: person, locale: language, addresses: {email: email, sms: phone}}
  topics:
  - name: news
    category: Marketing
    consent:
      email: {field: news}
      sms: {field: texts}
      http: {field: news, default: OptedIn}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: out}
spec: {outbox: {}, publicUrl: "https://mail.example.com"}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec:
  email: {subject: "Hello {{ person.name }}", text: "Dear {{ person.name }} {{ unsubscribe_url }}"}
  sms: {text: "Hi {{ person.name }}"}
  http:
    values:
    - {name: zone, value: "{{ person.language | default('en') }}"}
    - {name: greeting, value: "Hello {{ person.name }}"}
  locales:
    it: {sms: {text: "Ciao {{ person.name }}"}, http: {values: [{name: greeting, value: "Ciao {{ person.name }}"}]}}
  personas:
  - {name: zoe, values: {person: {id: 9, name: Zoë, phone: "+39 333 999", language: it}}}
  - {name: ann, values: {person: {id: 8, name: Ann}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: greet}
spec:
  dataset: town
  topic: news
  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}
  steps:
  - {name: all, audience: {entity: person, where: "true"}}
  - {name: mail, email: {channel: out, template: hello}}
  - {name: text, from: all, sms: {channel: out, template: hello}}
  - {name: tell, from: all, http: {channel: out, template: hello}}
"#;

/// By what is wrong with each of them.
const PEOPLE: &str = "id,email,phone,name,language,news,texts
1,a@example.com,+39 333 123-45.67,Ada,it,t,t
2,,+4479460001,Bo,,t,f
3,c@example.com,0039333,Cy,en,t,t
4,d@example.com,,Di,,f,t
5,no address,+44 (0)20 7946 0000,Ed,fr,t,t
6,f@example.com,+15551234567,Flo,,,t
";

fn ran(place: &Place, args: &[&str]) -> Ran {
    let store = place.url.iter().flat_map(|url| ["--store", url]);
    place.home.call(&args.iter().copied().chain(store).collect::<Vec<_>>())
}

fn files(place: &Place, extension: &str) -> Vec<(String, String)> {
    let all = place.home.outbox().into_iter().filter(|path| path.extension().is_some_and(|e| e == extension));
    all.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_medium_has_its_consent_its_address_and_its_file() {
    for place in Place::both().await {
        place.home.write("town/data/people.csv", PEOPLE);
        place.home.write("town/town.yaml", MANIFEST.split("---").next().unwrap());
        place.read();
        place.home.write("town/town.yaml", MANIFEST);
        let planned = ran(&place, &["plan", "town", "-o", "json"]);
        place.read();
        let got = ran(&place, &["get", "campaignrun", "greet-immediate", "-o", "json"]);
        let run: Value = serde_json::from_str(&got.out).unwrap();
        assert_conserved(&run);
        let steps = run["status"]["channels"].as_array().unwrap();
        let of = |step: &str| steps.iter().find(|channel| channel["step"] == step).unwrap();
        let reasons = |step: &str| of(step)["reasons"].clone();
        assert_eq!(of("mail")["sent"], 2);
        assert_eq!(reasons("mail"), serde_json::json!({"MalformedAddress": 1, "NoAddress": 1, "NoConsent": 2}));
        assert_eq!(of("text")["sent"], 2, "{run}");
        assert_eq!(reasons("text"), serde_json::json!({"MalformedAddress": 2, "NoAddress": 1, "NoConsent": 1}));
        assert_eq!((of("tell")["sent"].clone(), reasons("tell")), (5.into(), serde_json::json!({"NoConsent": 1})));

        // What the plan said is what happened.
        let plan: Value = serde_json::from_str(&planned.out).unwrap_or_else(|e| panic!("{e}: {planned:?}"));
        for step in plan["campaigns"][0]["steps"].as_array().unwrap().iter().filter(|step| step["messages"].is_object())
        {
            let count = |figure: &Value| figure["now"]["exact"].as_i64().unwrap();
            let excluded = step["messages"]["excluded"].as_array().unwrap().iter();
            let excluded = excluded.map(|of| (of["reason"].as_str().unwrap().to_owned(), count(&of["rows"]).into()));
            let excluded: serde_json::Map<_, _> = excluded.collect();
            let name = step["name"].as_str().unwrap();
            let said = (count(&step["messages"]["sent"]).into(), Value::from(excluded));
            assert_eq!(said, (of(name)["sent"].clone(), reasons(name)), "{name}");
        }

        let texts = files(&place, "txt");
        let words: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).collect();
        assert!(
            words.contains(&"To: +393331234567\n\nCiao Ada\n") && words.contains(&"To: +15551234567\n\nHi Flo\n"),
            "{words:?}"
        );
        let told = files(&place, "json");
        assert_eq!(told.len(), 5);
        let ada = told.iter().find(|(_, text)| text.contains("Ada")).unwrap();
        assert_eq!(ada.1, "{\n  \"values\": {\n    \"zone\": \"it\",\n    \"greeting\": \"Ciao Ada\"\n  }\n}\n");
        assert_eq!(files(&place, "eml").len(), 2);

        // Each is shown again as it was.
        for (step, id, expected) in
            [("text", "1", words.iter().find(|w| w.contains("Ada")).copied()), ("tell", "1", Some(ada.1.as_str()))]
        {
            let shown = ran(&place, &["render", "--run", "greet-immediate", id, "--step", step]);
            assert_eq!((shown.code, Some(shown.out.as_str())), (0, expected), "{shown:?}");
        }
        for (id, said) in [
            ("2", "opted out of news"),
            ("3", "person.phone is no number as E.164 writes it"),
            ("4", "person.phone is missing"),
        ] {
            let why = ran(&place, &["why", "greet", id, "town"]);
            assert!(why.out.contains(said), "{id}: {why:?}");
        }
    }
}

#[test]
fn previews_and_proofs_know_the_medium() {
    let home = crate::home::Home::new();
    home.write("town/town.yaml", MANIFEST);
    home.write("town/data/people.csv", PEOPLE);
    let shown = home.call(&["render", "greet", "--persona", "ann", "town", "--step", "text"]);
    assert!(shown.code == 0 && shown.out.contains("Hi Ann") && !shown.out.contains("Subject"), "{shown:?}");
    let shown =
        home.call(&["render", "greet", "--persona", "zoe", "town", "--step", "text", "-o", "json", "--locale", "it"]);
    let sample: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!((&sample[0]["text"], &sample[0]["subject"]), (&"Ciao Zoë".into(), &"".into()), "{sample}");
    let shown = home.call(&["render", "greet", "--persona", "zoe", "town", "--step", "tell", "--locale", "en"]);
    assert!(shown.out.contains("zone: it\ngreeting: Hello Zoë"), "{shown:?}");
    assert_eq!(home.run(&["town"]).code, 0);
    let proof = home.call(&["proof", "greet", "town", "--to", "+39 333 7654321", "--as", "1"]);
    assert!(proof.code == 0 && proof.err.contains("no proof of `mail`"), "{proof:?}");
    let path = proof.out.trim().rsplit(": ").next().unwrap().to_owned();
    assert_eq!(home.read(&path), "To: +393337654321\n\n[proof] Ciao Ada\n", "{proof:?}");
    let proof = home.call(&["proof", "greet", "town", "--to", "nobody", "--as", "1"]);
    assert!(proof.code == 2 && proof.err.contains("a phone number"), "{proof:?}");
}

#[test]
fn a_step_says_what_its_template_and_its_channel_have() {
    let home = crate::home::Home::new();
    for (from, to, said) in [
        ("  sms: {text: \"Hi {{ person.name }}\"}\n", "", "template `hello` has no section `sms`"),
        (
            "spec: {outbox: {}, ",
            "spec: {email: {from: a@example.com, smtp: {host: 127.0.0.1}}, ",
            "channel `out` is email.smtp, which carries no sms",
        ),
        (", sms: phone}", "}", "dataset `town` has no sms address for the profile"),
        ("[{name: greeting, value: \"Ciao", "[{name: greting, value: \"Ciao", "the template itself has no `greting`"),
        ("sms: {text: \"Hi {{ person.name }}\"}", "sms: {text: \"Hi {{ person.nam }}\"}", "did you mean `name`?"),
    ] {
        assert!(MANIFEST.contains(from), "{from}");
        home.write("town/town.yaml", &MANIFEST.replace(from, to));
        let checked = home.call(&["validate", "town"]);
        assert!(checked.code != 0 && format!("{}{}", checked.out, checked.err).contains(said), "{said}: {checked:?}");
    }
}

//! The three providers of pushes, each in one shape: what a folder declares to send to it, and what it was sent.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    push_on_the_wire::{apple_account, key_pair, rsa_pair},
    world::{
        Browsers,
        push_services::{Apple, Google, device},
    },
};

pub struct Counterpart {
    pub name: &'static str,
    /// The `push` section of a Channel.
    pub channel: String,
    /// Of the Secret `pushes`.
    pub secret: Value,
    pub url: String,
    at: At,
}

enum At {
    Browsers(Browsers),
    Google(Google),
    Apple(Apple),
}

impl Counterpart {
    pub async fn all() -> [Self; 3] {
        let browsers = Browsers::start().await.unwrap();
        let (private, public) = rsa_pair();
        let google = Google::start(public).await.unwrap();
        let (pem, _, public) = key_pair();
        let apple = Apple::start(apple_account(public), None).await.unwrap();
        let local = |port: u16| format!("http://127.0.0.1:{port}/");
        let (google_url, apple_url) = (local(google.server.port), local(apple.server.port));
        [
            Self {
                name: "webPush",
                channel: r#"{webPush: {subject: "mailto:push@example.com", secretRef: {name: pushes}}}"#.to_owned(),
                secret: json!({"key": key_pair().0}),
                url: browsers.url(),
                at: At::Browsers(browsers),
            },
            Self {
                name: "fcm",
                channel: format!(r#"{{fcm: {{secretRef: {{name: pushes}}, endpoint: "{google_url}"}}}}"#),
                secret: json!({"key": google.account(&private)}),
                url: google_url,
                at: At::Google(google),
            },
            Self {
                name: "apns",
                channel: format!(
                    r#"{{apns: {{topic: com.example.shop, keyId: ABC123DEFG, teamId: ABCDE12345, secretRef: {{name: pushes}},
                       environment: Sandbox, endpoint: "{apple_url}"}}}}"#
                ),
                secret: json!({"key": pem}),
                url: apple_url,
                at: At::Apple(apple),
            },
        ]
    }

    /// The address of a device that takes pushes; the same for the same name, of letters a to f.
    pub fn alive(&self, name: &str) -> String {
        match &self.at {
            At::Browsers(browsers) => browsers.subscription(name).unwrap(),
            At::Google(_) => format!("device:{name}_A-z"),
            At::Apple(_) => device(&format!("a{name}")),
        }
    }

    /// The address of a device that is gone.
    pub fn dead(&self) -> String {
        match &self.at {
            At::Browsers(browsers) => browsers.subscription("gone-410").unwrap(),
            At::Google(_) => "unregistered-1".to_owned(),
            At::Apple(_) => device("dead"),
        }
    }

    /// What devices showed: address, title, body and data.
    pub fn shown(&self) -> Vec<(String, String, String, BTreeMap<String, String>)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let data = |value: &Value| serde_json::from_value(value.clone()).unwrap_or_default();
        match &self.at {
            At::Browsers(browsers) => {
                let of = |push: &Value| {
                    let message = &push["message"];
                    let to = browsers.subscription(push["browser"].as_str().unwrap()).unwrap();
                    (to, text(&message["title"]), text(&message["body"]), data(&message["data"]))
                };
                browsers.received().unwrap().iter().map(of).collect()
            }
            At::Google(google) => {
                let of = |message: &Value| {
                    let (notice, to) = (&message["notification"], text(&message["token"]));
                    (to, text(&notice["title"]), text(&notice["body"]), data(&message["data"]))
                };
                google.messages.lock().unwrap().iter().map(of).collect()
            }
            At::Apple(apple) => {
                let seen = apple.seen.lock().unwrap().clone();
                let alive = seen.iter().filter(|seen| !seen.token.starts_with("dead"));
                let of = |mut body: Value, token: &str| {
                    let alert = body["aps"]["alert"].take();
                    body.as_object_mut().unwrap().remove("aps");
                    (token.to_owned(), text(&alert["title"]), text(&alert["body"]), data(&body))
                };
                alive.map(|seen| of(seen.body.clone(), &seen.token)).collect()
            }
        }
    }

    /// How long the newest push may wait for its device, its urgency and what it takes the place of, each as the provider
    /// is told.
    pub fn newest(&self) -> (i64, String, String) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match &self.at {
            At::Browsers(browsers) => {
                let push = browsers.received().unwrap().pop().unwrap();
                (push["ttl"].as_i64().unwrap(), text(&push["urgency"]), text(&push["topic"]))
            }
            At::Google(google) => {
                let message = google.messages.lock().unwrap().last().unwrap().clone();
                let android = &message["android"];
                let ttl = text(&android["ttl"]).trim_end_matches('s').parse().unwrap();
                (ttl, text(&android["priority"]), text(&android["collapse_key"]))
            }
            At::Apple(apple) => {
                let seen = apple.seen.lock().unwrap().clone();
                let seen = seen.iter().rfind(|seen| !seen.token.starts_with("dead")).unwrap();
                let until: i64 = seen.headers["apns-expiration"].parse().unwrap();
                let left = until - campanile::clock::Clock::system().now().as_second();
                (left, seen.headers["apns-priority"].clone(), seen.headers["apns-collapse-id"].clone())
            }
        }
    }
}

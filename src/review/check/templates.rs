//! Templates: what Marketing mail must carry, what mail programs cannot show, what is put into HTML as it is.

use super::{Look, Spot};
use crate::{
    api::{channel::Sender, medium::Medium},
    plan::{
        check::Campaign,
        message::{MessagePlan, UNSUBSCRIBE_URL},
    },
    send::{providers::Letterhead, template},
    source::{Key, Kind, declared::Spec},
};

pub(super) fn look(look: &mut Look<'_>) {
    for (key, campaign) in look.campaigns() {
        let is_marketing = |message: &MessagePlan| message.is_marketing && message.medium == Medium::Email;
        for (_, _, message) in campaign.plan.messages().filter(|(_, _, message)| is_marketing(message)) {
            marketing(look, key, campaign, message);
        }
    }
    for (key, spec) in look.specs(Kind::MessageTemplate) {
        let Spec::MessageTemplate(spec) = spec else { continue };
        for (path, text) in template::pages(&key.name, spec) {
            for at in as_it_is(&text) {
                let spot = Spot { key, path: &path, inside: Some(at..at + SAFE.len()) };
                let message = "what a person wrote in this field becomes part of the page as it is";
                look.warn("unescaped-value", spot, message, Some("leave `safe` out".to_owned()));
            }
        }
    }
}

fn marketing(look: &mut Look<'_>, campaign: &Key, checked: &Campaign, message: &MessagePlan) {
    let (name, channel) = (&message.template_name, &message.channel);
    let key = Key::new(Kind::MessageTemplate, &campaign.namespace, name);
    let is_reachable = checked.bundle.channels.get(channel).is_some_and(|channel| channel.public_url.is_some());
    let hint = if is_reachable {
        format!("write {{{{ {UNSUBSCRIBE_URL} }}}}")
    } else {
        format!("say `publicUrl` in Channel `{channel}`, and write {{{{ {UNSUBSCRIBE_URL} }}}}")
    };
    if let Some((path, parts)) = lacking(message, &[UNSUBSCRIBE_URL]) {
        let message = format!("Marketing mail without a link to unsubscribe: {parts}");
        look.warn("no-unsubscribe-link", Spot::at(&key, &path), message, Some(hint));
    }
    if let Some((path, parts)) = lacking(message, &["sender", "address"]) {
        let message = format!("Marketing mail without the sender's address: {parts}");
        let hint = "write {{ sender.address }}".to_owned();
        look.warn("no-sender-address", Spot::at(&key, &path), message, Some(hint));
    } else if let Some(declared) = checked.bundle.channels.get(channel) {
        let address = Letterhead::of(declared).sender.map(|Sender { address, .. }| address.trim());
        if address.is_none_or(str::is_empty) {
            let path = if declared.email.is_some() { "spec.email" } else { "spec.outbox" };
            let message = format!("Marketing mail goes out here, and {{{{ sender.address }}}} of `{name}` is empty");
            let hint = "say `sender: {name: …, address: …}`".to_owned();
            let key = Key::new(Kind::Channel, &campaign.namespace, channel);
            look.warn("no-sender-address", Spot::at(&key, path), message, Some(hint));
        }
    }
}

/// The bodies that do not read a variable: the path of the first, and all in words.
fn lacking(message: &MessagePlan, names: &[&str]) -> Option<(String, String)> {
    let silent = message.template.silent_about(names);
    let words: Vec<&str> = silent.iter().map(|silence| silence.words.as_str()).collect();
    let words = words.join(", ");
    silent.into_iter().next().map(|first| (first.path, words))
}

const SAFE: &str = "safe";

/// Where a filter keeps a value from being escaped.
fn as_it_is(text: &str) -> Vec<usize> {
    let is_filter = |at: usize| text[..at].trim_end().ends_with('|');
    let is_inside = |at: usize| text[..at].rfind("{{") > text[..at].rfind("}}");
    let is_word = |at: usize| !text[at + SAFE.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let found = text.match_indices(SAFE).map(|(at, _)| at);
    found.filter(|at| is_filter(*at) && is_inside(*at) && is_word(*at)).collect()
}

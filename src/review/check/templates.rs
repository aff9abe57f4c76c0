//! Templates: what Marketing mail must carry, what mail programs cannot show, what is put into HTML as it is.

use super::{Look, Spot};
use crate::{
    api::{MessageTemplateSpec, channel::Sender},
    plan::{
        check::Campaign,
        message::{EmailPlan, UNSUBSCRIBE_URL},
    },
    send::providers::Letterhead,
    source::{Key, Kind, declared::Spec},
};

pub(super) fn look(look: &mut Look<'_>) {
    for (key, campaign) in look.campaigns() {
        for (_, _, email) in campaign.plan.emails().filter(|(_, _, email)| email.is_marketing) {
            marketing(look, key, campaign, email);
        }
    }
    for (key, spec) in look.specs(Kind::MessageTemplate) {
        let Spec::MessageTemplate(spec) = spec else { continue };
        if spec.email.text.is_none() && spec.email.html.is_some() {
            let message = "who reads mail as text gets none";
            let hint = "add `text` beside `html`".to_owned();
            look.warn("html-only", Spot::at(key, "spec.email.html"), message, Some(hint));
        }
        for (path, _, text) in bodies(spec).into_iter().filter(|(path, _, _)| path.ends_with(".html")) {
            for at in as_it_is(text) {
                let spot = Spot { key, path: &path, inside: Some(at..at + SAFE.len()) };
                let message = "what a person wrote in this field becomes part of the page as it is";
                look.warn("unescaped-value", spot, message, Some("leave `safe` out".to_owned()));
            }
        }
    }
}

fn marketing(look: &mut Look<'_>, campaign: &Key, checked: &Campaign, email: &EmailPlan) {
    let (template, channel) = (&email.template_name, &email.channel);
    let Some(spec) = checked.bundle.templates.get(template) else { return };
    let key = Key::new(Kind::MessageTemplate, &campaign.namespace, template);
    let is_reachable = checked.bundle.channels.get(channel).is_some_and(|channel| channel.public_url.is_some());
    let hint = if is_reachable {
        format!("write {{{{ {UNSUBSCRIBE_URL} }}}}")
    } else {
        format!("say `publicUrl` in Channel `{channel}`, and write {{{{ {UNSUBSCRIBE_URL} }}}}")
    };
    if let Some((path, parts)) = lacking(spec, email, &[UNSUBSCRIBE_URL]) {
        let message = format!("Marketing mail without a link to unsubscribe: {parts}");
        look.warn("no-unsubscribe-link", Spot::at(&key, &path), message, Some(hint));
    }
    if let Some((path, parts)) = lacking(spec, email, &["sender", "address"]) {
        let message = format!("Marketing mail without the sender's address: {parts}");
        let hint = "write {{ sender.address }}".to_owned();
        look.warn("no-sender-address", Spot::at(&key, &path), message, Some(hint));
    } else if let Some(declared) = checked.bundle.channels.get(channel) {
        let address = Letterhead::of(declared).sender.map(|Sender { address, .. }| address.trim());
        if address.is_none_or(str::is_empty) {
            let path = if declared.email.is_some() { "spec.email" } else { "spec.outbox" };
            let message =
                format!("Marketing mail goes out here, and {{{{ sender.address }}}} of `{template}` is empty");
            let hint = "say `sender: {name: …, address: …}`".to_owned();
            let key = Key::new(Kind::Channel, &campaign.namespace, channel);
            look.warn("no-sender-address", Spot::at(&key, path), message, Some(hint));
        }
    }
}

/// The bodies that do not read a variable: the path of the first, and all in words.
fn lacking(spec: &MessageTemplateSpec, email: &EmailPlan, names: &[&str]) -> Option<(String, String)> {
    let reads = email.template.reads();
    let has = |path: &str| reads.iter().any(|read| read.path == path && read.names == names);
    let lacking: Vec<(String, String, &str)> = bodies(spec).into_iter().filter(|(path, _, _)| !has(path)).collect();
    let words: Vec<&str> = lacking.iter().map(|(_, words, _)| words.as_str()).collect();
    let words = words.join(", ");
    lacking.into_iter().next().map(|(path, _, _)| (path, words))
}

/// Each body with its path, in words, and its text.
fn bodies(spec: &MessageTemplateSpec) -> Vec<(String, String, &str)> {
    let base = [("text", &spec.email.text), ("html", &spec.email.html)];
    let base = base.into_iter().map(|(part, text)| (format!("spec.email.{part}"), part.to_owned(), text));
    let variants = spec.locales.iter().flat_map(|(locale, variant)| {
        let parts = [("text", &variant.email.text), ("html", &variant.email.html)];
        let name = move |part: &str| (format!("spec.locales.{locale}.email.{part}"), format!("{part} in {locale}"));
        parts.into_iter().map(move |(part, text)| {
            let (path, words) = name(part);
            (path, words, text)
        })
    });
    base.chain(variants).filter_map(|(path, words, text)| Some((path, words, text.as_deref()?))).collect()
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

//! What Marketing mail must say: how to withdraw, and who sends it, by name and address.
//!
//! Without it `validate` warns, and at live delivery a run is held before it begins. It is looked for where people read, in each
//! body in each locale: the `List-Unsubscribe` header is there all the same, and mail programs do not always show it.

use super::{
    Bundle, Finding, Ref,
    message::{MessagePlan, UNSUBSCRIBE_URL},
};
use crate::{
    api::{
        channel::{Sender, Way},
        medium::Medium,
    },
    send::providers::Letterhead,
};

const NO_LINK: &str = "no-unsubscribe-link";
const NO_ADDRESS: &str = "no-sender-address";

/// What a step's mail lacks; nothing, if it is no Marketing mail.
pub fn lacks(bundle: &Bundle, message: &MessagePlan) -> Vec<Finding> {
    let mut found = vec![];
    if !message.is_marketing || message.medium != Medium::Email {
        return found;
    }
    let template = Ref::new("MessageTemplate", &message.template_name);
    let declared = bundle.channels.get(&message.channel);
    let is_reachable = declared.is_some_and(|channel| channel.public_url.is_some());
    if let Some((path, parts)) = silent(message, &[UNSUBSCRIBE_URL]) {
        let hint = if is_reachable {
            format!("write {{{{ {UNSUBSCRIBE_URL} }}}}")
        } else {
            format!("say `publicUrl` in Channel `{}`, and write {{{{ {UNSUBSCRIBE_URL} }}}}", message.channel)
        };
        let text = format!("Marketing mail without a link to unsubscribe: {parts}");
        found.push(Finding::new(&template, path, text).id(NO_LINK).hint(hint));
    } else if !is_reachable && declared.is_some_and(goes_out) {
        found.push(of_channel(message, "spec", UNSUBSCRIBE_URL, "say `publicUrl`").id(NO_LINK));
    }
    if let Some((path, parts)) = silent(message, &["sender", "address"]) {
        let text = format!("Marketing mail without the sender's address: {parts}");
        found.push(Finding::new(&template, path, text).id(NO_ADDRESS).hint("write {{ sender.address }}"));
    } else if let Some(declared) = declared {
        let address = Letterhead::of(declared).sender.map(|Sender { address, .. }| address.trim());
        if address.is_none_or(str::is_empty) {
            let path = if declared.email.is_some() { "spec.email" } else { "spec.outbox" };
            let hint = "say `sender: {name: …, address: …}`";
            found.push(of_channel(message, path, "sender.address", hint).id(NO_ADDRESS));
        }
    }
    found
}

/// Why a run of these steps may not begin at live delivery.
pub fn objection(bundle: &Bundle, plan: &super::Plan) -> Option<String> {
    let mut found = plan.messages().flat_map(|(_, _, message)| {
        let is_sent = bundle.channels.get(&message.channel).is_some_and(goes_out);
        if is_sent { lacks(bundle, message) } else { vec![] }
    });
    found.next().map(|first| first.to_string())
}

/// Whether a channel's messages leave: an outbox writes them to a folder.
fn goes_out(channel: &crate::api::ChannelSpec) -> bool {
    !matches!(channel.way(), Way::Outbox(_))
}

fn of_channel(message: &MessagePlan, path: &str, variable: &str, hint: &str) -> Finding {
    let text =
        format!("Marketing mail goes out here, and {{{{ {variable} }}}} of `{}` is empty", message.template_name);
    Finding::new(&Ref::new("Channel", &message.channel), path, text).hint(hint)
}

/// The bodies that do not read a variable: the path of the first, and all in words.
fn silent(message: &MessagePlan, names: &[&str]) -> Option<(String, String)> {
    let silent = message.template.silent_about(names);
    let words: Vec<&str> = silent.iter().map(|silence| silence.words.as_str()).collect();
    let words = words.join(", ");
    silent.into_iter().next().map(|first| (first.path, words))
}

//! Channels: passwords in clear, signatures that vouch for nobody, Secrets in git.

use std::collections::BTreeSet;

use super::{Look, Spot};
use crate::{
    api::channel::{EmailChannel, SmppTls, Tls},
    send::{channel::http, mime, template},
    source::{
        Key, Kind,
        declared::Spec,
        manifest::{Diagnostic, Severity},
    },
};

pub(super) fn look(look: &mut Look<'_>) {
    unused(look);
    for (key, spec) in look.specs(Kind::Channel) {
        let Spec::Channel(spec) = spec else { continue };
        if let Some(http) = spec.http.as_ref().filter(|http| http.secret_ref.is_some())
            && let Ok(url) = http::origin(http)
            && url.scheme() == "http"
            && !is_local(url.host_str().unwrap_or_default())
        {
            let message = format!("the secret goes to {} in clear", url.host_str().unwrap_or_default());
            look.warn("unencrypted", Spot::at(key, "spec.http.request.url"), message, Some("say https".to_owned()));
        }
        if let Some(smpp) = spec.sms.as_ref().and_then(|sms| sms.smpp.as_ref())
            && smpp.tls == SmppTls::None
            && !is_local(&smpp.host)
        {
            let message = format!("the password and all texts go to {} in clear", smpp.host);
            let hint = "say `tls: Implicit`, unless this is a line of your own".to_owned();
            look.warn("unencrypted", Spot::at(key, "spec.sms.smpp.tls"), message, Some(hint));
        }
        let Some(email) = &spec.email else { continue };
        let may_be_clear = matches!(email.smtp.tls, Tls::None | Tls::Opportunistic);
        if may_be_clear && !is_local(&email.smtp.host) && email.smtp.secret_ref.is_some() {
            let message = format!("the password goes to {} over a connection that may be in clear", email.smtp.host);
            let hint = "say `tls: Required` or `tls: Implicit`".to_owned();
            look.warn("unencrypted", Spot::at(key, "spec.email.smtp.tls"), message, Some(hint));
        }
        signature(look, key, email);
    }
    for manifest in look.tree.manifests().iter().filter(|manifest| manifest.kind == "Secret") {
        let part = ["stringData", "data"].into_iter().find(|part| manifest.object[*part].is_object());
        let Some(part) = part else { continue };
        let message = format!("the values of Secret `{}` stand here for everyone to read", manifest.name);
        let hint = "leave them to the cluster or to variables: CAMPANILE_SECRET_<NAME>_<KEY>".to_owned();
        let diagnostic = manifest.diagnose("secret-in-manifests", part, None, message, Some(hint));
        look.found.push(Diagnostic { severity: Severity::Warning, ..diagnostic });
    }
}

fn is_local(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "::1" | "[::1]")
}

/// DMARC (RFC 7489) asks that the domain that signs and that of the sender have one organisation: that one is the other
/// or lies below it comes near enough without a list of all public suffixes.
fn signature(look: &mut Look<'_>, key: &Key, email: &EmailChannel) {
    let Some(dkim) = &email.dkim else { return };
    let Some(address) = mime::address_of(&email.from) else { return };
    let Some((_, domain)) = address.rsplit_once('@') else { return };
    let (domain, signs) = (domain.to_ascii_lowercase(), dkim.domain.to_ascii_lowercase());
    let is_below = |one: &str, other: &str| one == other || one.ends_with(&format!(".{other}"));
    if !is_below(&domain, &signs) && !is_below(&signs, &domain) {
        let message = format!("{signs} does not vouch for mail from {domain}, so DMARC does not pass by it");
        look.warn("dkim-of-another-domain", Spot::at(key, "spec.email.dkim.domain"), message, None);
    }
}

/// Channels and templates that no campaign names.
fn unused(look: &mut Look<'_>) {
    let mut used = BTreeSet::new();
    for (owner, spec) in look.specs(Kind::Campaign) {
        let Spec::Campaign(spec) = spec else { continue };
        for step in &spec.steps {
            let Some((_, message)) = step.activity.message() else { continue };
            used.insert(Key::new(Kind::Channel, &owner.namespace, &message.channel));
            used.insert(Key::new(Kind::MessageTemplate, &owner.namespace, &message.template));
        }
    }
    for (owner, spec) in look.specs(Kind::MessageTemplate) {
        let Spec::MessageTemplate(spec) = spec else { continue };
        let others = template::includes(&owner.name, spec).into_iter().map(|include| include.template);
        let others = others.filter(|other| *other != owner.name);
        used.extend(others.map(|other| Key::new(Kind::MessageTemplate, &owner.namespace, &other)));
    }
    let unreadable = look.tree.unreadable_namespaces(&[Kind::Campaign]);
    for (key, _) in look.specs(Kind::Channel).chain(look.specs(Kind::MessageTemplate)) {
        if !used.contains(key) && !unreadable.contains(key.namespace.as_str()) {
            let message = format!("no campaign uses {} `{}`", key.kind, key.name);
            look.warn("unused-template", Spot::at(key, "metadata.name"), message, None);
        }
    }
}

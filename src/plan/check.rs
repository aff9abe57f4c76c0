//! What is wrong with an object, with those that it refers to at hand: the same for a manifest, for an object of a
//! cluster, and for a pull request.
//!
//! All that is wrong is found, not the first of it. What only follows from another object's being wrong says so
//! ([`Finding::is_consequence`]).

use std::collections::BTreeMap;

use super::{
    Bundle, CIRCLE, Finding, INVALID_ADDRESS, Library, Plan, Ref,
    audience::{self, Sets},
    dataset, fragment,
    message::template_findings,
    missing_reference,
};
use crate::{
    api::{
        AudienceSpec, CampaignRunSpec, CampaignSpec, ChannelSpec, ContactPolicySpec, DatasetSpec, MessageTemplateSpec,
        campaign::CAMPAIGN_NAME_CHARS_MAX,
        channel::{MailFile, SmsChannel, Way},
        duration::Duration,
        expect::Expect,
        medium::Medium,
        name::Label,
    },
    files::{self, address::check_target},
    rule::{Dialect, Schema, check_syntax},
    run::schedule::Timetable,
    send::{address, channel, mime, template::Template},
};

/// So long requests are remembered, so that none is taken twice.
const WEBHOOK_TOLERANCE_MAX: Duration = Duration::from_hours(24);
/// Ten octets of an address hold so many characters.
const SENDER_NAME_MAX: usize = 11;
/// Of a return path's local part: a `+` and a reference follow it (see `feedback::reference`).
const RETURN_PATH_LOCAL_MAX: usize = 16;

/// An audience that fits its dataset, with all that it builds on.
pub struct Audience {
    pub dataset: DatasetSpec,
    pub schema: Schema,
    pub sets: Sets,
}

/// A campaign that could start.
pub struct Campaign {
    pub bundle: Bundle,
    pub plan: Plan,
    /// Without one runs are made by hand.
    pub timetable: Option<Timetable>,
}

/// An object's namespace and name.
pub type Named<'a> = (&'a str, &'a str);

pub fn channel(name: &str, spec: &ChannelSpec) -> Vec<Finding> {
    let this = Ref::new("Channel", name);
    let mut found = vec![];
    if spec.outbox.is_none() && matches!(spec.way(), Way::Outbox(_)) {
        return vec![Finding::new(
            &this,
            "spec",
            "a channel is exactly one of email, sms, push, directMail, http, outbox",
        )];
    }
    let (from, reply_to, at) = match spec.way() {
        Way::Smtp(email) => (Some(&email.from), &email.reply_to, "spec.email"),
        Way::Outbox(outbox) => (Some(&outbox.from), &outbox.reply_to, "spec.outbox"),
        Way::MailFile(file) => {
            found.extend(mail_file(&this, file));
            (None, &None, "")
        }
        _ => (None, &None, ""),
    };
    let addresses = [("from", from), ("replyTo", reply_to.as_ref())];
    let wrong = addresses.into_iter().filter(|(_, text)| text.is_some_and(|text| mime::address_of(text).is_none()));
    let finding = |(field, _)| {
        Finding::new(&this, format!("{at}.{field}"), "this is not an address")
            .hint("write it as in Shop <shop@example.com>")
            .id(INVALID_ADDRESS)
    };
    found.extend(wrong.map(finding));
    let return_path = spec.email.as_ref().and_then(|email| email.return_path.as_deref());
    if return_path.is_some_and(|path| !mime::is_address(path) || path.find('@') > Some(RETURN_PATH_LOCAL_MAX)) {
        let message = format!("this is not an address with at most {RETURN_PATH_LOCAL_MAX} characters before its @");
        let hint = "a reference to the message follows them, and a local part ends at 64";
        found.push(Finding::new(&this, "spec.email.returnPath", message).hint(hint).id(INVALID_ADDRESS));
    }
    found.extend(spec.sms.as_ref().and_then(|sms| text_sender(&this, sms)));
    found.extend(spec.http.iter().flat_map(channel::http::check).map(|wrong| {
        let finding = Finding::new(&this, format!("spec.http.{}", wrong.path), wrong.message);
        Finding { span: wrong.span, hint: wrong.hint, ..finding }
    }));
    let has_segments = spec.way().medium().is_none_or(|medium| medium == Medium::Sms);
    if !has_segments && spec.price.as_ref().is_some_and(|price| price.per_segment.is_some()) {
        let hint = "say `perMessage`";
        found.push(Finding::new(&this, "spec.price.perSegment", "only texts have segments").hint(hint));
    }
    if spec.callbacks.is_some() && spec.public_url.is_none() {
        let message = "callbacks need `publicUrl`: where `--listen` is reached from outside";
        found.push(Finding::new(&this, "spec.callbacks", message));
    }
    if let Some(webhook) = spec.callbacks.as_ref().and_then(|callbacks| callbacks.webhook.as_ref())
        && webhook.signature.tolerance > WEBHOOK_TOLERANCE_MAX
    {
        let message = format!("a request may be at most {WEBHOOK_TOLERANCE_MAX} old");
        found.push(Finding::new(&this, "spec.callbacks.webhook.signature.tolerance", message));
    }
    found
}

/// Who a text is from, if it is nobody: a number, a short code, or a name.
fn text_sender(this: &Ref, sms: &SmsChannel) -> Option<Finding> {
    let (from, path) = sms.from()?;
    if address::is_phone(from) || is_short_code(from) || is_sender_name(from) {
        return None;
    }
    let message = "this is no sender of texts";
    let hint = "a number as in +393331234567, a short code, or a name of at most 11 letters, digits, blanks, `&`, `.`, `_`, `+`, `-`";
    Some(Finding::new(this, path, message).hint(hint).id(INVALID_ADDRESS))
}

fn is_short_code(text: &str) -> bool {
    (3..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// What networks show of an alphanumeric sender (3GPP TS 23.038: eleven characters of seven bits).
fn is_sender_name(text: &str) -> bool {
    text.len() <= SENDER_NAME_MAX
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" &._+-".contains(&b))
}

/// Apple keeps the first, Google the others.
fn is_reserved(data: &str) -> bool {
    ["aps", "from", "message_type"].contains(&data) || data.starts_with("google") || data.starts_with("gcm")
}

/// A name that is the same for two runs would be that of one file.
fn mail_file(this: &Ref, file: &MailFile) -> Vec<Finding> {
    const WORDS: [&str; 4] = ["namespace", "campaign", "run", "step"];
    let at = |field: &str| format!("spec.directMail.file.{field}");
    let mut found = vec![];
    if !file.name.contains("{run}") {
        found.push(Finding::new(this, at("name"), "it lacks `{run}`, by which the files of runs are told apart"));
    }
    let bare = WORDS.iter().fold(file.name.clone(), |text, word| text.replace(&format!("{{{word}}}"), ""));
    if bare.contains(['{', '}']) {
        let message = format!("in braces stands one of {}", WORDS.join(", "));
        found.push(Finding::new(this, at("name"), message));
    }
    if let Err(wrong) = check_target(&format!("{}/x", file.url.trim_end_matches('/')), &file.access) {
        found.push(Finding::new(this, at(wrong.field), wrong.message.replace("/x`", "`")));
    }
    found
}

pub fn policy(name: &str, spec: &ContactPolicySpec) -> Vec<Finding> {
    let Some(import) = &spec.suppression.import else { return vec![] };
    let this = Ref::new("ContactPolicy", name);
    let wrong = files::address::check_source(&import.url, &import.access).err();
    let finding = |wrong: files::address::Misaddressed| {
        Finding::new(&this, format!("spec.suppression.import.{}", wrong.field), wrong.message).id(INVALID_ADDRESS)
    };
    wrong.map(finding).into_iter().collect()
}

/// Whether its variables exist is known only where a campaign uses it.
pub fn template((namespace, name): Named<'_>, spec: &MessageTemplateSpec, library: &dyn Library) -> Vec<Finding> {
    let mut all = BTreeMap::new();
    let mut found = fragment::gather((namespace, name), spec.clone(), library, &mut all);
    if found.is_empty() {
        found = template_findings(Template::check((name, spec), &all));
    }
    let push = spec.push.iter().map(|push| ("spec.push".to_owned(), &push.data));
    let variants = spec
        .locales
        .iter()
        .filter_map(|(tag, variant)| Some((format!("spec.locales.{tag}.push"), &variant.push.as_ref()?.data)));
    for (at, data) in push.chain(variants) {
        found.extend(data.iter().enumerate().filter(|(_, value)| is_reserved(&value.name)).map(|(index, value)| {
            let message = format!("`{}` is a name that a push service keeps for itself", &*value.name);
            let this = Ref::new("MessageTemplate", name);
            Finding::new(&this, format!("{at}.data[{index}].name"), message).hint("choose another name")
        }));
    }
    if spec.fragments.is_empty() && !Medium::ALL.into_iter().any(|medium| Template::has(spec, medium)) {
        let message = "a template has at least one of email, sms, push, directMail, http, fragments";
        found.push(Finding::new(&Ref::new("MessageTemplate", name), "spec", message));
    }
    found
}

/// # Errors
/// All that is wrong with it, and with the audiences that it builds on.
pub fn audience(
    (namespace, name): Named<'_>,
    spec: &AudienceSpec,
    library: &dyn Library,
    dialect: Dialect,
) -> Result<Audience, Vec<Finding>> {
    let (specs, mut found) = audience::gather_one(name, spec, namespace, library);
    let this = Ref::new("Audience", name);
    let Some(declared) = library.dataset(&spec.dataset) else {
        found.push(missing_reference(&this, "spec.dataset", ("Dataset", &spec.dataset), namespace, library));
        let syntax = spec.rule.as_ref().and_then(|rule| check_syntax(rule).err());
        found.extend(syntax.map(|problem| Finding::of_problem(&this, "spec.where", problem)));
        return Err(found);
    };
    let schema = dataset::schema_of(&declared, namespace, &spec.dataset, dialect);
    let schema = audience::known_to(schema, &specs);
    match audience::compile(&specs, &spec.dataset, &schema) {
        Ok(sets) if found.is_empty() => Ok(Audience { dataset: declared, schema, sets }),
        compiled => Err(with(found, compiled.err())),
    }
}

/// # Errors
/// All that is wrong with it, and with the audiences and templates that it uses.
pub fn campaign(
    (namespace, name): Named<'_>,
    spec: &CampaignSpec,
    library: &dyn Library,
    dialect: Dialect,
) -> Result<Campaign, Vec<Finding>> {
    let this = Ref::new("Campaign", name);
    let mut found = vec![];
    if name.chars().count() > CAMPAIGN_NAME_CHARS_MAX {
        let message = format!("a campaign's name has at most {CAMPAIGN_NAME_CHARS_MAX} characters");
        found.push(Finding::new(&this, "metadata.name", message));
    }
    let timetable = spec.schedule.as_ref().map(Timetable::of).transpose().unwrap_or_else(|wrong| {
        found.push(Finding::of_schedule(&this, "spec.schedule", wrong));
        None
    });
    if let Some((field, why)) = spec.expect.as_ref().and_then(Expect::problem) {
        found.push(Finding::new(&this, format!("spec.expect{field}"), why));
    }
    found.extend(former_names(&this, spec, library));
    let (bundle, missing) = Bundle::gather_some(namespace, name, spec, library);
    found.extend(missing);
    let Some(bundle) = bundle else {
        return Err(with(found, Some(Bundle::check_order(spec, name))));
    };
    match bundle.compile(dialect) {
        Ok(plan) if found.is_empty() => Ok(Campaign { bundle, plan, timetable }),
        compiled => Err(with(found, compiled.err())),
    }
}

/// A name that is given up is one that no campaign has.
fn former_names(this: &Ref, spec: &CampaignSpec, library: &dyn Library) -> Vec<Finding> {
    let finding = |(index, former): (usize, &Label)| {
        let at = format!("spec.formerly[{index}]");
        if **former == *this.name {
            return Some(Finding::new(this, at, "this is its name now"));
        }
        let again = spec.formerly.iter().position(|other| other == former) != Some(index);
        if again {
            return Some(Finding::new(this, at, format!("`{former}` is there twice")));
        }
        library.is_declared("Campaign", former).then(|| {
            Finding::new(this, at, format!("campaign `{former}` is still declared: two cannot have its history"))
                .hint("take it out here, or delete the other one")
        })
    };
    spec.formerly.iter().enumerate().filter_map(finding).collect()
}

/// # Errors
/// If its campaign is not there.
pub fn run(
    (namespace, name): Named<'_>,
    spec: &CampaignRunSpec,
    library: &dyn Library,
) -> Result<CampaignSpec, Vec<Finding>> {
    let this = Ref::new("CampaignRun", name);
    let lost = || vec![missing_reference(&this, "spec.campaign", ("Campaign", &spec.campaign), namespace, library)];
    library.campaign(&spec.campaign).ok_or_else(lost)
}

/// Adds what else was found, but for what is said already: a reference that is missing is missing for the compiler, too.
fn with(mut found: Vec<Finding>, others: Option<Vec<Finding>>) -> Vec<Finding> {
    let lost: Vec<(Ref, String)> = found
        .iter()
        .filter(|f| f.is_missing_reference || f.id == CIRCLE)
        .map(|f| (f.object.clone(), f.path.clone()))
        .collect();
    let is_said =
        |finding: &Finding| lost.iter().any(|(object, path)| finding.object == *object && finding.path == *path);
    found.extend(others.into_iter().flatten().filter(|finding| !is_said(finding)));
    found
}

//! `campanile proof CAMPAIGN --to me@example.com --as KEY`: sends messages to who looks at them, as others would get them.
//!
//! ```text
//! --as 23                            the person with that key; rental=1457: the row
//! --as longest:customer.first_name   who of the campaign's people has the longest one
//! --as missing:language              who of them has none
//! --as persona:zoe                   a declared persona
//! ```
//!
//! A proof goes through the campaign's channel and this process' gate (`--deliver`, by default the outbox). Its subject and
//! a header say what it is, its links withdraw nobody, and it enters no ledger, count, history, cap or `once`: nothing is
//! written to the store.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::{
    End, home,
    preview::{self, Declared, PreviewArgs, no_persona, persona_of, steps},
    put,
    sending::GateArgs,
};
use crate::{
    api::{channel::Way, medium::Medium},
    clock::Clock,
    plan::{Bundle, Plan},
    review::{
        person::{Subject, Walker, pick::Pick},
        persona,
    },
    send::{
        address,
        channel::{Delivery, Envelope, Permission},
        dispatch::{Secrets, signer},
        letter::Purpose,
        providers::Providers,
        said::Said,
    },
};

/// Before the token of a device.
const DEVICE: &str = "push:";
/// More is no proof but a sending.
const PROOFS_MAX: usize = 20;

#[derive(ClapArgs)]
pub struct Args {
    campaign: String,
    /// Folders or files with manifests; this folder unless said.
    path: Vec<PathBuf>,
    /// Where the proofs go: a mail address for steps that send mail, a phone number for texts, `push:TOKEN` for pushes.
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// As whom: KEY, ENTITY=KEY, longest:FIELD, missing:FIELD or persona:NAME. May stand several times.
    #[arg(long = "as", value_name = "WHOM", required = true)]
    whom: Vec<String>,
    /// One channel step, instead of all.
    #[arg(long)]
    step: Option<String>,
    #[command(flatten)]
    gate: GateArgs,
    #[command(flatten)]
    preview: PreviewArgs,
}

/// A message that is to be proved.
struct Proof {
    step: String,
    /// In words; masked.
    whom: String,
    said: Said,
}

pub async fn run(args: Args) -> End {
    match prove(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn prove(args: Args) -> Result<End, End> {
    let wrong = |message: String, hint: Option<&str>| End::Wrong(message, hint.map(str::to_owned));
    let read = |medium| (medium, address::plain(medium, &args.to));
    let mut known = [Medium::Email, Medium::Sms].map(read).into_iter();
    let known = match args.to.strip_prefix(DEVICE) {
        // A token could be anything.
        Some(token) => Some((Medium::Push, address::plain(Medium::Push, token))),
        None => known.find(|(medium, to)| address::is_fit(*medium, to)),
    };
    let Some((medium, given)) = known else {
        let message = "--to wants an address, as in me@example.com, a phone number, as in +393331234567, or push:TOKEN";
        return Err(wrong(message.to_owned(), None));
    };
    let Some(to) = args.gate.deliver.pass(medium, &given).map(str::to_owned) else {
        return Err(wrong("--deliver does not allow the address of --to".to_owned(), None));
    };
    let store = args.preview.store().await?;
    let declared = args.preview.declared(&args.path);
    let pinned = declared.campaign(&args.campaign, store.dialect())?;
    let (namespace, campaign) = (&pinned.0.namespace, &pinned.0.name);
    if let Some(reason) = store.stopped(namespace, campaign).await? {
        return Err(wrong(format!("the campaign is stopped: {reason}"), Some("`campanile start` takes a stop back")));
    }
    let mask = args.preview.mask(&pinned)?;
    let walker = preview::walker(&store, &pinned, args.preview.now(), mask).await?;
    let mut proofs = vec![];
    for step in steps(&pinned, args.step.as_deref())? {
        if pinned.1.message_named(&step).is_some_and(|(_, message)| message.medium != medium) {
            eprintln!("warning: no proof of `{step}`: it sends nothing to such an address");
            continue;
        }
        for whom in &args.whom {
            proofs.extend(proof(&walker, &pinned, &step, whom, &to).await?);
        }
    }
    if proofs.is_empty() {
        return Err(wrong("nobody of the campaign is as asked".to_owned(), Some("see `campanile why`")));
    }
    if proofs.len() > PROOFS_MAX {
        let message = format!("these are {} proofs, and at most {PROOFS_MAX} are sent at once", proofs.len());
        return Err(wrong(message, Some("choose a step with --step")));
    }
    let providers = args.gate.providers(home::outbox(), args.gate.reach(false), Clock::system())?;
    let mut are_all_sent = true;
    for (index, proof) in proofs.iter().enumerate() {
        are_all_sent &= send(&walker, &pinned, &declared, &providers, (proof, index)).await?;
    }
    Ok(if are_all_sent { End::Done } else { End::Failed })
}

/// What one `--as` means at one step; nobody, where the step has no such row.
async fn proof(
    walker: &Walker<'_>,
    pinned: &(Bundle, Plan),
    step: &str,
    whom: &str,
    to: &str,
) -> Result<Option<Proof>, End> {
    let made = |said: Said, whom: String| Some(Proof { step: step.to_owned(), whom, said });
    let picked = match whom.split_once(':') {
        Some(("persona", name)) => {
            let declared = persona_of(pinned, step, name).ok_or_else(|| no_persona(pinned, step, name))?;
            let Some((_, message)) = pinned.1.message_named(step) else { return Ok(None) };
            let said =
                persona::said(&pinned.0, message, declared, None).map_err(|message| End::Wrong(message, None))?;
            return Ok(made(Said { to: to.to_owned(), ..said }, format!("persona {name}")));
        }
        Some(("longest", field)) => Some((Pick::Longest, field)),
        Some(("missing", field)) => Some((Pick::Missing, field)),
        _ => None,
    };
    let about = match picked {
        Some((pick, field)) => walker
            .pick(step, pick, field)
            .await?
            .map_err(|problem| End::Wrong(format!("--as {whom}: {}", problem.message), problem.hint))?,
        None => {
            let subject = Subject::read(whom, &pinned.0.dataset);
            let subject = subject.map_err(|(message, hint)| End::Wrong(message, hint))?;
            let (rows, is_in) = walker.messages_to(step, &subject).await?;
            if !is_in && !rows.is_empty() {
                eprintln!("warning: `{step}` sends nothing to this {} now; see `campanile why`", subject.entity);
            }
            rows.into_iter().next()
        }
    };
    let Some(about) = about else { return Ok(None) };
    let words = match picked {
        Some(_) => whom.to_owned(),
        None => walker.mask().text(whom),
    };
    Ok(made(about.said_to(to), words))
}

/// Sends one proof; whether it went.
async fn send(
    walker: &Walker<'_>,
    pinned: &(Bundle, Plan),
    declared: &Declared,
    providers: &Providers,
    (proof, index): (&Proof, usize),
) -> Result<bool, End> {
    let wrong = |message: String| End::Wrong(message, None);
    let Proof { step, whom, said } = proof;
    let (namespace, campaign) = (&pinned.0.namespace, &pinned.0.name);
    let channel = pinned.1.message_named(step).map(|(_, message)| message.channel.clone()).unwrap_or_default();
    let spec = pinned.0.channels.get(&channel).ok_or_else(|| wrong(format!("there is no Channel `{channel}`")))?;
    let signer = match signer(declared, namespace, spec).await {
        Err(problem) if providers.gate().is_open() => return Err(wrong(format!("channel {channel}: {problem}"))),
        signer => signer.ok().flatten(),
    };
    let letter = walker.sampler().letter(step, Purpose::Proof, signer)?;
    let now = Clock::system().now();
    let number = i64::try_from(index).unwrap_or(i64::MAX);
    // The person only tells that there is a link; it is a specimen.
    let written = letter.written((now.as_microsecond(), number), Some(""), said, now);
    let written = match written {
        Ok(written) => written,
        Err(problem) => {
            eprintln!("error: {step}, as {whom}: {problem}");
            return Ok(false);
        }
    };
    let login = match spec.way().secret() {
        Some(reference) => declared.secret(namespace, &reference.name).await,
        None => None,
    };
    let provider = providers.provider(namespace, &channel, spec, login.as_ref());
    let provider = provider.map_err(|problem| wrong(format!("channel {channel}: {problem}")))?;
    let folder: PathBuf = [namespace, campaign, "proof"].iter().collect();
    let id = format!("{step}-{}-{number}", now.as_microsecond());
    let path = home::outbox().join(&folder).join(format!("{id}.{}", written.content.file().0));
    let (reference, permission) = (String::new(), Permission::default());
    let envelope = Envelope { id, reference, content: written.content, folder, permission };
    let is_file = !providers.gate().is_open() || matches!(spec.way(), Way::Outbox(_));
    match provider.deliver(envelope).await {
        Delivery::Sent { .. } if is_file => {
            put(format!("{step}, as {whom}: {}\n", path.display()).as_bytes())?;
            Ok(true)
        }
        Delivery::Sent { .. } => {
            put(format!("{step}, as {whom}: sent to {}\n", said.to).as_bytes())?;
            Ok(true)
        }
        Delivery::Refused { reason, detail } | Delivery::Later { reason, detail, .. } => {
            eprintln!("error: {step}, as {whom}: {}: {detail}", reason.as_str());
            Ok(false)
        }
        Delivery::InDoubt { detail } => {
            eprintln!("error: {step}, as {whom}: it may have arrived: {detail}");
            Ok(false)
        }
        Delivery::Unsent => Ok(false),
    }
}

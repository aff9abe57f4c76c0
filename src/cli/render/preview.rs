//! A campaign's messages as one person, or a persona, would get them.

use std::{
    fmt::Write,
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Args, Output};
use crate::{
    cli::{
        End,
        preview::{self, no_persona, persona_of, steps},
        put,
    },
    clock::Clock,
    plan::{Bundle, Plan},
    review::{
        person::Subject,
        sample::{Sample, Sampler},
    },
    rule::{Dialect, Inputs},
};

/// Messages of one step that are shown; a person with more rows at a step is asked about by the key of one of them.
const MESSAGES_MAX: usize = 5;

/// What was written, and what could not be.
#[derive(Default)]
struct Shown {
    samples: Vec<Sample>,
    /// Sentences.
    failed: Vec<String>,
}

pub async fn render(args: Args) -> Result<End, End> {
    let mut words = args.words.iter();
    let wrong = |message: &str, hint: &str| End::Wrong(message.to_owned(), Some(hint.to_owned()));
    let campaign = words.next().cloned().unwrap_or_default();
    let mut shown = Shown::default();
    match &args.persona {
        Some(name) => {
            let paths: Vec<PathBuf> = words.map(PathBuf::from).collect();
            let pinned = args.preview.declared(&paths).campaign(&campaign, Dialect::Sqlite)?;
            let mask = args.preview.mask(&pinned)?;
            let sampler = Sampler::new(pinned.clone(), Inputs::at(args.preview.now()), mask);
            for step in steps(&pinned, args.step.as_deref())? {
                let persona = persona_of(&pinned, &step, name);
                let persona = persona.ok_or_else(|| no_persona(&pinned, &step, name))?;
                let own = persona.locale.as_deref();
                for locale in locales(&pinned, &step, args.locale.as_deref(), own) {
                    shown.take(&step, sampler.persona(&step, persona, locale.as_deref()));
                }
            }
        }
        None => {
            let Some(key) = words.next() else {
                return Err(wrong("whose message?", "name the key of a person, or --persona"));
            };
            let paths: Vec<PathBuf> = words.map(PathBuf::from).collect();
            let store = args.preview.store().await?;
            let pinned = args.preview.declared(&paths).campaign(&campaign, store.dialect())?;
            let mask = args.preview.mask(&pinned)?;
            let subject = Subject::read(key, &pinned.0.dataset).map_err(|(message, hint)| End::Wrong(message, hint))?;
            let walker = preview::walker(&store, &pinned, args.preview.now(), mask).await?;
            let mut found = vec![];
            for step in steps(&pinned, args.step.as_deref())? {
                let (rows, is_in) = walker.messages_to(&step, &subject).await?;
                found.push((step, rows, is_in));
            }
            // The steps that she comes to; all, where that is none.
            if found.iter().any(|(_, _, is_in)| *is_in) {
                found.retain(|(_, _, is_in)| *is_in);
            }
            for (step, rows, is_in) in &found {
                if !is_in && !rows.is_empty() {
                    eprintln!("warning: `{step}` sends nothing to this {} now; see `campanile why`", subject.entity);
                }
                if rows.len() > MESSAGES_MAX {
                    eprintln!("warning: `{step}` has {} messages; {MESSAGES_MAX} are shown", rows.len());
                }
                for row in rows.iter().take(MESSAGES_MAX) {
                    for locale in locales(&pinned, step, args.locale.as_deref(), row.locale.as_deref()) {
                        shown.take(step, walker.sampler().about(step, row, locale.as_deref()));
                    }
                }
            }
            if shown.samples.is_empty() && shown.failed.is_empty() {
                let hint = "`campanile why` says what is known of it";
                return Err(wrong(&format!("there is no such {} that a message could be about", subject.entity), hint));
            }
        }
    }
    put_all(&args, &campaign, &shown)?;
    shown.failed.iter().for_each(|problem| eprintln!("error: {problem}"));
    Ok(if shown.failed.is_empty() { End::Done } else { End::Failed })
}

impl Shown {
    fn take(&mut self, step: &str, sample: Result<Sample, String>) {
        match sample {
            Ok(sample) => self.samples.push(sample),
            Err(problem) => self.failed.push(format!("`{step}` cannot be written: {problem}")),
        }
    }
}

/// The variants to be shown, the person's own first: each once, and the base among them.
fn locales(pinned: &(Bundle, Plan), step: &str, wanted: Option<&str>, own: Option<&str>) -> Vec<Option<String>> {
    if let Some(wanted) = wanted {
        return vec![Some(wanted.to_owned())];
    }
    let Some((_, message)) = pinned.1.message_named(step) else { return vec![None] };
    let declared = pinned.0.campaign.steps.iter().find(|declared| *declared.name == *step);
    let template = declared.and_then(|step| step.activity.template()).and_then(|name| pinned.0.templates.get(name));
    let own = message.template.variant(own);
    let variants = template.into_iter().flat_map(|template| template.locales.keys());
    let others = variants.map(|locale| message.template.variant(Some(locale))).chain([String::new()]);
    // Without one of the caller's the message is in the person's own.
    let others = others.filter(|locale| *locale != own).map(Some);
    std::iter::once(None).chain(others).collect()
}

fn put_all(args: &Args, campaign: &str, shown: &Shown) -> Result<(), End> {
    let samples = &shown.samples;
    if args.open {
        return open(campaign, samples);
    }
    match args.output {
        Output::Json => {
            let json = serde_json::to_string_pretty(samples).map_err(|e| End::Wrong(e.to_string(), None))?;
            put((json + "\n").as_bytes())
        }
        Output::Text => put(text(samples).as_bytes()),
        Output::Eml | Output::Html => {
            let sample = match samples.as_slice() {
                [] => return Ok(()),
                [one] => one,
                all => {
                    let message = format!("there are {} messages", all.len());
                    let hint = "choose one with --step and --locale, or write all of them with --open";
                    return Err(End::Wrong(message, Some(hint.to_owned())));
                }
            };
            match (args.output, &sample.html) {
                (Output::Eml, _) => put(&sample.file),
                (_, Some(html)) => put(html.as_bytes()),
                (_, None) => Err(End::Wrong(format!("`{}` has no HTML", sample.step), None)),
            }
        }
    }
}

fn text(samples: &[Sample]) -> String {
    let mut out = String::new();
    for (index, sample) in samples.iter().enumerate() {
        let locale = if sample.locale.is_empty() { "base" } else { &sample.locale };
        let kind = if sample.is_persona { "persona " } else { "" };
        let space = if index > 0 { "\n" } else { "" };
        // Writing to a text cannot fail.
        let _ =
            writeln!(out, "{space}-- {} to {kind}{} ({locale}), {} bytes", sample.step, sample.who, sample.size_bytes);
        if !sample.subject.is_empty() {
            let _ = writeln!(out, "Subject: {}\n", sample.subject);
        }
        match (&sample.text, &sample.html) {
            (Some(text), _) => out += text.trim_end(),
            (None, Some(html)) => out += html.trim_end(),
            (None, None) => {}
        }
        out.push('\n');
        if !sample.attachments.is_empty() {
            let _ = writeln!(out, "\nAttached: {}", sample.attachments.join(", "));
        }
    }
    out
}

/// Writes the messages to a folder that others cannot read, and has a viewer show the first on a terminal.
fn open(campaign: &str, samples: &[Sample]) -> Result<(), End> {
    let made = Clock::system().now().as_microsecond();
    let folder = std::env::temp_dir().join(format!("campanile-{campaign}-{}-{made}", std::process::id()));
    let wrong = |path: &Path, error: std::io::Error| End::Wrong(format!("{}: {error}", path.display()), None);
    make_private(&folder).map_err(|e| wrong(&folder, e))?;
    let mut first = None;
    for (index, sample) in samples.iter().enumerate() {
        let locale = if sample.locale.is_empty() { "base" } else { &sample.locale };
        let name = folder.join(format!("{}-{}-{locale}", index + 1, sample.step));
        let mut files = vec![(name.with_extension(sample.extension), sample.file.as_slice())];
        files.extend(sample.html.as_ref().map(|html| (name.with_extension("html"), html.as_bytes())));
        for (path, bytes) in files {
            fs::write(&path, bytes).map_err(|e| wrong(&path, e))?;
            put(format!("{}\n", path.display()).as_bytes())?;
            // What a browser shows, where there is HTML.
            first = first.filter(|known: &PathBuf| known.extension().is_some_and(|e| e == "html")).or(Some(path));
        }
    }
    if let Some(path) = first.filter(|_| std::io::stdout().is_terminal()) {
        let viewer = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
        let started = Command::new(viewer).arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if started.is_err() {
            eprintln!("warning: there is no `{viewer}` to show it with");
        }
    }
    Ok(())
}

#[cfg(unix)]
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> std::io::Result<()> {
    fs::create_dir(folder)
}

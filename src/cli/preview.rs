//! What commands share that look at one campaign and one person: the manifests, a store that is only read, who may see
//! what.

use std::{io::IsTerminal, path::PathBuf, sync::Arc};

use clap::Args;
use jiff::Timestamp;

use super::{End, home::StoreArgs};
use crate::{
    api::{DatasetSpec, template::Persona},
    clock::Clock,
    plan::{Bundle, Finding, Plan},
    review::{mask::Mask, person::Walker, tree::Tree},
    rule::{Dialect, Inputs, Schema},
    run::audiences::Ground,
    send::{dispatch::Secrets, providers::Secret},
    source::{Key, Kind, manifest, secret_of_environment},
    store::{Store, entity::Place},
};

#[derive(Args)]
pub struct PreviewArgs {
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    #[command(flatten)]
    pub home: StoreArgs,
    /// `now` of the rules, instead of the machine's time.
    #[arg(long, value_name = "T")]
    pub now: Option<Timestamp>,
    /// Show personal values, too; only on a terminal.
    #[arg(long)]
    pub reveal: bool,
}

impl PreviewArgs {
    pub fn now(&self) -> Timestamp {
        self.now.unwrap_or_else(|| Clock::system().now())
    }

    /// What is shown of people. What leaves the terminal, into a file or a pipeline's log, never holds them.
    pub fn mask(&self, pinned: &(Bundle, Plan)) -> Result<Mask, End> {
        mask(self.reveal, &pinned.0.dataset, &pinned.1.schema)
    }

    /// The store, only ever read.
    pub async fn store(&self) -> Result<Store, End> {
        super::home::look_at_store(&self.home).await
    }

    pub fn declared(&self, paths: &[PathBuf]) -> Declared {
        Declared::read(paths, &self.namespace)
    }
}

/// What is shown of the people of a dataset.
pub fn mask(reveals: bool, dataset: &DatasetSpec, schema: &Schema) -> Result<Mask, End> {
    let mask = Mask::of(dataset, schema);
    match (reveals, std::io::stdout().is_terminal()) {
        (false, _) => Ok(mask),
        (true, true) => Ok(mask.lifted()),
        (true, false) => {
            let hint = "fields that are nobody's secret say `reveal: true` in the Dataset";
            Err(End::Wrong("--reveal shows people, and so only on a terminal".to_owned(), Some(hint.to_owned())))
        }
    }
}

/// The manifests of some paths, in one namespace.
pub struct Declared {
    tree: Tree,
    namespace: String,
}

impl Declared {
    fn read(paths: &[PathBuf], namespace: &str) -> Self {
        let here = [PathBuf::from(".")];
        let tree = Tree::read(if paths.is_empty() { &here } else { paths });
        Self { tree, namespace: namespace.to_owned() }
    }

    /// A campaign as it is declared, compiled for a database.
    pub fn campaign(&self, name: &str, dialect: Dialect) -> Result<Arc<(Bundle, Plan)>, End> {
        let key = Key::new(Kind::Campaign, &self.namespace, name);
        let Some(spec) = self.tree.campaign(&self.namespace, name).filter(|_| self.tree.is_sound(&key)) else {
            self.tree.errors().iter().for_each(|problem| eprintln!("{problem}"));
            let (message, hint) = match self.tree.manifest(&key) {
                Some(_) => (format!("campaign `{name}` is wrong, so nothing can be said of it"), None),
                None => {
                    let hint = "name the folder of its manifest, or another --namespace".to_owned();
                    (format!("there is no Campaign `{name}` in namespace {}", self.namespace), Some(hint))
                }
            };
            return Err(End::Wrong(message, hint));
        };
        let bundle = Bundle::gather(&self.namespace, name, spec, &self.tree.library(&self.namespace));
        let bundle = bundle.map_err(|found| wrong(&found))?;
        let plan = bundle.compile(dialect).map_err(|found| wrong(&found))?;
        Ok(Arc::new((bundle, plan)))
    }
}

#[async_trait::async_trait]
impl Secrets for Declared {
    /// A Secret manifest, or `CAMPANILE_SECRET_<NAME>_<KEY>` in the environment, which wins.
    async fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        let is_it = |m: &&manifest::Manifest| m.kind == "Secret" && m.namespace == namespace && m.name == name;
        let declared = self.tree.manifests().iter().find(is_it).map(manifest::secret_of);
        secret_of_environment(name, declared.unwrap_or_default())
    }
}

/// What holds of a sound campaign holds for both databases; should it not, it is said.
fn wrong(found: &[Finding]) -> End {
    found.iter().for_each(|finding| eprintln!("error: {finding}"));
    End::Wrong("the campaign is wrong, so nothing can be said of it".to_owned(), None)
}

/// What rules read at `now`: the audiences as they stand in the store.
pub async fn inputs(store: &Store, pinned: &(Bundle, Plan), now: Timestamp) -> Result<Inputs, End> {
    let (bundle, plan) = pinned;
    let place = Place { namespace: &bundle.namespace, dataset: &bundle.campaign.dataset, dialect: plan.dialect };
    let there = store.entities_there(place).await?;
    if let Some(lost) = bundle.dataset.entities.iter().find(|entity| !there.contains(&*entity.name)) {
        let message = format!("the store has no table of {} of dataset `{}` yet", lost.name, place.dataset);
        let hint = "`campanile run` or the controller loads it; a persona needs no store";
        return Err(End::Wrong(message, Some(hint.to_owned())));
    }
    let ground = Ground::of(bundle, plan);
    let found = crate::run::audiences::inputs_as_kept(store, &ground, now).await?;
    found.map_err(|name| {
        let hint = "a run that reads it is held until it is";
        End::Wrong(format!("audience `{name}` has not been filled yet"), Some(hint.to_owned()))
    })
}

/// A walker through a campaign as it would run at `now`.
pub async fn walker<'a>(
    store: &'a Store,
    pinned: &Arc<(Bundle, Plan)>,
    now: Timestamp,
    mask: Mask,
) -> Result<Walker<'a>, End> {
    let inputs = inputs(store, pinned, now).await?;
    Ok(Walker::new(store, pinned.clone(), inputs, now, mask))
}

/// The channel steps that are meant.
pub fn steps(pinned: &(Bundle, Plan), wanted: Option<&str>) -> Result<Vec<String>, End> {
    let all: Vec<String> = pinned.1.messages().map(|(_, step, _)| step.to_owned()).collect();
    let Some(wanted) = wanted else { return Ok(all) };
    if all.iter().any(|step| step == wanted) {
        return Ok(vec![wanted.to_owned()]);
    }
    let message = format!("campaign `{}` has no channel step `{wanted}`", pinned.0.name);
    Err(End::Wrong(message, Some(format!("it has {}", all.join(", ")))))
}

fn personas<'a>(pinned: &'a (Bundle, Plan), step: &str) -> &'a [Persona] {
    let declared = pinned.0.campaign.steps.iter().find(|declared| *declared.name == *step);
    let template = declared.and_then(|step| step.activity.template());
    template.and_then(|name| pinned.0.templates.get(name)).map_or(&[], |template| &template.personas)
}

pub fn persona_of<'a>(pinned: &'a (Bundle, Plan), step: &str, name: &str) -> Option<&'a Persona> {
    personas(pinned, step).iter().find(|persona| *persona.name == *name)
}

pub fn no_persona(pinned: &(Bundle, Plan), step: &str, name: &str) -> End {
    let known: Vec<&str> = personas(pinned, step).iter().map(|persona| &*persona.name).collect();
    let hint = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
    End::Wrong(format!("the template of `{step}` has no persona `{name}`"), Some(hint))
}

//! Expectations of campaigns and audiences on a few rows of data, run as the campaigns would be: `campanile test`.
//!
//! Each test has a private store, loaded with its rows; the campaign is compiled, planned and sent by the code of a home,
//! through a channel that leads nowhere. Cases that ask of the same data at the same time share a run. Nothing leaves the
//! process and nothing is left behind.
//!
//! | file | what |
//! | --- | --- |
//! | `load` | the tests of some folders, and what is wrong with them |
//! | `fixture` | rows, typed as the Dataset says |
//! | `stage` | the private store, and a campaign run on it |
//! | `judge` | what is expected against what is found |
//! | [`report`] | what came of it, for people and pipelines |

mod fixture;
mod judge;
mod load;
pub mod report;
mod stage;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use self::{fixture::Fixture, judge::Judge, load::Prepared, stage::Stage};
use crate::{source::manifest::Diagnostic, store};

/// One test with its cases.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Suite {
    pub file: PathBuf,
    pub name: String,
    pub cases: Vec<Verdict>,
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub took: Duration,
}

/// What a case came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub name: String,
    /// What does not hold.
    pub failures: Vec<Failure>,
    /// Of its share in the run.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub took: Duration,
}

/// An expectation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// In one sentence.
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// How it came about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), expected: None, found: None, why: None }
    }
}

fn seconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(took.as_secs_f64())
}

/// Why tests did not run.
#[derive(Debug, thiserror::Error)]
pub enum Unrun {
    /// What is wrong with the tests, or with the manifests that they are of.
    #[error("the tests or what they test are wrong")]
    Wrong(Vec<Diagnostic>),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the private store cannot be made: {0}")]
    Folder(#[from] std::io::Error),
}

/// Runs every test under the paths.
///
/// # Errors
/// If one cannot be run. That an expectation does not hold is none.
pub async fn run(paths: &[impl AsRef<Path>]) -> Result<Vec<Suite>, Unrun> {
    let prepared = load::prepare(paths).map_err(Unrun::Wrong)?;
    let stage = Stage::new()?;
    let mut suites = vec![];
    for test in &prepared {
        suites.push(suite(test, &stage).await?);
    }
    Ok(suites)
}

async fn suite(test: &Prepared, stage: &Stage) -> Result<Suite, Unrun> {
    let began = Instant::now();
    let mut verdicts = BTreeMap::new();
    for group in groups(test) {
        let began = Instant::now();
        let judge = match &test.of {
            load::Of::Campaign(bundle) => {
                let mut times = group.earlier.clone();
                times.push(group.now);
                Judge::of_run(stage.play(test, bundle, group.fixture, &times).await?)
            }
            load::Of::Audience(bundle) => {
                let store = stage.store(test, bundle, group.fixture, group.now).await?;
                Judge::of_audience(store, bundle.clone(), group.now)
            }
        };
        let share = u32::try_from(group.cases.len()).unwrap_or(u32::MAX);
        let shared = began.elapsed() / share;
        for index in &group.cases {
            let began = Instant::now();
            let failures = judge.case(test, *index).await?;
            verdicts.insert(*index, (failures, shared + began.elapsed()));
        }
        judge.close().await;
    }
    let cases = verdicts.into_iter().map(|(index, (failures, took))| Verdict {
        name: test.spec.cases[index].name.clone(),
        failures,
        took,
    });
    Ok(Suite { file: test.file.clone(), name: test.name.clone(), cases: cases.collect(), took: began.elapsed() })
}

/// Cases that ask of one run.
struct Group<'t> {
    fixture: &'t Fixture,
    earlier: Vec<Timestamp>,
    now: Timestamp,
    cases: Vec<usize>,
}

fn groups(test: &Prepared) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = vec![];
    for (index, case) in test.spec.cases.iter().enumerate() {
        let fixture = &test.fixtures[index];
        let earlier: Vec<Timestamp> = case.earlier.iter().map(|at| at.0).collect();
        let now = case.now.as_ref().unwrap_or(&test.spec.now).0;
        let is_same = |group: &&mut Group<'_>| group.fixture == fixture && group.earlier == earlier && group.now == now;
        match groups.iter_mut().find(is_same) {
            Some(group) => group.cases.push(index),
            None => groups.push(Group { fixture, earlier, now, cases: vec![index] }),
        }
    }
    groups
}

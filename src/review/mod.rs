//! What a change will do, told without doing anything.
//!
//! It stands beside [`crate::run`] and uses the same compiler, the same SQL, the same schedules and the same renderer:
//! the preview is the program. Nothing here writes to a store, a cluster or a manifest, and what cannot be known is
//! `unknown` with its reason, never 0.
//!
//! | file | what |
//! | --- | --- |
//! | [`tree`] | the manifests of some paths: what they declare, and all that is wrong with them |
//! | [`check`] | what is legal and most likely not meant, a family of warnings in each file |
//! | [`base`] | what a change is compared with: a revision of git, a folder, a cluster |
//! | [`change`] | what differs between two trees, in words, and what it reaches |
//! | [`difference`] | two texts line by line |
//! | [`report`] | what `plan` says, and its faces |
//! | [`calendar`] | which runs would start between two instants, and what gets into each other's way |
//! | [`count`] | how many a campaign would reach, and who is left out: one statement that only reads |
//! | [`format`] | what `validate` found as text, JSON and SARIF |
//! | [`rules`] | every rule that manifests are checked by, under its name |
//! | [`silence`] | ignoring a warning where it stands |
//! | [`expectation`] | what authors expect, run on a few rows |
//! | [`mask`] | what is personal and not shown |
//! | [`person`] | one person through each step, each clause with her values |
//! | [`persona`] | a declared person's values, typed and checked |
//! | [`sample`] | a message as a declared persona or a masked person would get it |

pub mod base;
pub mod calendar;
pub mod change;
pub mod check;
pub mod count;
pub mod difference;
pub mod expectation;
pub mod format;
pub mod mask;
pub mod person;
pub mod persona;
pub mod report;
pub mod rules;
pub mod sample;
pub mod silence;
pub mod tree;

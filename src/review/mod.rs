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
//! | [`calendar`] | which runs would start between two instants, and what gets into each other's way |
//! | [`format`] | what `validate` found as text, JSON and SARIF |
//! | [`rules`] | every rule that manifests are checked by, under its name |
//! | [`silence`] | ignoring a warning where it stands |
//! | [`expectation`] | what authors expect, run on a few rows |
//! | [`mask`] | what is personal and not shown |
//! | [`person`] | one person through each step, each clause with her values |
//! | [`persona`] | a declared person's values, typed and checked |
//! | [`sample`] | a message as a declared persona or a masked person would get it |

pub mod calendar;
pub mod check;
pub mod expectation;
pub mod format;
pub mod mask;
pub mod person;
pub mod persona;
pub mod rules;
pub mod sample;
pub mod silence;
pub mod tree;

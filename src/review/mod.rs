//! What a change will do, told without doing anything.
//!
//! It stands beside [`crate::run`] and uses the same compiler, the same SQL, the same schedules and the same renderer:
//! the preview is the program. Nothing here writes to a store, a cluster or a manifest, and what cannot be known is
//! `unknown` with its reason, never 0.
//!
//! | file | what |
//! | --- | --- |
//! | [`tree`] | the manifests of some paths: what they declare, and all that is wrong with them |

pub mod tree;

//! The life of a run: when it starts, how its steps are evaluated, when it is done.

pub mod advance;
pub mod audiences;
pub mod engine;
pub mod expect;
pub mod export;
pub mod fault;
pub mod hold;
pub mod schedule;

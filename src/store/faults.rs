//! What a simulation does to the calls of one process: it holds them up, and loses them or their answers.
//!
//! With faults every statement is done at once on the caller's thread, so that the simulation alone says what happens
//! before what. In a process that sends there are none.

use async_trait::async_trait;

use super::Result;

#[async_trait]
pub trait Faults: Send + Sync {
    /// Before a call reaches the store.
    ///
    /// # Errors
    /// If it does not reach it.
    async fn call(&self) -> Result<()>;

    /// Whether a commit does not come through.
    fn is_commit_lost(&self) -> bool;

    /// Behind a call.
    ///
    /// # Errors
    /// If only the answer is lost.
    async fn answer(&self) -> Result<()>;
}

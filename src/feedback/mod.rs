//! What comes back: people who withdraw.
//!
//! | file | what |
//! | --- | --- |
//! | [`unsubscribe`] | the signed link in every marketing message, and what it withdraws |
//! | [`server`] | the HTTP listener that answers it |

pub mod server;
pub mod unsubscribe;

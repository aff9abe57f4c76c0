//! What comes back: people who withdraw, mail about mail.
//!
//! | file | what |
//! | --- | --- |
//! | [`unsubscribe`] | the signed link in every marketing message, and what it withdraws |
//! | [`server`] | the HTTP listener that answers it |
//! | [`reference`] | how a message is named where answers come from |
//! | [`mail`], [`post`] | what bounces and complaints say, as facts |
//! | [`maildir`], [`smtp`] | how mail comes in |
//! | [`track`] | opens and clicks by signed links |
//! | [`callback`] | what providers tell over HTTP, signed |
//! | [`intake`] | where facts are recorded |

pub mod callback;
pub mod intake;
pub mod mail;
pub mod maildir;
pub mod post;
pub mod reference;
pub mod server;
pub mod smtp;
pub mod track;
pub mod unsubscribe;

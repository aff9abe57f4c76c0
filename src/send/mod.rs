//! claim -> render -> deliver -> record.
//!
//! | file | what |
//! | --- | --- |
//! | [`dispatch`] | a lane for each channel that has work; workers that died |
//! | `lane` | claims, and attempts in groups, before their bytes |
//! | [`job`] | who of a group may get the message now; the message |
//! | [`mailing`] | files of letters |
//! | [`letter`] | what the messages of a step have in common; one of them, written |
//! | [`said`] | what is kept of a message |
//! | `seen`, `enriched` | what a template sees of its row |
//! | [`record`] | outcomes in groups |
//! | [`pace`] | rates, quotas, throttles |
//! | [`health`] | whether a channel's provider answers at all |
//! | [`lease`] | until when a worker may go on |
//! | [`template`], [`mime`] | the message's words and its bytes |
//! | [`enclosure`] | what travels with mail |
//! | [`address`] | which text is an address, by medium |
//! | [`gate`], [`providers`] | what may leave the process, and by which way |
//! | [`channel`] | one file per provider |

pub mod address;
pub mod channel;
pub mod dispatch;
pub mod enclosure;
mod enriched;
pub mod gate;
pub mod health;
pub mod job;
mod lane;
pub mod lease;
pub mod letter;
pub mod mailing;
pub mod mime;
pub mod pace;
pub mod providers;
pub mod record;
pub mod said;
mod seen;
pub mod segments;
pub mod template;

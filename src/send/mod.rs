//! claim -> render -> deliver -> record.
//!
//! | file | what |
//! | --- | --- |
//! | [`dispatch`] | lanes that claim batches; workers that died |
//! | [`batch`] | who of a batch may get the message now; attempts and outcomes |
//! | [`template`], [`mime`] | the message's words and its bytes |
//! | [`gate`], [`providers`] | what may leave the process, and by which way |
//! | [`channel`] | one file per provider |

pub mod batch;
pub mod channel;
pub mod dispatch;
pub mod gate;
pub mod mime;
pub mod providers;
pub mod template;

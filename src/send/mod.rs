//! claim -> render -> deliver -> record.

pub mod channel;
pub mod mime;
pub mod template;

pub mod api;
pub mod rule;
pub mod store;
pub mod source;
pub mod send;
pub mod plan;

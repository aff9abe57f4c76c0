pub mod api;
pub mod rule;
pub mod store;

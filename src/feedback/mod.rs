//! What comes back: what people and other systems say.
//!
//! | file | what |
//! | --- | --- |
//! | [`server`] | the HTTP listener that answers all of it |
//! | [`unsubscribe`] | the signed link in every marketing message, and what it withdraws |
//! | [`reference`] | how a message is named where answers come from |
//! | [`mail`], [`post`] | what bounces and complaints say, as facts |
//! | [`maildir`], [`smtp`] | how mail comes in |
//! | [`track`] | opens and clicks by signed links |
//! | [`callback`] | what providers tell over HTTP, signed |
//! | [`intake`] | where facts are recorded |
//! | [`preferences`] | a person's page: every topic and way, and nothing at all |
//! | [`confirm`] | the link of a double opt-in |
//! | [`cloudevents`] | consent and addresses from a customer data platform |
//! | [`stop`] | a sender that a person wants nothing more of |
//! | [`texts`] | receipts and answers over the connections that texts go out on |
//! | [`signed`], [`webhook`] | the tokens of links; signed HTTP messages |
//! | [`page`], [`words`] | how pages look and what they say |

pub mod callback;
pub mod cloudevents;
pub mod confirm;
pub mod intake;
pub mod mail;
pub mod maildir;
pub mod page;
pub mod post;
pub mod preferences;
pub mod reference;
pub mod server;
pub mod signed;
pub mod smtp;
pub mod stop;
pub mod texts;
pub mod track;
pub mod unsubscribe;
pub mod webhook;
pub mod words;

use std::sync::Arc;

use crate::{
    clock::Clock,
    send::dispatch::Secrets,
    store::{self, Store},
};

/// What the listener's answers stand on.
#[derive(Clone)]
pub struct Desk {
    pub store: Store,
    pub clock: Clock,
    /// The Secrets that resources name.
    pub secrets: Arc<dyn Secrets>,
    /// The store's own, which links are signed with.
    pub secret: Vec<u8>,
}

impl Desk {
    /// # Errors
    /// Of the store, which keeps what links are signed with.
    pub async fn new(store: Store, clock: Clock, secrets: Arc<dyn Secrets>) -> store::Result<Self> {
        let secret = store.secret().await?;
        // Hashes of addresses are kept by what follows, and the databases must know their key.
        store.address_key().await?;
        Ok(Self { store, clock, secrets, secret })
    }
}

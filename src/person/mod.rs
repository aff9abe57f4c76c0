//! One person: all that is known of her, told in one answer, and how she is forgotten.
//!
//! | file | what |
//! | --- | --- |
//! | [`history`] | what was sent and why not, what came back, what she agreed to |
//! | [`words`] | the same for a person to read |
//! | [`erase`] | what goes of her, and what stays as a hash |
//!
//! The dataset is as the store knows it declared: no manifest is at hand where somebody asks what is kept of her.

pub mod erase;
pub mod history;
pub mod words;

use crate::{
    api::dataset::Entity,
    plan::dataset::schema_of,
    review::person::key::Subject,
    rule::Schema,
    store::{
        self, Store,
        declared::Declared,
        erased,
        keyed::{Keyed, Label},
    },
};

/// Who is asked about.
pub struct Person {
    pub declared: Declared,
    pub schema: Schema,
    /// The canonical text of her key.
    pub key: String,
    /// What stands in its place once she is erased. Empty in a store that never hashed anything.
    pub erased: String,
}

/// Why nobody is asked about: a sentence and a hint, without the key.
pub type Wrong = (String, Option<String>);

impl Person {
    /// Reads `KEY` (or `PROFILE=KEY`) in a dataset.
    ///
    /// # Errors
    /// Of the store, and why it is no key of the profile.
    pub async fn read(store: &Store, declared: Declared, text: &str) -> store::Result<Result<Self, Wrong>> {
        let profile = declared.spec.profile.entity.to_string();
        let subject = match Subject::read(text, &declared.spec) {
            Ok(subject) if subject.entity == profile => subject,
            Ok(subject) => {
                let message = format!("{} is not the profile", subject.entity);
                return Ok(Err((message, Some(format!("name a {profile}, the person, by its key")))));
            }
            Err(wrong) => return Ok(Err(wrong)),
        };
        let secret = store.known_secret().await?;
        let hash = secret.map(|secret| Keyed::new(&secret, Label::Key).hash(&subject.item));
        let erased = hash.map_or_else(String::new, |hash| erased::text(&hash));
        let schema = schema_of(&declared.spec, &declared.namespace, &declared.name, store.dialect());
        Ok(Ok(Self { declared, schema, key: subject.item, erased }))
    }

    pub fn of(&self) -> (&str, &str) {
        (&self.declared.namespace, &self.declared.name)
    }

    /// The entity that is the person.
    ///
    /// # Errors
    /// [`store::Error::Internal`] if the dataset has none, which its check refuses.
    pub fn entity(&self) -> store::Result<&Entity> {
        let spec = &self.declared.spec;
        spec.entity(&spec.profile.entity)
            .ok_or_else(|| store::Error::Internal("a dataset without a profile".to_owned()))
    }
}

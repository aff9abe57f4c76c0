//! What previews show of people: nothing that is personal, unless the Dataset reveals it.
//!
//! ```yaml
//! fields:
//! - {name: first_name, type: String}             # previews show •••
//! - {name: tier, type: String, reveal: true}     # previews show gold
//! ```
//!
//! Personal are texts, keys, and the fields by which rows are linked to the keys of others. What is personal is masked
//! before a template or a page gets it, so that no filter, no loop and no error can tell of it.

use std::collections::BTreeSet;

use crate::{
    api::DatasetSpec,
    rule::{FieldType, Path, Rule, Schema},
};

/// What stands in the place of a personal value, whatever that is and however long.
pub const MASKED: &str = "•••";

/// What the history of messages holds that names nobody: the names that authors and the engine give.
const OPEN_HISTORY: [&str; 12] = [
    "campaign",
    "run",
    "step",
    "channel",
    "topic",
    "variant",
    "outcome",
    "reason",
    "type",
    "plannedAt",
    "sentAt",
    "at",
];

/// Tells personal fields from others.
#[derive(Clone, Debug)]
pub struct Mask {
    /// Entity and field.
    hidden: BTreeSet<(String, String)>,
    is_off: bool,
}

impl Mask {
    pub fn of(dataset: &DatasetSpec, schema: &Schema) -> Self {
        let revealed: BTreeSet<(&str, &str)> = dataset
            .entities
            .iter()
            .flat_map(|entity| entity.fields.iter().filter(|f| f.reveal).map(|f| (&*entity.name, &*f.name)))
            .collect();
        let mut hidden = BTreeSet::new();
        for entity in schema.entities.values() {
            let links = entity.links.iter().filter(|link| !link.is_many).flat_map(|link| &link.keys);
            let linking: BTreeSet<&str> = links.map(|(here, _)| here.as_str()).collect();
            for field in &entity.fields {
                let name = field.name.as_str();
                let is_personal = if entity.is_history {
                    !OPEN_HISTORY.contains(&name)
                } else {
                    field.ty == FieldType::String || entity.key.contains(&field.name) || linking.contains(name)
                };
                if is_personal && !revealed.contains(&(entity.name.as_str(), name)) {
                    hidden.insert((entity.name.clone(), field.name.clone()));
                }
            }
        }
        Self { hidden, is_off: false }
    }

    /// Shows everything: to a person at a terminal who asked for it, or of fixtures, which are nobody's.
    #[must_use]
    pub fn lifted(self) -> Self {
        Self { is_off: true, ..self }
    }

    pub fn is_lifted(&self) -> bool {
        self.is_off
    }

    /// Whether a field is not shown.
    pub fn hides(&self, entity: &str, field: &str) -> bool {
        !self.is_off && self.hidden.contains(&(entity.to_owned(), field.to_owned()))
    }

    /// Whether the field at the end of a path is not shown.
    pub fn hides_path(&self, path: &Path) -> bool {
        path.field.as_ref().is_none_or(|field| self.hides(&path.entity, field))
    }

    /// Whether what a rule comes to is not shown, as it is made of what is not.
    pub fn hides_rule(&self, rule: &Rule, schema: &Schema, entity: &str) -> bool {
        rule.carried(schema, entity).iter().any(|(entity, field)| self.hides(entity, field))
    }

    /// A text about a person, or what stands in its place.
    pub fn text(&self, text: &str) -> String {
        if self.is_off { text.to_owned() } else { MASKED.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::dataset::schema_of, rule::Dialect};

    const SHOP: &str = "
entities:
- name: customer
  key: [id]
  fields:
  - {name: id, type: Integer}
  - {name: name, type: String}
  - {name: tier, type: String, reveal: true}
  - {name: born, type: Date}
- name: order
  key: [shop, no]
  fields:
  - {name: shop, type: String, reveal: true}
  - {name: no, type: Integer}
  - {name: buyer, type: Integer}
  - {name: total, type: Decimal, scale: 2}
  links:
  - {name: customer, to: customer, keys: {buyer: id}, inverse: orders}
profile: {entity: customer, addresses: {}}
";

    #[test]
    fn texts_keys_and_links_are_personal_unless_revealed() {
        let spec: DatasetSpec = serde_yaml::from_str(SHOP).unwrap();
        let schema = schema_of(&spec, "default", "shop", Dialect::Sqlite);
        let mask = Mask::of(&spec, &schema);
        let shown = |entity: &str| {
            let fields = schema.entity(entity).unwrap().fields.iter();
            let shown = fields.filter(|f| !mask.hides(entity, &f.name)).map(|f| f.name.clone());
            shown.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("customer"), "tier born");
        assert_eq!(shown("order"), "shop total");
        assert_eq!(shown("message"), "campaign run step channel topic variant plannedAt sentAt outcome reason");
        assert_eq!(shown("event"), "type at reason");
        assert!(!mask.clone().lifted().hides("customer", "name"));
    }
}

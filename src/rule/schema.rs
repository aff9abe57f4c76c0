//! What a rule is checked against: entities, typed fields and links in both directions.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// SQLite keeps a Decimal as an integer scaled by ten to `scale`, a Date as `YYYY-MM-DD`, a Timestamp as microseconds UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    String,
    Integer,
    Decimal { scale: u8 },
    Double,
    Boolean,
    Date,
    Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub ty: FieldType,
    /// No row is without it; the SQL then needs no null handling.
    pub is_required: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// The entity it leads to.
    pub to: String,
    /// Pairs of (field here, field there).
    pub keys: Vec<(String, String)>,
    pub is_many: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub schema: Option<String>,
    pub name: String,
}

/// A condition that the Dataset gives a name; rules read it like a Boolean field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub name: String,
    pub text: String,
}

/// Stands in a link's keys for the canonical text of the row's whole key, as the ledger keeps it.
pub const KEY_TEXT: &str = "$key";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entity {
    pub name: String,
    pub key: Vec<String>,
    pub fields: Vec<Field>,
    pub links: Vec<Link>,
    pub table: Table,
    pub conditions: Vec<Condition>,
    /// The table holds rows of others, too: column and value of this entity's rows.
    pub only: Vec<(String, String)>,
    /// The store keeps these rows; a rule reads them from the profile and starts at none of them.
    pub is_history: bool,
}

impl Entity {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.name == name)
    }

    pub fn condition(&self, name: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.name == name)
    }

    /// Everything that may stand behind a dot in a rule.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let fields = self.fields.iter().map(|f| f.name.as_str());
        fields.chain(self.links.iter().map(|l| l.name.as_str())).chain(self.conditions.iter().map(|c| c.name.as_str()))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    pub entities: BTreeMap<String, Entity>,
    /// The audiences that a rule may ask about, each with its entity.
    pub audiences: BTreeMap<String, String>,
}

impl Schema {
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.get(name)
    }

    /// The entity that links lead to from another.
    pub fn behind(&self, from: &str, hops: &[String]) -> Option<&Entity> {
        hops.iter().try_fold(self.entity(from)?, |at, hop| self.entity(&at.link(hop)?.to))
    }
}

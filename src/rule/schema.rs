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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub schema: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    pub name: String,
    pub key: Vec<String>,
    pub fields: Vec<Field>,
    pub links: Vec<Link>,
    pub table: Table,
}

impl Entity {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.name == name)
    }

    /// Everything that may stand behind a dot.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|f| f.name.as_str()).chain(self.links.iter().map(|l| l.name.as_str()))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    pub entities: BTreeMap<String, Entity>,
}

impl Schema {
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.get(name)
    }
}

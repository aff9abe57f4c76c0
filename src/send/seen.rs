//! What a template sees of one row: the columns it reads under their names, without a map for each message.

use std::{collections::BTreeMap, sync::Arc};

use minijinja::{
    Value,
    value::{Enumerator, Object},
};

/// Names that lead to positions in a row; made once for a plan.
#[derive(Debug, Default)]
pub struct Names {
    place: Option<usize>,
    below: BTreeMap<String, Arc<Names>>,
}

impl Names {
    /// The names of a row's values, in the order of the values.
    pub fn of<'a>(all: impl IntoIterator<Item = Vec<&'a str>>) -> Arc<Self> {
        let mut tree = Tree::default();
        for (place, names) in all.into_iter().enumerate() {
            tree.put(&names, place);
        }
        tree.done()
    }
}

#[derive(Default)]
struct Tree {
    place: Option<usize>,
    below: BTreeMap<String, Tree>,
}

impl Tree {
    fn put(&mut self, names: &[&str], place: usize) {
        match names.split_first() {
            Some((first, rest)) => self.below.entry((*first).to_owned()).or_default().put(rest, place),
            None => self.place = Some(place),
        }
    }

    fn done(self) -> Arc<Names> {
        let below = self.below.into_iter().map(|(name, tree)| (name, tree.done())).collect();
        Arc::new(Names { place: self.place, below })
    }
}

/// A row as the template's variables.
#[derive(Debug)]
struct Seen {
    names: Arc<Names>,
    row: Arc<Vec<Value>>,
}

impl Object for Seen {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let below = self.names.below.get(key.as_str()?)?;
        Some(match below.place {
            Some(place) => self.row.get(place).cloned().unwrap_or(Value::UNDEFINED),
            None => Value::from_object(Self { names: below.clone(), row: self.row.clone() }),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.names.below.keys().map(|name| Value::from(name.as_str())).collect())
    }
}

/// The variables of one message.
pub fn context(names: &Arc<Names>, row: Vec<Value>) -> Value {
    Value::from_object(Seen { names: names.clone(), row: Arc::new(row) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_values() {
        let names = Names::of([vec!["customer", "name"], vec!["customer", "home", "town"], vec!["now"]]);
        let seen = context(&names, vec!["Ann".into(), Value::UNDEFINED, "today".into()]);
        let render = |text: &str| minijinja::Environment::new().render_str(text, &seen).unwrap();
        assert_eq!(render("{{ customer.name }} {{ now }} {{ customer.home.town|default('?') }}"), "Ann today ?");
        assert_eq!(
            render("{% for k in customer %}{{ k }} {% endfor %}{{ customer.age is undefined }}"),
            "home name True"
        );
    }
}

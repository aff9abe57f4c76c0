//! Names in a template: what each stands for where it is read.

use std::collections::BTreeMap;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The template made it.
    Own,
    /// A variable, or a field of the elements of the list that node `of` reads.
    Field { of: Option<usize>, names: Vec<String>, is_maybe: bool },
}

/// A field of whatever the value is.
pub(super) fn extend(mut ways: Vec<Way>, name: &str) -> Vec<Way> {
    for way in &mut ways {
        if let Way::Field { names, .. } = way {
            names.push(name.to_owned());
        }
    }
    ways
}

pub(super) struct Binding {
    ways: Vec<Way>,
    /// Set in every case; otherwise the name may still be a variable.
    is_certain: bool,
}

pub(super) type Scope = BTreeMap<String, Binding>;

/// The scopes that are open, the innermost last.
pub(super) struct Names(Vec<Scope>);

impl Default for Names {
    fn default() -> Self {
        Self(vec![Scope::new()])
    }
}

impl Names {
    pub fn open(&mut self) {
        self.0.push(Scope::new());
    }

    pub fn close(&mut self) -> Scope {
        self.0.pop().unwrap_or_default()
    }

    pub fn define(&mut self, name: &str, ways: Vec<Way>) {
        if let Some(scope) = self.0.last_mut() {
            scope.insert(name.to_owned(), Binding { ways, is_certain: true });
        }
    }

    pub fn is_defined(&self, name: &str) -> bool {
        self.0.iter().any(|scope| scope.contains_key(name))
    }

    /// All that a name may stand for here.
    pub fn lookup(&self, name: &str) -> Vec<Way> {
        let (mut ways, mut is_maybe) = (vec![], false);
        for binding in self.0.iter().rev().filter_map(|scope| scope.get(name)) {
            ways.extend(binding.ways.iter().cloned());
            if binding.is_certain {
                return ways;
            }
            is_maybe = true;
        }
        ways.push(Way::Field { of: None, names: vec![name.to_owned()], is_maybe });
        ways
    }

    /// After an `if`: what both branches set is certain, what one sets is not.
    pub fn join(&mut self, one: Scope, mut other: Scope) {
        let Some(scope) = self.0.last_mut() else { return };
        let mut set = |name: String, binding: Binding| {
            let known = scope.entry(name).or_insert(Binding { ways: vec![], is_certain: false });
            if binding.is_certain {
                *known = binding;
            } else {
                known.ways.extend(binding.ways);
            }
        };
        for (name, mut binding) in one {
            let twin = other.remove(&name);
            binding.is_certain &= twin.as_ref().is_some_and(|twin| twin.is_certain);
            binding.ways.extend(twin.into_iter().flat_map(|twin| twin.ways));
            set(name, binding);
        }
        for (name, binding) in other {
            set(name, Binding { is_certain: false, ..binding });
        }
    }
}

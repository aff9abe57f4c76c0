//! A second opinion: CEL's own interpreter, for rows of which it can read all that a rule asks.
//!
//! It knows neither missing values nor Decimals, Dates, sums and named conditions; of those it gives an error, and the row is passed over.

use std::{
    cell::Cell,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use cel::{Context, Program, Value};

use super::{
    data::{Kind, Row, Rows, Val, kind},
    parts::{Part, params},
    reading::Reader,
};

/// Rows within rows: as deep as the rules that are made go.
const LEVELS: usize = 5;

pub struct Interpreter<'r> {
    pub rows: &'r Rows,
}

impl Interpreter<'_> {
    /// How many rows the interpreter reads as the direct reading does; an error if one of them differs.
    pub fn agrees(&self, rule: &Part, text: &str, root: &'static str) -> Result<u32, String> {
        let Ok(program) = Program::compile(text) else { return Ok(0) };
        let mut read = 0;
        for row in &self.rows[root] {
            let reader = self.reader();
            let wanted = reader.value(rule, &mut vec![(kind(root), Some(row))]);
            if reader.has_faulted.get() || reader.is_beyond_cel.get() {
                continue;
            }
            let mut context = Context::default();
            let parameters: HashMap<String, Value> =
                params().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value_of(&value)?))).collect();
            context.add_variable_from_value("params", parameters);
            context.add_variable_from_value(root, self.object(kind(root), row, LEVELS));
            let answer = catch_unwind(AssertUnwindSafe(|| program.execute(&context)));
            let Ok(Ok(Value::Bool(holds))) = answer else { continue };
            read += 1;
            if Val::Bool(holds) != wanted {
                return Err(format!("the interpreter says {holds}, the reading {wanted:?}, of {row:?}"));
            }
        }
        Ok(read)
    }

    fn reader(&self) -> Reader<'_> {
        Reader { rows: self.rows, has_faulted: Cell::new(false), is_beyond_cel: Cell::new(false) }
    }

    /// A row with the rows that its links lead to; a field without a value is not there.
    fn object(&self, of: &'static Kind, row: &Row, levels: usize) -> Value {
        let mut fields: HashMap<String, Value> =
            row.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value_of(value)?))).collect();
        if levels > 0 {
            for link in of.links {
                let (to, found) = self.reader().linked_rows((of, row), link.0);
                let mut found = found.into_iter().map(|row| self.object(to, row, levels - 1));
                if link.3 {
                    fields.insert(link.0.to_owned(), found.collect::<Vec<Value>>().into());
                } else if let Some(one) = found.next() {
                    fields.insert(link.0.to_owned(), one);
                }
            }
        }
        fields.into()
    }
}

fn value_of(value: &Val) -> Option<Value> {
    Some(match value {
        Val::Text(text) => text.clone().into(),
        Val::Int(n) => (*n).into(),
        Val::Double(d) => (*d).into(),
        Val::Bool(b) => (*b).into(),
        _ => return None,
    })
}

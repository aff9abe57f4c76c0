//! Random rules: both stores give the answer of a direct reading of the missing-value rules, written here in Rust.
//!
//! A failure prints the seed and the rule. `RULES_SEED=n RULES_CASES=n` looks further.

mod data;
mod interpreter;
mod parts;
mod reading;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use campanile::{
    rule::{Dialect, Inputs, Param, ParamType, Query, check},
    store::{Row, Sql, Store},
};

use self::{
    data::{KINDS, Rows, Val, kind, rows, schema, statements},
    parts::{BOOL, Maker, Part, now, params, text},
    reading::Reader,
};
use crate::world::Postgres;

const SEED: u64 = 20_261_123;
const CASES: u64 = 160;
const DAY_US: i64 = 86_400_000_000;

/// Small, seeded, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

type Keys = BTreeSet<Vec<String>>;

/// What a rule answers by the direct reading.
struct Reading {
    keys: Keys,
    /// Every way to evaluate the rule fails.
    must_fault: bool,
    /// From left to right it fails; the other side of an `&&` or `||` may spare it.
    may_fault: bool,
}

fn read(rule: &Part, root: &'static str, rows: &Rows) -> Reading {
    let written = |v: &Val| match v {
        Val::Text(s) => s.clone(),
        Val::Int(n) => n.to_string(),
        other => format!("{other:?}"),
    };
    let mut reading = Reading { keys: Keys::new(), must_fault: false, may_fault: false };
    for row in &rows[root] {
        let reader = Reader { rows, has_faulted: Cell::new(false), is_beyond_cel: Cell::new(false) };
        let value = reader.value(rule, &mut vec![(kind(root), Some(row))]);
        reading.must_fault |= value == Val::Fault;
        reading.may_fault |= reader.has_faulted.get();
        if value == Val::Bool(true) {
            reading.keys.insert(kind(root).key.iter().map(|key| written(&row[key])).collect());
        }
    }
    reading
}

fn inputs() -> Inputs {
    let params = params().into_iter().map(|(name, value)| {
        let value = match value {
            Val::Text(s) => Param::String(s),
            Val::Int(n) => Param::Integer(n),
            Val::Double(d) => Param::Double(d),
            Val::Bool(b) => Param::Boolean(b),
            other => panic!("no parameter is {other:?}"),
        };
        (name.to_owned(), value)
    });
    Inputs { params: params.collect(), ..Inputs::at(now()) }
}

fn checked(rule: &str, root: &str, dialect: Dialect) -> Result<(Sql, Option<Sql>), String> {
    let types = BTreeMap::from([
        ("i".to_owned(), ParamType::Integer),
        ("d".to_owned(), ParamType::Double),
        ("s".to_owned(), ParamType::String),
        ("b".to_owned(), ParamType::Boolean),
    ]);
    let schema = schema();
    let checked = check(rule, &schema, root, &types).map_err(|p| p.picture(rule))?;
    let entity = schema.entity(root).unwrap();
    let mut query = Query::over(&schema, entity, dialect);
    query.restrict(&checked, &inputs());
    let faults = Query::over(&schema, entity, dialect).faults(&checked, &inputs());
    let faults = faults.map(|(_, select)| Sql::query(&select, dialect).unwrap());
    Ok((Sql::query(&query.keys(), dialect).unwrap(), faults))
}

/// What a store answers; `None` if it fails, and then one row at fault is found as well.
async fn answer(store: &Store, rule: &str, root: &str) -> Result<Option<Keys>, String> {
    let (sql, faults) = checked(rule, root, store.dialect())?;
    let cell =
        |row: &Row, i: usize| row.get::<i64>(i).map_or_else(|_| row.get::<String>(i).unwrap(), |n| n.to_string());
    match store.fetch(sql.clone()).await {
        Ok(rows) => {
            let keys = rows.iter().map(|row| (0..kind(root).key.len()).map(|i| cell(row, i)).collect());
            once(keys.collect()).map(Some)
        }
        Err(error) if error.is_fault() => {
            let faults = faults.ok_or_else(|| format!("a fault that no place admits: {error}\n{sql:?}"))?;
            let found = store
                .fetch(faults.clone())
                .await
                .map_err(|e| format!("while looking for the fault: {e}\n{faults:?}"))?;
            if found.len() == 1 { Ok(None) } else { Err(format!("no row is at fault\n{faults:?}\n{sql:?}")) }
        }
        Err(error) => Err(format!("{error}\n{sql:?}")),
    }
}

fn once(keys: Vec<Vec<String>>) -> Result<Keys, String> {
    let set: Keys = keys.iter().cloned().collect();
    if set.len() == keys.len() { Ok(set) } else { Err(format!("a row comes twice: {keys:?}")) }
}

fn given(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread")]
async fn random_rules_are_answered_as_they_read() {
    let seed = given("RULES_SEED", SEED);
    println!("RULES_SEED={seed}");
    let rows = rows(&mut Dice(seed));
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Store::open(&format!("sqlite://{}", folder.path().join("rules.db").display())).await.unwrap();
    let postgres = Store::open(&Postgres::shared().await.unwrap().database().await.unwrap()).await.unwrap();
    for store in [&sqlite, &postgres] {
        for statement in statements(&rows, store.dialect()) {
            store.execute(Sql::new(String::leak(statement))).await.unwrap();
        }
    }
    let interpreter = interpreter::Interpreter { rows: &rows };
    let (mut wrong, mut mixed, mut faulty, mut interpreted) = (String::new(), 0, 0, 0);
    for case in 0..given("RULES_CASES", CASES) {
        let mut dice = Dice(seed ^ (case + 1).wrapping_mul(0xA076_1D64_78BD_642F));
        let root = KINDS[dice.below(KINDS.len())].name;
        let depth = 1 + dice.below(4);
        let mut maker = Maker { dice: &mut dice, scopes: vec![root] };
        // What is lowered as one join comes seldom by chance.
        let rule = if case % 8 == 0 { maker.row_and_group() } else { maker.part(BOOL, depth) };
        let text = text(&rule, root);
        let wanted = read(&rule, root, &rows);
        mixed += u32::from(!wanted.keys.is_empty() && wanted.keys.len() < rows[root].len());
        faulty += u32::from(wanted.must_fault);
        match interpreter.agrees(&rule, &text, root) {
            Ok(read) => interpreted += read,
            Err(problem) => writeln!(wrong, "case {case}, CEL: {text}\n  {problem}").unwrap(),
        }
        for (name, store) in [("SQLite", &sqlite), ("PostgreSQL", &postgres)] {
            let problem = match answer(store, &text, root).await {
                Ok(Some(_)) if wanted.must_fault => "it should have failed".to_owned(),
                Ok(Some(keys)) if keys == wanted.keys => continue,
                Ok(None) if wanted.may_fault => continue,
                Ok(keys) => format!("wanted {:?}\n  got    {keys:?}", wanted.keys),
                Err(problem) => problem,
            };
            writeln!(wrong, "case {case}, {name}: {text}\n  {problem}").unwrap();
        }
    }
    println!("{mixed} told rows apart, {faulty} failed, CEL's interpreter read {interpreted} rows");
    assert!(wrong.is_empty(), "RULES_SEED={seed}\n{wrong}");
    assert!(mixed > 0, "no rule told rows apart");
    assert!(faulty > 0, "no rule failed");
    assert!(interpreted > 0, "CEL's interpreter read no row");
}

//! TPC-H as a Dataset, and its rows from the generator.

use std::fmt::{Display, Write};

use campanile::{
    api::{
        DatasetSpec,
        dataset::{Entity, FieldKind},
    },
    store::{Bind, Store, entity::Place},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tpchgen::{
    csv::{CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv},
    generators::{
        CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
        RegionGenerator, SupplierGenerator,
    },
};

/// Columns in TPC-H's order, under its names without their prefixes.
pub const DATASET: &str = "
entities:
- name: region
  key: [regionkey]
  fields:
  - {name: regionkey, type: Integer}
  - {name: name, type: String, required: true}
  - {name: comment, type: String, required: true}
- name: nation
  key: [nationkey]
  fields:
  - {name: nationkey, type: Integer}
  - {name: name, type: String, required: true}
  - {name: regionkey, type: Integer, required: true}
  - {name: comment, type: String, required: true}
  links:
  - {name: region, to: region, keys: {regionkey: regionkey}, inverse: nations}
- name: customer
  key: [custkey]
  fields:
  - {name: custkey, type: Integer}
  - {name: name, type: String, required: true}
  - {name: address, type: String, required: true}
  - {name: nationkey, type: Integer, required: true}
  - {name: phone, type: String, required: true}
  - {name: acctbal, type: Decimal, precision: 15, scale: 2, required: true}
  - {name: mktsegment, type: String, required: true}
  - {name: comment, type: String, required: true}
  links:
  - {name: nation, to: nation, keys: {nationkey: nationkey}, inverse: customers}
- name: supplier
  key: [suppkey]
  fields:
  - {name: suppkey, type: Integer}
  - {name: name, type: String, required: true}
  - {name: address, type: String, required: true}
  - {name: nationkey, type: Integer, required: true}
  - {name: phone, type: String, required: true}
  - {name: acctbal, type: Decimal, precision: 15, scale: 2, required: true}
  - {name: comment, type: String, required: true}
  links:
  - {name: nation, to: nation, keys: {nationkey: nationkey}, inverse: suppliers}
- name: part
  key: [partkey]
  fields:
  - {name: partkey, type: Integer}
  - {name: name, type: String, required: true}
  - {name: mfgr, type: String, required: true}
  - {name: brand, type: String, required: true}
  - {name: type, type: String, required: true}
  - {name: size, type: Integer, required: true}
  - {name: container, type: String, required: true}
  - {name: retailprice, type: Decimal, precision: 15, scale: 2, required: true}
  - {name: comment, type: String, required: true}
- name: partsupp
  key: [partkey, suppkey]
  fields:
  - {name: partkey, type: Integer}
  - {name: suppkey, type: Integer}
  - {name: availqty, type: Integer, required: true}
  - {name: supplycost, type: Decimal, precision: 15, scale: 2, required: true}
  - {name: comment, type: String, required: true}
  links:
  - {name: part, to: part, keys: {partkey: partkey}, inverse: partsupps}
  - {name: supplier, to: supplier, keys: {suppkey: suppkey}, inverse: partsupps}
- name: orders
  key: [orderkey]
  fields:
  - {name: orderkey, type: Integer}
  - {name: custkey, type: Integer, required: true}
  - {name: orderstatus, type: String, required: true}
  - {name: totalprice, type: Decimal, precision: 15, scale: 2, required: true}
  - {name: orderdate, type: Date, required: true}
  - {name: orderpriority, type: String, required: true}
  - {name: clerk, type: String, required: true}
  - {name: shippriority, type: Integer, required: true}
  - {name: comment, type: String, required: true}
  links:
  - {name: customer, to: customer, keys: {custkey: custkey}, inverse: orders}
- name: lineitem
  key: [orderkey, linenumber]
  fields:
  - {name: orderkey, type: Integer}
  - {name: partkey, type: Integer, required: true}
  - {name: suppkey, type: Integer, required: true}
  - {name: linenumber, type: Integer}
  - {name: quantity, type: Integer, required: true}
  - {name: extendedprice, type: Decimal, precision: 15, scale: 2, required: true}
  - {name: discount, type: Decimal, precision: 15, scale: 2, required: true}
  - {name: tax, type: Decimal, precision: 15, scale: 2, required: true}
  - {name: returnflag, type: String, required: true}
  - {name: linestatus, type: String, required: true}
  - {name: shipdate, type: Date, required: true}
  - {name: commitdate, type: Date, required: true}
  - {name: receiptdate, type: Date, required: true}
  - {name: shipinstruct, type: String, required: true}
  - {name: shipmode, type: String, required: true}
  - {name: comment, type: String, required: true}
  links:
  - {name: order, to: orders, keys: {orderkey: orderkey}, inverse: lineitems}
  - {name: part, to: part, keys: {partkey: partkey}, inverse: lineitems}
  - {name: supplier, to: supplier, keys: {suppkey: suppkey}, inverse: lineitems}
profile: {entity: customer, addresses: {}}
";

/// Rows go to the server in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;
const ROWS_PER_TRANSACTION: usize = 50_000;

/// The rows of an entity as CSV, one each.
fn rows(entity: &str, scale: f64) -> Box<dyn Iterator<Item = String> + Send> {
    fn text(row: impl Display) -> String {
        row.to_string()
    }
    match entity {
        "region" => Box::new(RegionGenerator::new(scale, 1, 1).iter().map(|r| text(RegionCsv::new(r)))),
        "nation" => Box::new(NationGenerator::new(scale, 1, 1).iter().map(|r| text(NationCsv::new(r)))),
        "customer" => Box::new(CustomerGenerator::new(scale, 1, 1).iter().map(|r| text(CustomerCsv::new(r)))),
        "supplier" => Box::new(SupplierGenerator::new(scale, 1, 1).iter().map(|r| text(SupplierCsv::new(r)))),
        "part" => Box::new(PartGenerator::new(scale, 1, 1).iter().map(|r| text(PartCsv::new(r)))),
        "partsupp" => Box::new(PartSuppGenerator::new(scale, 1, 1).iter().map(|r| text(PartSuppCsv::new(r)))),
        "orders" => Box::new(OrderGenerator::new(scale, 1, 1).iter().map(|r| text(OrderCsv::new(r)))),
        _ => Box::new(LineItemGenerator::new(scale, 1, 1).iter().map(|r| text(LineItemCsv::new(r)))),
    }
}

fn columns(entity: &Entity) -> String {
    entity.fields.iter().map(|f| format!("\"{}\"", f.name)).collect::<Vec<_>>().join(", ")
}

pub async fn copy(url: &str, spec: &DatasetSpec, scale: f64) {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    let place =
        Place { namespace: super::NAMESPACE, dataset: super::DATASET, dialect: campanile::rule::Dialect::Postgres };
    for entity in &spec.entities {
        let table = place.table_name(&entity.name);
        let statement = format!("COPY {table} ({}) FROM STDIN (FORMAT csv)", columns(entity));
        let mut copy = connection.copy_in_raw(&statement).await.expect("a COPY");
        let mut piece = String::with_capacity(PIECE_BYTES + 1_024);
        for row in rows(&entity.name, scale) {
            writeln!(piece, "{row}").expect("a line");
            if piece.len() >= PIECE_BYTES {
                copy.send(piece.as_bytes()).await.expect("a piece");
                piece.clear();
            }
        }
        copy.send(piece.as_bytes()).await.expect("the last piece");
        copy.finish().await.expect("the end of a COPY");
    }
    sqlx::raw_sql(AssertSqlSafe("VACUUM ANALYZE".to_owned())).execute(&mut connection).await.expect("statistics");
}

pub async fn insert(store: &Store, spec: &DatasetSpec, scale: f64) {
    let place =
        Place { namespace: super::NAMESPACE, dataset: super::DATASET, dialect: campanile::rule::Dialect::Sqlite };
    for entity in &spec.entities {
        let marks: Vec<String> = (1..=entity.fields.len()).map(|n| format!("${n}")).collect();
        let text = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            place.table_name(&entity.name),
            columns(entity),
            marks.join(", ")
        );
        let mut rows = rows(&entity.name, scale).peekable();
        while rows.peek().is_some() {
            let some: String =
                rows.by_ref().take(ROWS_PER_TRANSACTION).fold(String::new(), |all, row| all + &row + "\n");
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(some.as_bytes());
            let records = reader.records().map(|record| {
                let record = record.expect("a record");
                entity.fields.iter().zip(&record).map(|(field, cell)| value(field.kind, cell)).collect::<Vec<Bind>>()
            });
            let records: Vec<Vec<Bind>> = records.collect();
            let mut tx = store.begin().await.expect("a transaction");
            tx.execute_each(&text, records).await.expect("rows");
            tx.commit().await.expect("a commit");
        }
    }
    store.execute(campanile::store::Sql::new("ANALYZE")).await.expect("statistics");
}

/// Money in cents, as SQLite keeps it.
fn value(kind: FieldKind, cell: &str) -> Bind {
    match kind {
        FieldKind::Integer => cell.parse::<i64>().expect("an integer").into(),
        FieldKind::Decimal => cell.replace('.', "").parse::<i64>().expect("money").into(),
        _ => cell.into(),
    }
}

//! Tables of others, read in place: the entity is a view over one, checked against the catalog; nothing is ever written.
//! And the end of a Dataset whose tables go with it.

use super::{
    Error, Result, Sql, Store,
    entity::{Place, quoted},
};
use crate::{
    api::dataset::{Entity, Field, FieldKind},
    rule::Dialect,
};

/// Schemas that are no business data.
const CLOSED: [&str; 2] = ["campanile", "information_schema"];

/// What stands in `shape` for an entity that is a view.
#[derive(serde::Serialize, serde::Deserialize)]
struct ViewShape {
    view: String,
}

/// Whether a shape is that of a view.
pub(super) fn is_view(shape: &str) -> bool {
    serde_json::from_str::<ViewShape>(shape).is_ok()
}

impl Store {
    /// Makes the entity a view over a table or a view of the same database, unless it is that already.
    ///
    /// # Errors
    /// [`Error::Refused`] if the table is not there, lacks a column, or has one of another type.
    pub async fn ensure_view(&self, place: Place<'_>, entity: &Entity, source: &str) -> Result<()> {
        if place.dialect != Dialect::Postgres {
            return Err(Error::Refused(format!("{}: `table: {source}` needs a PostgreSQL store", entity.name)));
        }
        let (schema, name) = source.split_once('.').unwrap_or(("public", source));
        let own = place.table(&entity.name).schema;
        if CLOSED.contains(&schema) || schema.starts_with("pg_") || own.as_deref() == Some(schema) {
            return Err(Error::Refused(format!("{}: schema {schema} is not one to read from", entity.name)));
        }
        let columns = "SELECT CAST(column_name AS TEXT), CAST(udt_name AS TEXT) FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2";
        let rows = self.fetch(Sql::new(columns).bind(schema).bind(name)).await?;
        let columns = rows.iter().map(|r| Ok((r.get(0)?, r.get(1)?))).collect::<Result<Vec<(String, String)>>>()?;
        if columns.is_empty() {
            return Err(Error::Refused(format!("{}: there is no table {source} that may be read", entity.name)));
        }
        let selected = entity.fields.iter().map(|field| selected(field, source, &columns));
        let selected = selected.collect::<std::result::Result<Vec<_>, _>>().map_err(Error::Refused)?;
        let view = format!("SELECT {} FROM {}.{}", selected.join(", "), quoted(schema), quoted(name));
        let shape =
            serde_json::to_string(&ViewShape { view: view.clone() }).map_err(|e| Error::Internal(e.to_string()))?;
        let read = "SELECT shape FROM shape WHERE namespace = $1 AND dataset = $2 AND entity = $3";
        let found = self.fetch_one(Sql::composed(read.to_owned(), place.key(&entity.name))).await?;
        let found: Option<String> = found.map(|row| row.get(0)).transpose()?;
        if found.as_ref() == Some(&shape) {
            return Ok(());
        }
        let target = place.table_name(&entity.name);
        if found.is_some_and(|shape| !is_view(&shape)) {
            return Err(Error::Refused(format!(
                "{} is filled from files; to read it from {source}, drop table {target} and its row in `shape`",
                entity.name
            )));
        }
        let mut tx = self.begin().await?;
        if let Some(own) = own {
            tx.execute(Sql::composed(format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&own)), vec![])).await?;
        }
        tx.execute(Sql::composed(format!("DROP VIEW IF EXISTS {target}"), vec![])).await?;
        tx.execute(Sql::composed(format!("CREATE VIEW {target} AS {view}"), vec![])).await?;
        // Whether it may be read is known only when it is.
        tx.fetch(Sql::composed(format!("SELECT 1 FROM {target} LIMIT 0"), vec![])).await?;
        let write = "INSERT INTO shape (namespace, dataset, entity, shape) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (namespace, dataset, entity) DO UPDATE SET shape = excluded.shape";
        let binds = place.key(&entity.name).into_iter().chain([shape.into()]).collect();
        tx.execute(Sql::composed(write.to_owned(), binds)).await?;
        tx.commit().await
    }

    /// Drops a Dataset's tables and what is remembered of its files. What people agreed to stays.
    pub async fn drop_dataset(&self, place: Place<'_>) -> Result<()> {
        let entities = "SELECT entity, shape FROM shape WHERE namespace = $1 AND dataset = $2";
        let rows = self.fetch(Sql::new(entities).bind(place.namespace).bind(place.dataset)).await?;
        let mut tx = self.begin().await?;
        let mut schema = None;
        for row in rows {
            let (entity, shape): (String, String) = (row.get(0)?, row.get(1)?);
            let kind = if is_view(&shape) { "VIEW" } else { "TABLE" };
            tx.execute(Sql::composed(format!("DROP {kind} IF EXISTS {}", place.table_name(&entity)), vec![])).await?;
            tx.execute(Sql::composed(format!("DROP TABLE IF EXISTS {}", place.tombstones_name(&entity)), vec![]))
                .await?;
            schema = place.table(&entity).schema;
        }
        for table in ["file", "reject", "shape", "look", "arrival", "arrival_bucket"] {
            let delete = format!("DELETE FROM {table} WHERE namespace = $1 AND dataset = $2");
            tx.execute(Sql::composed(delete, vec![place.namespace.into(), place.dataset.into()])).await?;
        }
        if let Some(schema) = schema {
            // A person's own views may stand there, too.
            let others =
                "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 LIMIT 1";
            if tx.fetch_one(Sql::new(others).bind(&schema)).await?.is_none() {
                tx.execute(Sql::composed(format!("DROP SCHEMA IF EXISTS {}", quoted(&schema)), vec![])).await?;
            }
        }
        tx.commit().await
    }
}

/// A field as the view shows it, in the type that our own tables give it.
fn selected(field: &Field, source: &str, columns: &[(String, String)]) -> std::result::Result<String, String> {
    let Some((_, found)) = columns.iter().find(|(name, _)| *name == *field.name) else {
        return Err(format!("{source} has no column `{}`", field.name));
    };
    let column = quoted(&field.name);
    let (fits, own, cast): (&[&str], &str, String) = match field.kind {
        FieldKind::String => (&["text", "varchar", "bpchar", "uuid", "name", "citext"], "text", "TEXT".to_owned()),
        FieldKind::Integer => (&["int8", "int4", "int2"], "int8", "BIGINT".to_owned()),
        FieldKind::Decimal => {
            let cast = format!("NUMERIC({}, {})", field.precision.unwrap_or(18), field.scale.unwrap_or(0));
            (&["numeric", "int8", "int4", "int2"], "", cast)
        }
        FieldKind::Double => (&["float8", "float4", "numeric"], "float8", "DOUBLE PRECISION".to_owned()),
        FieldKind::Boolean => (&["bool"], "bool", "BOOLEAN".to_owned()),
        FieldKind::Date => (&["date"], "date", "DATE".to_owned()),
        FieldKind::Timestamp => (&["timestamptz", "timestamp"], "timestamptz", "TIMESTAMPTZ".to_owned()),
    };
    if !fits.contains(&found.as_str()) {
        return Err(format!("column `{}` of {source} is {found} and cannot be read as {:?}", field.name, field.kind));
    }
    // Without a cast, the other's indexes serve our rules.
    if found == own {
        return Ok(column);
    }
    if found == "timestamp" {
        return Ok(format!("{column} AT TIME ZONE 'UTC' AS {column}"));
    }
    Ok(format!("CAST({column} AS {cast}) AS {column}"))
}

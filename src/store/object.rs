//! The folder home's objects: what a cluster's API server would keep. `campanile get` reads them here.

use jiff::Timestamp;
use serde_json::Value;

use super::{Result, Row, Sql, Store, instant, micros};

/// An object as stored: its identity, what its author declared, and what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// The folder whose manifests declare it; another folder's objects are dormant, not deleted.
    pub root: String,
    /// The file that declares it, if a file does.
    pub origin: Option<String>,
    pub uid: String,
    pub generation: i64,
    pub version: i64,
    pub created: Timestamp,
    pub is_deleting: bool,
    /// Labels and annotations.
    pub meta: Value,
    pub spec: Value,
    pub status: Value,
}

const COLUMNS: &str = "SELECT kind, namespace, name, root, origin, uid, generation, version, created_us, deleting, meta, spec, status FROM object";

fn stored(row: &Row) -> Result<Stored> {
    let json = |index| -> Result<Value> {
        let text: String = row.get(index)?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    };
    Ok(Stored {
        kind: row.get(0)?,
        namespace: row.get(1)?,
        name: row.get(2)?,
        root: row.get(3)?,
        origin: row.get(4)?,
        uid: row.get(5)?,
        generation: row.get(6)?,
        version: row.get(7)?,
        created: instant(row.get(8)?),
        is_deleting: row.get::<i64>(9)? != 0,
        meta: json(10)?,
        spec: json(11)?,
        status: json(12)?,
    })
}

impl Store {
    /// All objects, of every root.
    pub async fn objects(&self) -> Result<Vec<Stored>> {
        let sql = format!("{COLUMNS} ORDER BY kind, namespace, name");
        self.fetch(Sql::composed(sql, vec![])).await?.iter().map(stored).collect()
    }

    /// Creates the object or replaces what was declared; uid and status stay.
    pub async fn put_object(&self, object: &Stored) -> Result<()> {
        let sql = "INSERT INTO object (kind, namespace, name, root, origin, uid, generation, version, created_us, deleting, meta, spec, status) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
                   ON CONFLICT (kind, namespace, name) DO UPDATE SET root = excluded.root, origin = excluded.origin, \
                   uid = excluded.uid, generation = excluded.generation, version = excluded.version, \
                   created_us = excluded.created_us, deleting = excluded.deleting, meta = excluded.meta, \
                   spec = excluded.spec, status = excluded.status";
        let sql = Sql::new(sql)
            .bind(&object.kind)
            .bind(&object.namespace)
            .bind(&object.name)
            .bind(&object.root)
            .bind(object.origin.clone())
            .bind(&object.uid)
            .bind(object.generation)
            .bind(object.version)
            .bind(micros(object.created))
            .bind(i64::from(object.is_deleting))
            .bind(object.meta.to_string())
            .bind(object.spec.to_string())
            .bind(object.status.to_string());
        self.execute(sql).await?;
        Ok(())
    }

    pub async fn delete_object(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        for table in ["DELETE FROM object", "DELETE FROM event"] {
            let sql = format!("{table} WHERE kind = $1 AND namespace = $2 AND name = $3");
            tx.execute(Sql::composed(sql, vec![kind.into(), namespace.into(), name.into()])).await?;
        }
        tx.commit().await
    }

    /// Records an event; the same one again only raises its count.
    pub async fn put_event(
        &self,
        of: (&str, &str, &str),
        kind: &str,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO event (kind, namespace, name, type, reason, message, count, first_us, last_us) \
                   VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7) \
                   ON CONFLICT (kind, namespace, name, reason, message) DO UPDATE SET count = event.count + 1, last_us = excluded.last_us";
        let sql =
            Sql::new(sql).bind(of.0).bind(of.1).bind(of.2).bind(kind).bind(reason).bind(message).bind(micros(now));
        self.execute(sql).await?;
        Ok(())
    }

    /// The reasons and messages recorded for one object, oldest first.
    pub async fn events(&self, kind: &str, namespace: &str, name: &str) -> Result<Vec<(String, String, i64)>> {
        let sql = "SELECT reason, message, count FROM event WHERE kind = $1 AND namespace = $2 AND name = $3 ORDER BY first_us";
        let rows = self.fetch(Sql::new(sql).bind(kind).bind(namespace).bind(name)).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).collect()
    }
}

//! The datasets as they are declared, for what must know them where no manifest is at hand: a person's page, a command
//! on a store. A dataset that is deleted stays here, as its people's consent does.

use jiff::Timestamp;

use super::{Error, Result, Row, Sql, Store, micros};
use crate::api::DatasetSpec;

/// A dataset and where it is.
#[derive(Clone, Debug)]
pub struct Declared {
    pub namespace: String,
    pub name: String,
    pub spec: DatasetSpec,
}

impl Store {
    /// Remembers how a dataset is declared, if it is declared otherwise than before.
    pub async fn note_dataset(&self, namespace: &str, name: &str, spec: &DatasetSpec, now: Timestamp) -> Result<()> {
        let text = serde_json::to_string(spec).map_err(|e| Error::Internal(e.to_string()))?;
        let known = "SELECT 1 FROM declared_dataset WHERE namespace = $1 AND name = $2 AND spec = $3";
        if self.fetch_one(Sql::new(known).bind(namespace).bind(name).bind(&text)).await?.is_some() {
            return Ok(());
        }
        let sql = "INSERT INTO declared_dataset (namespace, name, spec, at_us) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (namespace, name) DO UPDATE SET spec = excluded.spec, at_us = excluded.at_us";
        self.execute(Sql::new(sql).bind(namespace).bind(name).bind(text).bind(micros(now))).await?;
        Ok(())
    }

    /// The datasets of a namespace, by name.
    pub async fn datasets(&self, namespace: &str) -> Result<Vec<Declared>> {
        let sql = "SELECT namespace, name, spec FROM declared_dataset WHERE namespace = $1 ORDER BY name";
        self.fetch(Sql::new(sql).bind(namespace)).await?.iter().map(declared).collect()
    }

    pub async fn dataset(&self, namespace: &str, name: &str) -> Result<Option<Declared>> {
        let sql = "SELECT namespace, name, spec FROM declared_dataset WHERE namespace = $1 AND name = $2";
        self.fetch_one(Sql::new(sql).bind(namespace).bind(name)).await?.as_ref().map(declared).transpose()
    }
}

fn declared(row: &Row) -> Result<Declared> {
    let text: String = row.get(2)?;
    let spec = serde_json::from_str(&text).map_err(|e| Error::Internal(format!("a dataset cannot be read: {e}")))?;
    Ok(Declared { namespace: row.get(0)?, name: row.get(1)?, spec })
}

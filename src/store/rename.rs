//! A campaign's earlier name: all that is kept under it goes over to the new one.

use super::{Result, Sql, Store, Tx};

/// Whatever is kept by campaign and step, and the columns that tell a row of a step from its others.
const STEPPED: [(&str, &str); 3] = [("once_fence", "item"), ("incremental", "item, run_no"), ("incremental_turn", "")];

impl Store {
    /// Takes over what is kept under a campaign's earlier name `former`: its runs, `once`, what `incremental` steps took, up
    /// to when its starts were dealt with, and its stop. Whether there was anything.
    ///
    /// What the new name has already stays; of two times the later counts.
    pub async fn take_over(&self, namespace: &str, former: &str, name: &str) -> Result<bool> {
        if !self.knows(namespace, former).await? {
            return Ok(false);
        }
        let mut tx = self.begin().await?;
        let names = [namespace, former, name];
        tx.take_over_memory(names).await?;
        tx.rename("UPDATE run SET campaign = $3 WHERE namespace = $1 AND campaign = $2", names).await?;
        // The later of two fences holds longer.
        let later = "UPDATE once_fence AS f SET at_us = o.at_us, run_no = o.run_no FROM once_fence o \
                     WHERE f.namespace = $1 AND f.campaign = $3 AND o.namespace = $1 AND o.campaign = $2 \
                     AND o.step = f.step AND o.item = f.item AND o.at_us > f.at_us";
        tx.rename(later, names).await?;
        for (table, columns) in STEPPED {
            let same: String =
                columns.split(", ").filter(|c| !c.is_empty()).map(|c| format!(" AND n.{c} = {table}.{c}")).collect();
            let moves = format!(
                "UPDATE {table} SET campaign = $3 WHERE namespace = $1 AND campaign = $2 AND NOT EXISTS (SELECT 1 FROM {table} n \
                 WHERE n.namespace = $1 AND n.campaign = $3 AND n.step = {table}.step{same})"
            );
            tx.rename(&moves, names).await?;
            let rest = format!("DELETE FROM {table} WHERE namespace = $1 AND campaign = $2 AND campaign <> $3");
            tx.rename(&rest, names).await?;
        }
        // Who stopped the one has not asked for the other.
        let stop = "UPDATE stop SET name = $3 WHERE scope = 'Campaign' AND namespace = $1 AND name = $2 AND NOT EXISTS \
                    (SELECT 1 FROM stop n WHERE n.scope = 'Campaign' AND n.namespace = $1 AND n.name = $3)";
        tx.rename(stop, names).await?;
        tx.commit().await?;
        Ok(true)
    }
}

impl Tx {
    /// `statement` has the namespace, the former name and the new one as its first three binds.
    async fn rename(&mut self, statement: &str, names: [&str; 3]) -> Result<u64> {
        let binds = names.into_iter().map(Into::into).collect();
        self.execute(Sql::composed(statement.to_owned(), binds)).await
    }

    async fn take_over_memory(&mut self, names: [&str; 3]) -> Result<()> {
        // What was held because the former name was deleted goes on under the new one.
        let moves = "UPDATE campaign SET name = $3, held = 0 WHERE namespace = $1 AND name = $2 AND NOT EXISTS \
                     (SELECT 1 FROM campaign n WHERE n.namespace = $1 AND n.name = $3)";
        if self.rename(moves, names).await? > 0 {
            return Ok(());
        }
        let looked = "UPDATE campaign AS n SET looked_us = CASE WHEN f.looked_us > n.looked_us THEN f.looked_us ELSE n.looked_us END, \
                      skipped = n.skipped + f.skipped FROM campaign f WHERE f.namespace = $1 AND f.name = $2 \
                      AND n.namespace = $1 AND n.name = $3";
        self.rename(looked, names).await?;
        self.rename("DELETE FROM campaign WHERE namespace = $1 AND name = $2 AND name <> $3", names).await?;
        Ok(())
    }
}

//! What is remembered of files: that they were read, what was rejected, and how long it took until they could be used.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Bind, Result, Sql, Store, Tx, entity::Place, instant, micros};

/// Arrivals of which the status tells the percentiles.
const ARRIVALS_KEPT: i64 = 1_000;
/// Upper bounds of the histogram's buckets, in milliseconds; the last is without bound.
pub const ARRIVAL_BUCKETS_MS: [i64; 12] =
    [100, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000, i64::MAX];

/// What a file is remembered by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRead {
    pub path: String,
    /// Size and time of change, or etag: when it differs, the file was rewritten.
    pub stamp: String,
    /// The fields that were read from it: when one is new, the file is read again. Of a refused file also its limits.
    pub shape: String,
    pub rows: i64,
    /// Rows that asked for a delete.
    pub deleted: i64,
    pub rejected: i64,
    /// Rows that were left out, because they were erased on request.
    pub erased: i64,
    /// Why the file was refused whole, if it was.
    pub problem: Option<String>,
    /// What else is to be said of it: that a later snapshot made it needless, that columns were ignored.
    pub note: Option<String>,
}

/// A row that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub line: i64,
    pub field: Option<String>,
    pub reason: String,
}

/// How long files took from their appearance until their rows were usable, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    pub last_ms: i64,
    pub p50_ms: i64,
    pub p99_ms: i64,
    /// Files among which the percentiles are.
    pub files: i64,
}

/// How long all files of an entity took, as a histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    pub namespace: String,
    pub dataset: String,
    pub entity: String,
    /// Upper bounds in seconds, the last without one, with the files between each and the one before.
    pub buckets: Vec<(f64, u64)>,
    pub files: u64,
    pub sum_s: f64,
}

/// The files of an entity in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCount {
    pub files: i64,
    pub rejected: i64,
    pub erased: i64,
    pub last_ingested: Option<Timestamp>,
    pub problem: Option<String>,
}

fn composed(text: &str, binds: Vec<Bind>) -> Sql {
    Sql::composed(text.to_owned(), binds)
}

impl Store {
    /// The files that were read for an entity.
    pub async fn files_read(&self, place: Place<'_>, entity: &str) -> Result<Vec<FileRead>> {
        let sql = "SELECT path, stamp, shape, row_count, deleted, rejected, problem, note, erased FROM file \
                   WHERE namespace = $1 AND dataset = $2 AND entity = $3 ORDER BY path";
        let rows = self.fetch(composed(sql, place.key(entity))).await?;
        rows.iter()
            .map(|r| {
                Ok(FileRead {
                    path: r.get(0)?,
                    stamp: r.get(1)?,
                    shape: r.get(2)?,
                    rows: r.get(3)?,
                    deleted: r.get(4)?,
                    rejected: r.get(5)?,
                    problem: r.get(6)?,
                    note: r.get(7)?,
                    erased: r.get(8)?,
                })
            })
            .collect()
    }

    pub async fn file_count(&self, place: Place<'_>, entity: &str) -> Result<FileCount> {
        let files = "SELECT count(*), CAST(COALESCE(sum(rejected), 0) AS BIGINT), max(at_us), CAST(COALESCE(sum(erased), 0) AS BIGINT) FROM file WHERE namespace = $1 AND dataset = $2 AND entity = $3";
        let problem = "SELECT path, problem FROM file WHERE namespace = $1 AND dataset = $2 AND entity = $3 AND problem IS NOT NULL ORDER BY at_us DESC LIMIT 1";
        let mut found = FileCount::default();
        if let Some(row) = self.fetch_one(composed(files, place.key(entity))).await? {
            (found.files, found.rejected) = (row.get(0)?, row.get(1)?);
            found.last_ingested = row.get::<Option<i64>>(2)?.map(instant);
            found.erased = row.get(3)?;
        }
        if let Some(row) = self.fetch_one(composed(problem, place.key(entity))).await? {
            found.problem = Some(format!("{}: {}", row.get::<String>(0)?, row.get::<String>(1)?));
        }
        Ok(found)
    }

    /// How many of the rejects that are kept have which reason.
    pub async fn reject_reasons(&self, place: Place<'_>, entity: &str) -> Result<BTreeMap<String, i64>> {
        let sql =
            "SELECT reason, count(*) FROM reject WHERE namespace = $1 AND dataset = $2 AND entity = $3 GROUP BY reason";
        self.fetch(composed(sql, place.key(entity))).await?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// Notes that an entity's source was looked at and found.
    pub async fn note_look(&self, place: Place<'_>, entity: &str, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO look (namespace, dataset, entity, at_us) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (namespace, dataset, entity) DO UPDATE SET at_us = excluded.at_us";
        let binds = place.key(entity).into_iter().chain([micros(now).into()]).collect();
        self.execute(composed(sql, binds)).await?;
        Ok(())
    }

    /// When an entity's source was last looked at and found.
    pub async fn last_look(&self, place: Place<'_>, entity: &str) -> Result<Option<Timestamp>> {
        let sql = "SELECT at_us FROM look WHERE namespace = $1 AND dataset = $2 AND entity = $3";
        let row = self.fetch_one(composed(sql, place.key(entity))).await?;
        row.map(|r| r.get(0).map(instant)).transpose()
    }

    /// When the sources of a run's data were last looked at, the oldest of them.
    pub async fn data_as_of(&self, run_no: i64) -> Result<Option<Timestamp>> {
        let row = self.fetch_one(Sql::new("SELECT data_as_of_us FROM run WHERE no = $1").bind(run_no)).await?;
        Ok(row.map(|r| r.get::<Option<i64>>(0)).transpose()?.flatten().map(instant))
    }

    /// How long files took, for each entity of which any came.
    #[allow(clippy::cast_precision_loss, reason = "a metric is a float, and microseconds stay exact for 285 years")]
    pub async fn arrivals(&self) -> Result<Vec<Arrived>> {
        let sql = "SELECT namespace, dataset, entity, le_ms, n, sum_us FROM arrival_bucket ORDER BY namespace, dataset, entity, le_ms";
        let mut found: Vec<Arrived> = vec![];
        for row in self.fetch(Sql::new(sql)).await? {
            let (namespace, dataset, entity) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (le_ms, n, sum_us): (i64, i64, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
            let is_same = |a: &Arrived| (&a.namespace, &a.dataset, &a.entity) == (&namespace, &dataset, &entity);
            if !found.last().is_some_and(is_same) {
                let bound = |le: i64| if le == i64::MAX { f64::MAX } else { le as f64 / 1e3 };
                let buckets = ARRIVAL_BUCKETS_MS.into_iter().map(|le| (bound(le), 0)).collect();
                found.push(Arrived { namespace, dataset, entity, buckets, files: 0, sum_s: 0.0 });
            }
            let Some(of) = found.last_mut() else { continue };
            let place =
                ARRIVAL_BUCKETS_MS.into_iter().position(|le| le >= le_ms).unwrap_or(ARRIVAL_BUCKETS_MS.len() - 1);
            let n = u64::try_from(n).unwrap_or(0);
            of.buckets[place].1 += n;
            of.files += n;
            of.sum_s += sum_us as f64 / 1e6;
        }
        Ok(found)
    }

    /// How long the newest files took; none if there are none.
    pub async fn latency(&self, place: Place<'_>, entity: &str) -> Result<Option<Latency>> {
        let sql = "SELECT no, latency_us FROM arrival WHERE namespace = $1 AND dataset = $2 AND entity = $3";
        let rows = self.fetch(composed(sql, place.key(entity))).await?;
        let mut found = rows.iter().map(|r| Ok((r.get(0)?, r.get(1)?))).collect::<Result<Vec<(i64, i64)>>>()?;
        let Some(last) = found.iter().max().map(|(_, us)| *us) else { return Ok(None) };
        found.sort_unstable_by_key(|(_, us)| *us);
        let at = |percent: usize| found[(found.len() * percent).div_ceil(100).max(1) - 1].1 / 1_000;
        let files = i64::try_from(found.len()).unwrap_or(i64::MAX);
        Ok(Some(Latency { last_ms: last / 1_000, p50_ms: at(50), p99_ms: at(99), files }))
    }
}

impl Tx {
    /// Notes how old the data is that a run is planned on: the oldest look at the sources of these entities.
    pub async fn note_data_as_of(
        &mut self,
        run_no: i64,
        (namespace, dataset): (&str, &str),
        entities: impl Iterator<Item = &str>,
    ) -> Result<()> {
        let mut binds: Vec<Bind> = vec![run_no.into(), namespace.into(), dataset.into()];
        let mut names = vec![];
        for (index, entity) in entities.enumerate() {
            names.push(format!("${}", index + 4));
            binds.push(entity.into());
        }
        if names.is_empty() {
            return Ok(());
        }
        let text = format!(
            "UPDATE run SET data_as_of_us = (SELECT min(at_us) FROM look WHERE namespace = $2 AND dataset = $3 AND entity IN ({})) WHERE no = $1",
            names.join(", ")
        );
        self.execute(Sql::composed(text, binds)).await?;
        Ok(())
    }

    /// Holds back whoever else reads files for this entity, in any process, and numbers the file at hand.
    pub async fn begin_file(&mut self, place: Place<'_>, entity: &str) -> Result<i64> {
        let lock = format!(
            "SELECT 1 FROM shape WHERE namespace = $1 AND dataset = $2 AND entity = $3{}",
            self.row_lock("FOR UPDATE")
        );
        self.fetch_one(composed(&lock, place.key(entity))).await?;
        let next = "SELECT COALESCE(max(no), 0) + 1 FROM file WHERE namespace = $1 AND dataset = $2 AND entity = $3";
        let row = self.fetch_one(composed(next, place.key(entity))).await?;
        row.map_or(Ok(1), |row| row.get(0))
    }

    /// Whether a file was read meanwhile, by another process.
    pub async fn is_read(&mut self, place: Place<'_>, entity: &str, file: &FileRead) -> Result<bool> {
        let sql = "SELECT 1 FROM file WHERE namespace = $1 AND dataset = $2 AND entity = $3 AND path = $4 AND stamp = $5 AND shape = $6";
        let binds = [(&file.path).into(), (&file.stamp).into(), (&file.shape).into()];
        let row = self.fetch_one(composed(sql, place.key(entity).into_iter().chain(binds).collect())).await?;
        Ok(row.is_some())
    }

    /// Notes that a file was read, with its rejects, in the transaction that merged it.
    pub async fn note_file(
        &mut self,
        place: Place<'_>,
        entity: &str,
        (file, no): (&FileRead, i64),
        rejects: &[Reject],
        now: Timestamp,
    ) -> Result<()> {
        let with = |more: Vec<Bind>| place.key(entity).into_iter().chain(more).collect::<Vec<Bind>>();
        let sql = "INSERT INTO file (namespace, dataset, entity, path, stamp, shape, row_count, deleted, rejected, problem, note, at_us, no, erased) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (namespace, dataset, entity, path) DO UPDATE SET \
                   stamp = excluded.stamp, shape = excluded.shape, row_count = excluded.row_count, deleted = excluded.deleted, \
                   rejected = excluded.rejected, problem = excluded.problem, note = excluded.note, at_us = excluded.at_us, no = excluded.no, \
                   erased = excluded.erased";
        let binds = with(vec![
            (&file.path).into(),
            (&file.stamp).into(),
            (&file.shape).into(),
            file.rows.into(),
            file.deleted.into(),
            file.rejected.into(),
            file.problem.clone().into(),
            file.note.clone().into(),
            micros(now).into(),
            no.into(),
            file.erased.into(),
        ]);
        self.execute(composed(sql, binds)).await?;
        let clear = "DELETE FROM reject WHERE namespace = $1 AND dataset = $2 AND entity = $3 AND path = $4";
        self.execute(composed(clear, with(vec![(&file.path).into()]))).await?;
        let insert = "INSERT INTO reject (namespace, dataset, entity, path, line, field, reason, at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        let rows = rejects.iter().map(|r| {
            with(vec![
                (&file.path).into(),
                r.line.into(),
                r.field.clone().into(),
                (&r.reason).into(),
                micros(now).into(),
            ])
        });
        self.execute_each(insert, rows.collect()).await
    }

    /// Notes how long a file took from its appearance.
    pub async fn note_arrival(&mut self, place: Place<'_>, entity: &str, latency_us: i64) -> Result<()> {
        let with = |more: Vec<Bind>| place.key(entity).into_iter().chain(more).collect::<Vec<Bind>>();
        let next = "SELECT COALESCE(max(no), 0) + 1 FROM arrival WHERE namespace = $1 AND dataset = $2 AND entity = $3";
        let no: i64 = self.fetch_one(composed(next, place.key(entity))).await?.map_or(Ok(1), |row| row.get(0))?;
        let put = "INSERT INTO arrival (namespace, dataset, entity, slot, no, latency_us) VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (namespace, dataset, entity, slot) DO UPDATE SET no = excluded.no, latency_us = excluded.latency_us";
        let binds = with(vec![(no % ARRIVALS_KEPT).into(), no.into(), latency_us.into()]);
        self.execute(composed(put, binds)).await?;
        let bucket =
            ARRIVAL_BUCKETS_MS.into_iter().find(|le| latency_us <= le.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let count = "INSERT INTO arrival_bucket (namespace, dataset, entity, le_ms, n, sum_us) VALUES ($1, $2, $3, $4, 1, $5) \
                     ON CONFLICT (namespace, dataset, entity, le_ms) DO UPDATE SET n = arrival_bucket.n + 1, \
                     sum_us = arrival_bucket.sum_us + excluded.sum_us";
        self.execute(composed(count, with(vec![bucket.into(), latency_us.into()]))).await?;
        Ok(())
    }
}

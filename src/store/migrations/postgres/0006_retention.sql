-- The ledger's tables by the day of the run, so that what is past its retention is dropped whole and leaves nothing to
-- vacuum. A day's partitions are made with its first run (see store/retention.rs).
CREATE TABLE ledger_by_day (LIKE ledger) PARTITION BY LIST (run_day);
ALTER TABLE ledger_by_day ADD PRIMARY KEY (run_day, run_no, step_no, shard, seq);
ALTER TABLE ledger_by_day ADD UNIQUE (run_day, run_no, step_no, shard, item, address);
CREATE TABLE attempt_by_day (LIKE attempt) PARTITION BY LIST (run_day);
ALTER TABLE attempt_by_day ADD PRIMARY KEY (run_day, run_no, step_no, shard, first_seq, attempt);
CREATE TABLE failure_by_day (LIKE failure) PARTITION BY LIST (run_day);
ALTER TABLE failure_by_day ADD PRIMARY KEY (run_day, run_no, step_no, shard, seq, attempt);
CREATE TABLE outcome_by_day (LIKE outcome) PARTITION BY LIST (run_day);
ALTER TABLE outcome_by_day ADD PRIMARY KEY (run_day, run_no, step_no, shard, seq);

DO $$
DECLARE
    day BIGINT;
    part TEXT;
BEGIN
    FOR day IN SELECT DISTINCT run_day FROM run LOOP
        FOREACH part IN ARRAY ARRAY['ledger', 'attempt', 'failure', 'outcome'] LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (%s)', part || '_' || day, part || '_by_day', day);
            EXECUTE format('INSERT INTO %I SELECT * FROM %I WHERE run_day = %s', part || '_by_day', part, day);
        END LOOP;
    END LOOP;
    FOREACH part IN ARRAY ARRAY['ledger', 'attempt', 'failure', 'outcome'] LOOP
        EXECUTE format('DROP TABLE %I', part);
        EXECUTE format('ALTER TABLE %I RENAME TO %I', part || '_by_day', part);
    END LOOP;
END
$$;

-- What is changed in place stays small by itself: a row's versions find room on their page, and autovacuum comes by
-- the number of changes, not by a share of a table that is nearly always empty.
ALTER TABLE claim_cursor SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE batch SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE deferred SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE tally SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE pace SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE quota SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE worker SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Which Dataset's retention a run has, and when its messages went.
ALTER TABLE run ADD COLUMN dataset TEXT NOT NULL DEFAULT '';
UPDATE run SET dataset = coalesce((SELECT v.content::json #>> '{campaign,dataset}' FROM revision v WHERE v.hash = run.revision), '');
ALTER TABLE run ADD COLUMN retired_us BIGINT;
CREATE INDEX run_to_retire ON run (namespace, dataset, completed_us) WHERE retired_us IS NULL;
CREATE INDEX reject_by_age ON reject (namespace, dataset, at_us);
CREATE INDEX run_by_day ON run (run_day) WHERE retired_us IS NULL;
CREATE INDEX run_step_tables ON run_step (run_no) WHERE work_table IS NOT NULL;

-- The run whose remainder this one sends: a run has one successor at most, so nobody gets both revisions.
ALTER TABLE run ADD COLUMN predecessor BIGINT;
CREATE UNIQUE INDEX run_successor ON run (predecessor) WHERE predecessor IS NOT NULL;

-- Which Dataset's retention a run has, and when its messages went.
ALTER TABLE run ADD COLUMN dataset TEXT NOT NULL DEFAULT '';
UPDATE run SET dataset = coalesce((SELECT json_extract(v.content, '$.campaign.dataset') FROM revision v WHERE v.hash = run.revision), '');
ALTER TABLE run ADD COLUMN retired_us INTEGER;
CREATE INDEX run_to_retire ON run (namespace, dataset, completed_us) WHERE retired_us IS NULL;
CREATE INDEX reject_by_age ON reject (namespace, dataset, at_us);
CREATE INDEX run_step_tables ON run_step (run_no) WHERE work_table IS NOT NULL;

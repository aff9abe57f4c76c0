-- A run whose `wait` steps are not over is planned as far as it goes; the rest is planned when the next of them is.
ALTER TABLE run ADD COLUMN resume_us BIGINT;
-- Done, Waiting until due_us, or Pending behind such a step.
ALTER TABLE run_step ADD COLUMN state TEXT NOT NULL DEFAULT 'Done';
ALTER TABLE run_step ADD COLUMN due_us BIGINT;

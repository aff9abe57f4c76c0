-- When the sources of a run's data were last looked at, the oldest of them, as the run was planned.
ALTER TABLE run ADD COLUMN data_as_of_us BIGINT;

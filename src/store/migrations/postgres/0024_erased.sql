-- The key of hashes of rows' keys, as campanile_keyed takes it: there once somebody was erased.
ALTER TABLE home ADD COLUMN key_pads TEXT;
-- Rows of a file that were left out, because they were erased on request.
ALTER TABLE file ADD COLUMN erased BIGINT NOT NULL DEFAULT 0;
-- Whose keys are kept: two datasets of a namespace may have entities of one name.
ALTER TABLE audience ADD COLUMN dataset TEXT;

-- Of a step that sends to each device of a person: which one, as the canonical text of its row's key; address is then its
-- place among those that it was planned for, from 1. The device is found again by its key: a place would shift.
ALTER TABLE ledger ADD COLUMN device TEXT;

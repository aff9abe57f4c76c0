-- Which database this is: a dump that is restored elsewhere brings another one's.
ALTER TABLE home ADD COLUMN place TEXT;

-- What a run had reached before the store went back in time, beyond what the store still knows of it.
CREATE TABLE recovery (
    run_no BIGINT NOT NULL PRIMARY KEY,
    claimed BIGINT NOT NULL,
    settled BIGINT NOT NULL,
    at_us BIGINT NOT NULL
);

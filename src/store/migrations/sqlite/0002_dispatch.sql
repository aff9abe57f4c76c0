-- A group of first attempts is one row: first_seq to last_seq. A further attempt is a row of its own.
ALTER TABLE attempt RENAME TO attempt_of_one;
CREATE TABLE attempt (
    run_day BIGINT NOT NULL,
    run_no BIGINT NOT NULL,
    step_no BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    worker TEXT NOT NULL,
    PRIMARY KEY (run_day, run_no, step_no, shard, first_seq, attempt)
);
INSERT INTO attempt SELECT run_day, run_no, step_no, shard, seq, attempt, seq, at_us, worker FROM attempt_of_one;

-- Attempts that are known to have failed, or known not to have been made: the message waits again.
CREATE TABLE failure (
    run_day BIGINT NOT NULL,
    run_no BIGINT NOT NULL,
    step_no BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    reason TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (run_day, run_no, step_no, shard, seq, attempt)
);
INSERT INTO failure SELECT run_day, run_no, step_no, shard, seq, attempt, result, at_us FROM attempt_of_one WHERE result IS NOT NULL;
DROP TABLE attempt_of_one;

-- A deferred message that is due is leased to a worker where it stands.
ALTER TABLE deferred ADD COLUMN worker TEXT;

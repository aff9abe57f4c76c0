-- What came back, by where it came from, what it told and why it was not taken.
CREATE TABLE feedback_count (
    source TEXT NOT NULL,
    told TEXT NOT NULL,
    reason TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (source, told, reason)
);

-- Callbacks that were taken: the same one again changes nothing. id: a hash of it or of its signature.
CREATE TABLE callback (
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (source, id)
);
CREATE INDEX callback_by_age ON callback (at_us);

-- Opens and clicks that are counted without the person. url: without what stands behind its path. machine: 1 if no person did it.
CREATE TABLE link_count (
    run_day BIGINT NOT NULL,
    run_no BIGINT NOT NULL,
    step_no BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    type TEXT NOT NULL,
    url TEXT NOT NULL,
    machine BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (run_day, run_no, step_no, shard, type, url, machine)
);

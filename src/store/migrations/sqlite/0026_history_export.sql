-- Where the history of a dataset is told to. declared_by: the transaction that entered it, where there are several at once;
-- what began before it notes nothing. begun: whether all that was there before is in history_due.
CREATE TABLE history_export (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    name TEXT NOT NULL,
    declared_by BIGINT,
    begun BIGINT NOT NULL DEFAULT 0,
    told BIGINT NOT NULL DEFAULT 0,
    told_us BIGINT,
    problem TEXT,
    PRIMARY KEY (namespace, dataset, name)
);

-- What of it is not told yet, noted in the transaction that records it: one row for a group. kind: Outcomes, Events or All.
-- which: of Outcomes their seq, of Events pairs of seq and id, in JSON; absent: all of the part, from next_seq on, if
-- outcome says nothing else. The row goes once all of it is told.
CREATE TABLE history_due (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    export TEXT NOT NULL,
    run_day BIGINT NOT NULL,
    run_no BIGINT NOT NULL,
    step_no BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    which TEXT,
    outcome TEXT,
    next_seq BIGINT NOT NULL DEFAULT 0,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (run_day, run_no, step_no, shard, export, id)
);
CREATE INDEX history_due_by_age ON history_due (namespace, dataset, export, at_us, id);

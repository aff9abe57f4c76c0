-- What an `incremental` step took, kept under names: it outlives runs, history and objects. mark: the field's value.
CREATE TABLE incremental (
    namespace TEXT NOT NULL,
    campaign TEXT NOT NULL,
    step TEXT NOT NULL,
    item TEXT NOT NULL,
    run_no BIGINT NOT NULL,
    mark BIGINT,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, campaign, step, item, run_no)
);
CREATE INDEX incremental_by_run ON incremental (run_no);

-- Whoever evaluates such a step writes here first, so that one of two runs waits.
CREATE TABLE incremental_turn (
    namespace TEXT NOT NULL,
    campaign TEXT NOT NULL,
    step TEXT NOT NULL,
    run_no BIGINT NOT NULL,
    PRIMARY KEY (namespace, campaign, step)
);

-- The channel steps that the rows of a run's `incremental` step can come to; by_item: as the items themselves.
CREATE TABLE incremental_scope (
    run_no BIGINT NOT NULL,
    step TEXT NOT NULL,
    step_no BIGINT NOT NULL,
    by_item BIGINT NOT NULL,
    PRIMARY KEY (run_no, step, step_no)
);

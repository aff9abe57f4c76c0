-- The file that a direct mail step of a run makes. sealed_us: from then on nobody is added or left out, and what is being
-- written is the file; file: where, without what the names end in; announced_us: its manifest may be there; made_us: it is
-- there, or nobody was left for it, or it was given up.
CREATE TABLE mailing (
    run_day BIGINT NOT NULL,
    run_no BIGINT NOT NULL,
    step_no BIGINT NOT NULL,
    worker TEXT NOT NULL DEFAULT '',
    fence BIGINT NOT NULL DEFAULT 0,
    tries BIGINT NOT NULL DEFAULT 0,
    due_us BIGINT NOT NULL DEFAULT 0,
    problem TEXT,
    sealed_us BIGINT,
    file TEXT,
    announced_us BIGINT,
    made_us BIGINT,
    row_count BIGINT,
    PRIMARY KEY (run_day, run_no, step_no)
);

-- Its rows, decided and written (a JSON array of texts), until the file is there.
CREATE TABLE mailing_row (
    run_day BIGINT NOT NULL,
    run_no BIGINT NOT NULL,
    step_no BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    cells TEXT NOT NULL,
    PRIMARY KEY (run_day, run_no, step_no, shard, seq)
);

-- Times are microseconds since the epoch, UTC (…_us). run_day is the UTC day of the run's start (days since
-- the epoch): the partition key; shard is the distribution key. Both stand in every unique key of the ledger's
-- tables, on which there is no sequence, foreign key or trigger.

CREATE TABLE home (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    home TEXT NOT NULL,
    environment TEXT NOT NULL,
    shards INTEGER NOT NULL
);

-- Objects of the folder home; a cluster keeps its own.
CREATE TABLE object (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    root TEXT NOT NULL,
    origin TEXT,
    uid TEXT NOT NULL,
    generation INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    deleting INTEGER NOT NULL DEFAULT 0,
    meta TEXT NOT NULL,
    spec TEXT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
);

CREATE TABLE event (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    PRIMARY KEY (kind, namespace, name, reason, message)
);

-- The emergency stop: scope is All, Namespace, Campaign or Channel.
CREATE TABLE stop (
    scope TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (scope, namespace, name)
);

-- Requests made by commands beside a running home: trigger, cancel.
CREATE TABLE request (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    at_us INTEGER NOT NULL
);

CREATE TABLE file (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    entity TEXT NOT NULL,
    path TEXT NOT NULL,
    stamp TEXT NOT NULL,
    shape TEXT NOT NULL,
    row_count INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    problem TEXT,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (namespace, dataset, entity, path)
);

-- Rows that could not be read: where and why, never what stood there.
CREATE TABLE reject (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    entity TEXT NOT NULL,
    path TEXT NOT NULL,
    line INTEGER NOT NULL,
    field TEXT,
    reason TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (namespace, dataset, entity, path, line)
);

-- The shape of each entity's table, to refuse a change of type or key.
CREATE TABLE shape (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    entity TEXT NOT NULL,
    shape TEXT NOT NULL,
    PRIMARY KEY (namespace, dataset, entity)
);

-- Append-only; the newest entry wins, a tie is opted out.
CREATE TABLE consent (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    topic TEXT NOT NULL,
    channel TEXT NOT NULL,
    profile TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    granted INTEGER NOT NULL,
    source TEXT NOT NULL,
    recorded_us INTEGER NOT NULL,
    PRIMARY KEY (namespace, dataset, topic, channel, profile, at_us, granted)
) WITHOUT ROWID;

CREATE TABLE revision (
    hash TEXT NOT NULL PRIMARY KEY,
    content TEXT NOT NULL,
    at_us INTEGER NOT NULL
);

-- What must be remembered of a campaign's name whatever happens to its object.
CREATE TABLE campaign (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    looked_us INTEGER NOT NULL,
    skipped INTEGER NOT NULL DEFAULT 0,
    suspended INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace, name)
);

CREATE TABLE run (
    no INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    campaign TEXT NOT NULL,
    mode TEXT NOT NULL,
    origin TEXT NOT NULL,
    scheduled_us INTEGER NOT NULL,
    run_day INTEGER NOT NULL,
    revision TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    delivers TEXT,
    created_us INTEGER NOT NULL,
    planned_us INTEGER,
    completed_us INTEGER,
    status TEXT,
    UNIQUE (namespace, name)
);
CREATE INDEX run_by_campaign ON run (namespace, campaign, no);
CREATE INDEX run_open ON run (state) WHERE state <> 'Done';

-- How large an audience was when a run last read it.
CREATE TABLE audience (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    profiles INTEGER,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
);

CREATE TABLE run_step (
    run_no INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    out_count INTEGER NOT NULL,
    left_count INTEGER,
    work_table TEXT,
    PRIMARY KEY (run_no, name)
);

-- One row per channel step of a run, planned.
CREATE TABLE run_channel (
    run_no INTEGER NOT NULL,
    step_no INTEGER NOT NULL,
    step TEXT NOT NULL,
    channel TEXT NOT NULL,
    run_day INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    PRIMARY KEY (run_no, step_no)
);

-- item: the row's key in canonical text; address: an ordinal; profile: absent where the row leads to nobody.
-- reason: an exclusion known when the message was planned.
CREATE TABLE ledger (
    run_day INTEGER NOT NULL,
    run_no INTEGER NOT NULL,
    step_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    item TEXT NOT NULL,
    address INTEGER NOT NULL,
    profile TEXT,
    reason TEXT,
    PRIMARY KEY (run_day, run_no, step_no, shard, seq),
    UNIQUE (run_day, run_no, step_no, shard, item, address)
) WITHOUT ROWID;

-- How far each shard of a step has been claimed.
CREATE TABLE claim_cursor (
    run_day INTEGER NOT NULL,
    run_no INTEGER NOT NULL,
    step_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    planned INTEGER NOT NULL,
    next_seq INTEGER NOT NULL,
    PRIMARY KEY (run_day, run_no, step_no, shard)
);

-- A claimed range that is not finished; one row per claim.
CREATE TABLE batch (
    run_day INTEGER NOT NULL,
    run_no INTEGER NOT NULL,
    step_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    worker TEXT NOT NULL,
    fence INTEGER NOT NULL,
    PRIMARY KEY (run_day, run_no, step_no, shard, first_seq)
);

CREATE TABLE attempt (
    run_day INTEGER NOT NULL,
    run_no INTEGER NOT NULL,
    step_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    worker TEXT NOT NULL,
    result TEXT,
    PRIMARY KEY (run_day, run_no, step_no, shard, seq, attempt)
) WITHOUT ROWID;

CREATE TABLE outcome (
    run_day INTEGER NOT NULL,
    run_no INTEGER NOT NULL,
    step_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    detail TEXT,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (run_day, run_no, step_no, shard, seq)
) WITHOUT ROWID;

-- What could not go at its turn, with the time of its next one.
CREATE TABLE deferred (
    run_day INTEGER NOT NULL,
    run_no INTEGER NOT NULL,
    step_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (run_day, run_no, step_no, shard, seq)
) WITHOUT ROWID;
CREATE INDEX deferred_due ON deferred (due_us);

-- Counts of outcomes, kept with them in one transaction, so that a status costs no scan.
CREATE TABLE tally (
    run_day INTEGER NOT NULL,
    run_no INTEGER NOT NULL,
    step_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (run_day, run_no, step_no, shard, outcome, reason)
) WITHOUT ROWID;

-- `once`: who must not get this step of this campaign again. Outlives runs and their history.
CREATE TABLE once_fence (
    namespace TEXT NOT NULL,
    campaign TEXT NOT NULL,
    step TEXT NOT NULL,
    item TEXT NOT NULL,
    run_no INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (namespace, campaign, step, item)
) WITHOUT ROWID;

-- A worker that lives raises its beat; who watches compares beats, never clocks.
CREATE TABLE worker (
    id TEXT NOT NULL PRIMARY KEY,
    beat INTEGER NOT NULL
);

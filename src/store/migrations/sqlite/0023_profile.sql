-- What each person said of each topic and channel, over time. Append-only: the newest entry wins; of one instant the last
-- by name, so that a tie is opted out (Withdrawn, Unknown, Pending, Granted). topic or channel `*`: all of them.
CREATE TABLE consent_over_time (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    profile TEXT NOT NULL,
    topic TEXT NOT NULL,
    channel TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('Granted', 'Pending', 'Withdrawn', 'Unknown')),
    source TEXT NOT NULL,
    text TEXT,
    recorded_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, dataset, profile, topic, channel, at_us, state)
) WITHOUT ROWID;
INSERT INTO consent_over_time (namespace, dataset, profile, topic, channel, at_us, state, source, recorded_us)
SELECT namespace, dataset, profile, topic, channel, at_us, CASE granted WHEN 1 THEN 'Granted' ELSE 'Withdrawn' END, source, recorded_us
FROM consent;
DROP TABLE consent;
ALTER TABLE consent_over_time RENAME TO consent;
CREATE INDEX consent_pending ON consent (namespace, dataset, topic, channel) WHERE state = 'Pending';

-- Opt-outs once more under a keyed hash of the address that they came from: they hold for whoever has that address.
CREATE TABLE opt_out (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    address TEXT NOT NULL,
    topic TEXT NOT NULL,
    channel TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    source TEXT NOT NULL,
    recorded_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, dataset, address, topic, channel, at_us)
) WITHOUT ROWID;

-- Requests for a confirmation that were answered with a message, or left because there were too many.
CREATE TABLE confirmation (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    profile TEXT NOT NULL,
    topic TEXT NOT NULL,
    channel TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    asked_us BIGINT NOT NULL,
    run_no BIGINT,
    PRIMARY KEY (namespace, dataset, profile, topic, channel, at_us)
) WITHOUT ROWID;

-- The datasets as they are declared: for what must know them where no manifest is at hand.
CREATE TABLE declared_dataset (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- Events of other systems that were taken.
CREATE TABLE cloud_event (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, dataset, source, id)
) WITHOUT ROWID;
CREATE INDEX cloud_event_by_age ON cloud_event (at_us);

-- Rows that were erased on request, by a keyed hash of their key: no file brings them back.
CREATE TABLE erased (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    entity TEXT NOT NULL,
    key TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, dataset, entity, key)
) WITHOUT ROWID;

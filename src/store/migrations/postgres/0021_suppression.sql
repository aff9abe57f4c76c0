-- The key of address hashes, as campanile_keyed takes it (see store/keyed.rs): with it the databases hash a whole set.
ALTER TABLE home ADD COLUMN address_pads TEXT;

-- Addresses that are written to no more, as keyed hashes. namespace: '*' for the whole store. until_us: absent for good.
CREATE TABLE suppression (
    namespace TEXT NOT NULL,
    medium TEXT NOT NULL,
    hash TEXT NOT NULL,
    reason TEXT NOT NULL,
    since_us BIGINT NOT NULL,
    until_us BIGINT,
    PRIMARY KEY (namespace, medium, hash)
);

-- Soft bounces that may suppress an address together. id: of the event, so that each counts once.
CREATE TABLE soft_bounce (
    medium TEXT NOT NULL,
    hash TEXT NOT NULL,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (medium, hash, namespace, id)
);
CREATE INDEX soft_bounce_by_age ON soft_bounce (at_us);

-- Why, as far as an event says: of a bounce its class, such as UnknownMailbox.
ALTER TABLE message_event ADD COLUMN reason TEXT;
DROP VIEW event_of_message;
CREATE VIEW event_of_message AS
SELECT run_day, run_no, step_no, shard, seq, type, TIMESTAMPTZ 'epoch' + at_us * INTERVAL '1 microsecond' AS at, url, reason
FROM message_event
WHERE machine = 0;

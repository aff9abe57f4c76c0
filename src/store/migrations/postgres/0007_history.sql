-- What rules over `message` ask of a revision, read out of its text once.
ALTER TABLE revision ADD COLUMN dataset TEXT;
ALTER TABLE revision ADD COLUMN topic TEXT;
UPDATE revision SET dataset = CAST(content AS json) #>> '{campaign,dataset}', topic = CAST(content AS json) #>> '{campaign,topic}'
WHERE content LIKE '{%';

-- What happened to a message after it was sent. `id` tells it from the message's other events: the provider's own, or
-- a hash, so that a callback that comes twice is one event. machine: 1 if no person did it.
CREATE TABLE message_event (
    run_day BIGINT NOT NULL,
    run_no BIGINT NOT NULL,
    step_no BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    url TEXT,
    machine BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (run_day, run_no, step_no, shard, seq, id)
) PARTITION BY LIST (run_day);
DO $$
DECLARE
    day BIGINT;
BEGIN
    FOR day IN SELECT DISTINCT run_day FROM run LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF message_event FOR VALUES IN (%s)', 'message_event_' || day, day);
    END LOOP;
END
$$;

-- The communication history as rules see it: live runs only.
CREATE VIEW message AS
SELECT l.run_day, l.run_no, l.step_no, l.shard, l.seq, r.namespace, v.dataset, l.profile,
    r.campaign, r.name AS run, c.step, c.channel, v.topic, CAST(NULL AS TEXT) AS variant, l.item,
    TIMESTAMPTZ 'epoch' + r.planned_us * INTERVAL '1 microsecond' AS "plannedAt",
    CASE WHEN o.outcome = 'Sent' THEN TIMESTAMPTZ 'epoch' + o.at_us * INTERVAL '1 microsecond' END AS "sentAt",
    COALESCE(o.outcome, 'Waiting') AS outcome,
    COALESCE(o.reason, l.reason) AS reason
FROM run r
JOIN revision v ON v.hash = r.revision
JOIN run_channel c ON c.run_no = r.no
JOIN ledger l ON l.run_day = r.run_day AND l.run_no = c.run_no AND l.step_no = c.step_no
LEFT JOIN outcome o
    ON o.run_day = l.run_day AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq
WHERE r.mode = 'Live';

-- Its events as rules see them: what machines did counts nowhere.
CREATE VIEW event_of_message AS
SELECT run_day, run_no, step_no, shard, seq, type, TIMESTAMPTZ 'epoch' + at_us * INTERVAL '1 microsecond' AS at, url
FROM message_event
WHERE machine = 0;

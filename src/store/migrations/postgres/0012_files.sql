-- By its number a row of an entity with versions says which file it is from; notes say why a file was not needed.
ALTER TABLE file ADD COLUMN no BIGINT NOT NULL DEFAULT 0;
ALTER TABLE file ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE file ADD COLUMN note TEXT;

-- When an entity's source was last looked at and found.
CREATE TABLE look (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    entity TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, dataset, entity)
);

-- From a file's appearance to its rows being usable: the newest ones, in a ring.
CREATE TABLE arrival (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    entity TEXT NOT NULL,
    slot BIGINT NOT NULL,
    no BIGINT NOT NULL,
    latency_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, dataset, entity, slot)
);

-- The same of all of them, as a histogram: n is the files that took at most le_ms, beyond those of the bucket before.
CREATE TABLE arrival_bucket (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    entity TEXT NOT NULL,
    le_ms BIGINT NOT NULL,
    n BIGINT NOT NULL,
    sum_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, dataset, entity, le_ms)
);

-- What is known under an audience's name, whatever becomes of its object.
-- size, profiles, took_ms: when it was last evaluated, at at_us. table_name: where its keys stand, if they are kept, and
-- of which entity they are; shape and definition: which columns these are, and of which rule; added, removed, unmatched: against the keys that
-- stood before, and keys without a row. stamp: of the file they came from. guard: as declared now, in JSON; baseline:
-- the last size inside of it; accepted: a size that a person let pass; outside: why the set is held.
ALTER TABLE audience RENAME TO audience_read;
CREATE TABLE audience (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    size BIGINT,
    profiles BIGINT,
    at_us BIGINT,
    took_ms BIGINT,
    table_name TEXT,
    entity TEXT,
    shape TEXT,
    definition TEXT,
    stamp TEXT,
    added BIGINT,
    removed BIGINT,
    unmatched BIGINT,
    guard TEXT,
    baseline BIGINT,
    accepted BIGINT,
    outside TEXT,
    exported TEXT,
    exported_us BIGINT,
    PRIMARY KEY (namespace, name)
);
INSERT INTO audience (namespace, name, size, profiles, at_us) SELECT namespace, name, size, profiles, at_us FROM audience_read;
DROP TABLE audience_read;

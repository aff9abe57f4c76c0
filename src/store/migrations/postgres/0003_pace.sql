-- When the next message may go over a channel, a step or to a group of domains; shared by all workers.
CREATE TABLE pace (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    free_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- Messages of a channel on a day (UTC, days since the epoch).
CREATE TABLE quota (
    namespace TEXT NOT NULL,
    channel TEXT NOT NULL,
    day BIGINT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (namespace, channel, day)
);

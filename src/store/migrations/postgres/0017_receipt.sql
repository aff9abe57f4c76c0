-- Messages that are told of by their provider's own id: which message of ours it is. id: in small letters, without zeros in front.
CREATE TABLE receipt (
    namespace TEXT NOT NULL,
    channel TEXT NOT NULL,
    id TEXT NOT NULL,
    reference TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (namespace, channel, id)
);
CREATE INDEX receipt_by_age ON receipt (at_us);

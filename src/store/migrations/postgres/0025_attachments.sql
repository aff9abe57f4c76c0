-- What templates attach, once by its hash (hexadecimal SHA-256); body is base64 in lines, as mail carries it.
CREATE TABLE attachment (
    sha256 TEXT NOT NULL PRIMARY KEY,
    -- When a home last read it.
    seen_us BIGINT NOT NULL,
    body TEXT NOT NULL
);

-- Which revision attaches what.
CREATE TABLE revision_attachment (
    revision TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (revision, sha256)
);

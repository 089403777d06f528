-- The catalog: which migrations and definitions it has. Everything else a store knows lies in its files.
CREATE TABLE migrations (
    name VARCHAR PRIMARY KEY,
    applied_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE migrations IS 'Migrations this catalog has had, by file name; times are UTC.';

CREATE TABLE definitions (
    sha256 VARCHAR NOT NULL,
    trajstore VARCHAR NOT NULL,
    applied_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE definitions IS 'The set of views, macros and groups this catalog holds: its hash and the version it came with.';

CREATE SCHEMA groups;

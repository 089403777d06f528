-- What the columns of the catalog's own two tables mean.
COMMENT ON COLUMN migrations.name IS 'name of the migration''s file';
COMMENT ON COLUMN migrations.applied_at IS 'when it was applied, UTC';
COMMENT ON COLUMN definitions.sha256 IS 'hash of all views, macros and groups that come with trajstore';
COMMENT ON COLUMN definitions.trajstore IS 'the version they came with';
COMMENT ON COLUMN definitions.applied_at IS 'when they were put in, UTC';

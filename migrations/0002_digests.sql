-- Every file of the store carries a digest of itself; the command that applies this adds it to files written before.
COMMENT ON TABLE migrations IS 'Migrations this store has had, by file name (from 0002 on every file carries a digest of itself); times are UTC.';

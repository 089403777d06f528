-- Files without rows, of which each view needs one, lie under the key .empty beside the files that they stand in for; the
-- command that applies this puts them there, and removes the hidden folders that had them.
COMMENT ON TABLE migrations IS 'Migrations this store has had, by file name (from 0002 on every file carries a digest of itself, from 0003 on files without rows lie in model=.empty and the like); times are UTC.';

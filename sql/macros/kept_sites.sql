-- Tokens of a group that is kept as a table, STORE/groups/NAME.parquet: those of a dataset whose tokens have changed since are left out.
-- $kept_group group: the group
-- -> dataset, context, position
CREATE OR REPLACE MACRO kept_sites(kept_group) AS TABLE
SELECT dataset, context, position
FROM read_parquet(coalesce(getvariable('store') || '/', '') || 'groups/' || kept_group || '.parquet')
JOIN datasets USING (dataset, tokens_sha256);

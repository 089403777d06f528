-- Every token of every dataset, position 0 included: what was scored, with its text.
CREATE OR REPLACE VIEW tokens AS
SELECT dataset, context, position, token, text, item, item_position, role
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || '[t.]okens/*/tokens.parquet',
    hive_partitioning = true,
    hive_types = {'dataset': VARCHAR}
);
COMMENT ON VIEW tokens IS 'Every token of every dataset: vocabulary id, text (stray bytes as <0xE2>), item and item_position (what is the same under two prompts), role.';

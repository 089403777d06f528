-- Every token of every dataset, position 0 included: what was scored, with its text.
CREATE OR REPLACE VIEW tokens AS
SELECT dataset, context, position, token, text, item, item_position, role
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'tokens/dataset=*/tokens.parquet',
    hive_partitioning = true,
    hive_types = {'dataset': VARCHAR}
);
COMMENT ON VIEW tokens IS 'Every token of every dataset: vocabulary id, text (stray bytes as <0xE2>), item and item_position (what is the same under two prompts), role.';
COMMENT ON COLUMN tokens.position IS 'index of the token in its context, from 0';
COMMENT ON COLUMN tokens.token IS 'vocabulary id';
COMMENT ON COLUMN tokens.text IS 'the decoded token; stray bytes as <0xE2>';
COMMENT ON COLUMN tokens.item IS 'what is the same under two prompts, such as a problem; by default the context';
COMMENT ON COLUMN tokens.item_position IS 'the place in the item; by default the position';
COMMENT ON COLUMN tokens.role IS 'what the token is in its item, such as question, answer or separator; null where it has none';

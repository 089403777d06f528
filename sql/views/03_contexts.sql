-- Every context of every dataset: its length and where it was drawn.
CREATE OR REPLACE VIEW contexts AS
SELECT dataset, context, n_tokens, document, byte_start, byte_end, category, shot, meta
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || '[t.]okens/*/contexts.parquet',
    hive_partitioning = true,
    hive_types = {'dataset': VARCHAR}
);
COMMENT ON VIEW contexts IS 'Every context: number of tokens, the document it was drawn from with its range of UTF-8 bytes, category, shot, other facts as JSON.';

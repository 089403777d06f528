-- Every context of every dataset: its length and where it was drawn.
CREATE OR REPLACE VIEW contexts AS
SELECT dataset, context, n_tokens, document, byte_start, byte_end, category, shot, meta
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'tokens/dataset=*/contexts.parquet',
    hive_partitioning = true,
    hive_types = {'dataset': VARCHAR}
);
COMMENT ON VIEW contexts IS 'Every context: number of tokens, the document it was drawn from with its range of UTF-8 bytes, category, shot, other facts as JSON.';
COMMENT ON COLUMN contexts.n_tokens IS 'tokens of the context, the first one included [tokens]';
COMMENT ON COLUMN contexts.document IS 'the document it was drawn from';
COMMENT ON COLUMN contexts.byte_start IS 'where it begins in its document''s UTF-8 text [bytes]';
COMMENT ON COLUMN contexts.byte_end IS 'where it ends [bytes]';
COMMENT ON COLUMN contexts.category IS 'kind of its problems or documents, where the source says it';
COMMENT ON COLUMN contexts.shot IS 'number of problems before its last one, where it is made of problems';
COMMENT ON COLUMN contexts.meta IS 'other facts (JSON)';

-- Every dataset, from the footer of its tokens.
CREATE OR REPLACE VIEW datasets AS
SELECT
    regexp_extract(file_name, 'tokens/dataset=([^/]*)/', 1) AS dataset,
    (facts ->> '$.n_contexts')::BIGINT AS contexts,
    (facts ->> '$.n_tokens')::BIGINT AS tokens,
    (facts ->> '$.n_tokens')::BIGINT - (facts ->> '$.n_contexts')::BIGINT AS losses,
    facts ->> '$.tokenizer.name' AS tokenizer,
    facts ->> '$.tokenizer.vocabulary_sha256' AS vocabulary_sha256,
    facts ->> '$.tokens_sha256' AS tokens_sha256,
    facts -> '$.source' AS source
FROM (
    SELECT file_name, decode(value)::JSON AS facts
    FROM parquet_kv_metadata(coalesce(getvariable('store') || '/', '') || '[t.]okens/*/tokens.parquet')
    WHERE decode(key) = 'trajstore'
);
COMMENT ON VIEW datasets IS 'Every dataset: numbers of contexts, tokens and losses, its tokenizer, the sha256 of its tokens, and how it was drawn (JSON).';

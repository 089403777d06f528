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
    FROM parquet_kv_metadata(coalesce(getvariable('store') || '/', '') || 'tokens/dataset=*/tokens.parquet')
    WHERE decode(key) = 'trajstore'
);
COMMENT ON VIEW datasets IS 'Every dataset: numbers of contexts, tokens and losses, its tokenizer, the sha256 of its tokens, and how it was drawn (JSON).';
COMMENT ON COLUMN datasets.contexts IS 'number of contexts';
COMMENT ON COLUMN datasets.tokens IS 'number of tokens, the first of each context included [tokens]';
COMMENT ON COLUMN datasets.losses IS 'number of losses of a complete slice [tokens]';
COMMENT ON COLUMN datasets.tokenizer IS 'name of the tokenizer';
COMMENT ON COLUMN datasets.vocabulary_sha256 IS 'hash of the tokenizer''s vocabulary';
COMMENT ON COLUMN datasets.tokens_sha256 IS 'hash of all token ids';
COMMENT ON COLUMN datasets.source IS 'how it was drawn (JSON)';

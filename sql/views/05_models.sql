-- Every model with slices or facts of its own; facts are null where losses came without them.
CREATE OR REPLACE VIEW models AS
SELECT model, repo, family, size, n_params, n_nonembedding, n_layer, position_embedding, seed, tokenizer,
    tokens_per_step, parent
FROM (
    SELECT DISTINCT regexp_extract(file, 'losses/model=([^/]*)/', 1) AS model
    FROM glob(coalesce(getvariable('store') || '/', '') || 'losses/*/*/*/slice.parquet')
    UNION
    SELECT regexp_extract(file, 'models/([^/]*)\.json$', 1)
    FROM glob(coalesce(getvariable('store') || '/', '') || 'models/*.json')
)
LEFT JOIN read_json(
    coalesce(getvariable('store') || '/', '') || '[m.]odels/*.json',
    columns = {
        'model': VARCHAR, 'repo': VARCHAR, 'family': VARCHAR, 'size': VARCHAR, 'n_params': BIGINT,
        'n_nonembedding': BIGINT, 'n_layer': BIGINT, 'position_embedding': VARCHAR, 'seed': BIGINT,
        'tokenizer': VARCHAR, 'tokens_per_step': BIGINT, 'parent': VARCHAR
    }
) USING (model)
ORDER BY n_params NULLS LAST, model;
COMMENT ON VIEW models IS 'Every model (one training run): repository or folder, family, numbers of parameters, layers, seed, tokens a step, parent run; ordered by n_params.';

-- Every model with slices or facts of its own; facts are null where losses came without them.
CREATE OR REPLACE VIEW models AS
SELECT model, repo, family, size, n_params, n_nonembedding, n_layer, position_embedding, seed, tokenizer,
    tokens_per_step, parent
FROM (
    SELECT DISTINCT regexp_extract(file, 'losses/model=([^/]*)/', 1) AS model
    FROM glob(coalesce(getvariable('store') || '/', '') || 'losses/*/*/step=[0-9]*/slice.parquet')
    WHERE NOT contains(file, '/model=.empty/')
    UNION
    SELECT regexp_extract(file, 'models/([^/]*)\.json$', 1)
    FROM glob(coalesce(getvariable('store') || '/', '') || 'models/[A-Za-z0-9]*.json')
    WHERE NOT contains(file, '/model=.empty.')
)
LEFT JOIN read_json(
    coalesce(getvariable('store') || '/', '') || 'models/[A-Za-z0-9]*.json',
    columns = {
        'model': VARCHAR, 'repo': VARCHAR, 'family': VARCHAR, 'size': VARCHAR, 'n_params': BIGINT,
        'n_nonembedding': BIGINT, 'n_layer': BIGINT, 'position_embedding': VARCHAR, 'seed': BIGINT,
        'tokenizer': VARCHAR, 'tokens_per_step': BIGINT, 'parent': VARCHAR
    }
) USING (model)
ORDER BY n_params NULLS LAST, model;
COMMENT ON VIEW models IS 'Every model (one training run): repository or folder, family, numbers of parameters, layers, seed, tokens a step, parent run; ordered by n_params.';
COMMENT ON COLUMN models.repo IS 'Hub repository, or the path of a folder';
COMMENT ON COLUMN models.family IS 'architecture';
COMMENT ON COLUMN models.size IS 'as the suite writes it, such as 70m';
COMMENT ON COLUMN models.n_params IS 'number of parameters; models are ordered by it';
COMMENT ON COLUMN models.n_nonembedding IS 'number of parameters outside the token and position embeddings and the head';
COMMENT ON COLUMN models.n_layer IS 'number of layers';
COMMENT ON COLUMN models.position_embedding IS 'kind of position embedding';
COMMENT ON COLUMN models.seed IS 'seed of the run';
COMMENT ON COLUMN models.tokenizer IS 'name of its tokenizer';
COMMENT ON COLUMN models.tokens_per_step IS 'tokens seen in training in one step [tokens]';
COMMENT ON COLUMN models.parent IS 'the model whose training this one continues';

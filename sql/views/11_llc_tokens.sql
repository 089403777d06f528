-- What drawn weights add to the loss of each token, in estimates of the local learning coefficient.
-- nβ times the mean of `added` over a group's tokens is the group's own coefficient.
CREATE OR REPLACE VIEW llc_tokens AS
SELECT model, step, dataset, layer, head, context, position, added, variance, params
FROM (
    SELECT model, step, dataset, layer, head, context, params::JSON AS params,
        unnest(token_means) AS added,
        unnest(token_variances) AS variance,
        unnest(range(len(token_means))) AS position
    FROM read_parquet(
        coalesce(getvariable('store') || '/', '') || 'measures/*/step=[0-9]*/llc.*.parquet',
        hive_partitioning = true,
        hive_types = {'model': VARCHAR, 'step': BIGINT},
        union_by_name = true
    )
    WHERE token_means IS NOT NULL
)
WHERE added IS NOT NULL;
COMMENT ON VIEW llc_tokens IS 'Tokens of each estimate of the local learning coefficient, with the mean and variance of their loss over the drawn weights. A group''s own coefficient is nβ (in params) times the mean of added over its tokens.';
COMMENT ON COLUMN llc_tokens.layer IS 'block whose weights were drawn, from 0; null for all weights';
COMMENT ON COLUMN llc_tokens.head IS 'head whose weights were drawn, from 0; null for all of the block';
COMMENT ON COLUMN llc_tokens.added IS 'mean over draws after burn-in of the loss, less the loss at the checkpoint''s own weights [nats]';
COMMENT ON COLUMN llc_tokens.variance IS 'variance of the loss over these draws [nats²]';
COMMENT ON COLUMN llc_tokens.params IS 'settings of the estimate (JSON), such as nbeta';

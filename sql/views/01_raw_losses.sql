-- Every loss of every slice: model, dataset, step, context, position, loss (nats), without the join for the token.
-- The pattern also matches .osses/, which holds a file of zero rows: a view needs one file at least.
-- A session sets the variable store; DuckDB started in the store's folder needs none.
CREATE OR REPLACE VIEW raw_losses AS
SELECT model, dataset, step, context, position, loss
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || '[l.]osses/*/*/*/slice.parquet',
    hive_partitioning = true,
    hive_types = {'model': VARCHAR, 'dataset': VARCHAR, 'step': BIGINT}
);
COMMENT ON VIEW raw_losses IS 'Every loss of every slice, without the token: -log p(token | earlier tokens) in nats, by model, dataset, step, context and position of the predicted token.';

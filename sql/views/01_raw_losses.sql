-- Every loss of every slice: model, dataset, step, context, position, loss (nats), without the join for the token.
-- A view needs one file at least: in model=.empty lies one without rows.
-- A session sets the variable store; DuckDB started in the store's folder needs none.
CREATE OR REPLACE VIEW raw_losses AS
SELECT model, dataset, step, context, position, loss
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'losses/*/*/step=[0-9]*/slice.parquet',
    hive_partitioning = true,
    hive_types = {'model': VARCHAR, 'dataset': VARCHAR, 'step': BIGINT}
);
COMMENT ON VIEW raw_losses IS 'Every loss of every slice, without the token: -log p(token | earlier tokens) in nats, by model, dataset, step, context and position of the predicted token.';
COMMENT ON COLUMN raw_losses.model IS 'one training run';
COMMENT ON COLUMN raw_losses.dataset IS 'a fixed, named list of contexts under one tokenizer';
COMMENT ON COLUMN raw_losses.step IS 'the suite''s step label; 0 is initialisation';
COMMENT ON COLUMN raw_losses.context IS 'number of the context in its dataset, from 0';
COMMENT ON COLUMN raw_losses.position IS 'index of the predicted token in its context, from 0; position 0 has no loss, so no row';
COMMENT ON COLUMN raw_losses.loss IS '−log p(token given earlier tokens), float32 [nats]';

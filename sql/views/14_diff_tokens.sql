-- The tokens whose losses differ most between two checkpoints or two prompts, in each finding of diff.
CREATE OR REPLACE VIEW diff_tokens AS
SELECT
    finding, change, model, step, minus_model, minus_step, dataset, minus_dataset, context, position,
    loss, minus_loss, difference, relative, noise
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=diff/*/tokens.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW diff_tokens IS 'The tokens whose losses differ most between two checkpoints or two prompts, in each finding of diff: as many as it keeps of either sign, over all its pairs.';
COMMENT ON COLUMN diff_tokens.finding IS 'name of the finding';
COMMENT ON COLUMN diff_tokens.change IS 'fell or rose';
COMMENT ON COLUMN diff_tokens.minus_model IS 'the model whose loss is subtracted';
COMMENT ON COLUMN diff_tokens.minus_step IS 'its step';
COMMENT ON COLUMN diff_tokens.minus_dataset IS 'the dataset on which it is; another one of two prompts, where context and position are those in dataset';
COMMENT ON COLUMN diff_tokens.minus_loss IS 'the loss that is subtracted [nats]';
COMMENT ON COLUMN diff_tokens.difference IS 'loss minus minus_loss [nats]';
COMMENT ON COLUMN diff_tokens.relative IS 'difference divided by minus_loss, or by a least loss (0.1 nats, --least) where that is more';
COMMENT ON COLUMN diff_tokens.noise IS 'the larger noise_p99 of the two slices; NULL where it was not measured [nats]';

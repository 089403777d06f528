-- How much the losses of each group differ between two checkpoints or two prompts, in each finding of diff.
CREATE OR REPLACE VIEW diff_groups AS
SELECT
    finding, group_name, model, step, minus_model, minus_step, dataset, minus_dataset, tokens, contexts, unit, units, interval,
    mean_of, mean, low, high, fell, rose, noise
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=diff/*/groups.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW diff_groups IS 'How much the losses of each group differ between two checkpoints or two prompts, in each finding of diff.';
COMMENT ON COLUMN diff_groups.finding IS 'name of the finding';
COMMENT ON COLUMN diff_groups.group_name IS 'name of the group';
COMMENT ON COLUMN diff_groups.minus_model IS 'the model whose losses are subtracted';
COMMENT ON COLUMN diff_groups.minus_step IS 'its step';
COMMENT ON COLUMN diff_groups.minus_dataset IS 'the dataset on which they are; another one of two prompts';
COMMENT ON COLUMN diff_groups.tokens IS 'of the group [tokens]';
COMMENT ON COLUMN diff_groups.contexts IS 'in how many contexts they lie';
COMMENT ON COLUMN diff_groups.unit IS 'what is resampled: context, document or category';
COMMENT ON COLUMN diff_groups.units IS 'how many have any';
COMMENT ON COLUMN diff_groups.interval IS 'bootstrap, t, studentised or none';
COMMENT ON COLUMN diff_groups.mean_of IS 'difference: in nats; or relative: divided by the loss that is subtracted (--relative)';
COMMENT ON COLUMN diff_groups.mean IS 'of these over the tokens, below 0 where the loss is lower than what is subtracted';
COMMENT ON COLUMN diff_groups.low IS 'lower end of its interval';
COMMENT ON COLUMN diff_groups.high IS 'upper end';
COMMENT ON COLUMN diff_groups.fell IS 'share of the tokens whose loss is lower by more than the noise';
COMMENT ON COLUMN diff_groups.rose IS 'share of those whose loss is higher by more';
COMMENT ON COLUMN diff_groups.noise IS 'the larger noise_p99 of the two slices; NULL where it was not measured, and then any change counts [nats]';

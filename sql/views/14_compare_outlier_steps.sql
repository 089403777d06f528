-- What becomes of the outliers of a comparison at other steps.
CREATE OR REPLACE VIEW compare_outlier_steps AS
SELECT finding, winner, dataset, step, tokens, contexts, unit, units, interval, mean, low, high
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=compare/*/outlier_steps.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW compare_outlier_steps IS 'What becomes of the outliers of a comparison of two models at other steps: the mean difference of their losses.';
COMMENT ON COLUMN compare_outlier_steps.finding IS 'name of the finding';
COMMENT ON COLUMN compare_outlier_steps.winner IS 'the model with the lower loss at the step at which they were compared';
COMMENT ON COLUMN compare_outlier_steps.tokens IS 'outliers that it wins [tokens]';
COMMENT ON COLUMN compare_outlier_steps.contexts IS 'in how many contexts they lie';
COMMENT ON COLUMN compare_outlier_steps.unit IS 'what is resampled: context, document or category';
COMMENT ON COLUMN compare_outlier_steps.units IS 'how many have any';
COMMENT ON COLUMN compare_outlier_steps.interval IS 'bootstrap, t or none';
COMMENT ON COLUMN compare_outlier_steps.mean IS 'of the first model''s loss minus the second''s [nats]';
COMMENT ON COLUMN compare_outlier_steps.low IS 'lower end of its interval [nats]';
COMMENT ON COLUMN compare_outlier_steps.high IS 'upper end [nats]';

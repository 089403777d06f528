-- How alike the losses of two checkpoints are, in each comparison of models.
CREATE OR REPLACE VIEW compare_correlations AS
SELECT
    finding, model, step, other, other_step, dataset, tokens, unit, units, interval,
    pearson, pearson_low, pearson_high, spearman, partial, partial_low, partial_high,
    rms, rms_low, rms_high, difference, difference_low, difference_high
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=compare/*/correlations.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW compare_correlations IS 'How alike the losses of two checkpoints are, token by token, in each comparison of models (a finding).';
COMMENT ON COLUMN compare_correlations.finding IS 'name of the finding';
COMMENT ON COLUMN compare_correlations.other IS 'the other model';
COMMENT ON COLUMN compare_correlations.other_step IS 'its step';
COMMENT ON COLUMN compare_correlations.tokens IS 'compared [tokens]';
COMMENT ON COLUMN compare_correlations.unit IS 'what is resampled: context, document or category';
COMMENT ON COLUMN compare_correlations.units IS 'how many there are';
COMMENT ON COLUMN compare_correlations.interval IS 'bootstrap, jackknife or none';
COMMENT ON COLUMN compare_correlations.pearson IS 'correlation of the losses';
COMMENT ON COLUMN compare_correlations.pearson_low IS 'lower end of its interval';
COMMENT ON COLUMN compare_correlations.pearson_high IS 'upper end';
COMMENT ON COLUMN compare_correlations.spearman IS 'correlation of the losses'' ranks';
COMMENT ON COLUMN compare_correlations.partial IS 'correlation given the log of a token''s frequency in the dataset';
COMMENT ON COLUMN compare_correlations.partial_low IS 'lower end of its interval';
COMMENT ON COLUMN compare_correlations.partial_high IS 'upper end';
COMMENT ON COLUMN compare_correlations.rms IS 'root of the mean squared difference [nats]';
COMMENT ON COLUMN compare_correlations.rms_low IS 'lower end of its interval [nats]';
COMMENT ON COLUMN compare_correlations.rms_high IS 'upper end [nats]';
COMMENT ON COLUMN compare_correlations.difference IS 'mean of the model''s loss minus the other''s [nats]';
COMMENT ON COLUMN compare_correlations.difference_low IS 'lower end of its interval [nats]';
COMMENT ON COLUMN compare_correlations.difference_high IS 'upper end [nats]';

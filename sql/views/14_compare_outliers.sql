-- The tokens on which two models differ most, in each comparison of two.
CREATE OR REPLACE VIEW compare_outliers AS
SELECT finding, winner, step, dataset, context, position, loss, other_loss, difference
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=compare/*/outliers.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW compare_outliers IS 'The tokens on which two models differ most, in each comparison of two (a finding).';
COMMENT ON COLUMN compare_outliers.finding IS 'name of the finding';
COMMENT ON COLUMN compare_outliers.winner IS 'the model with the lower loss';
COMMENT ON COLUMN compare_outliers.step IS 'at which they were compared';
COMMENT ON COLUMN compare_outliers.loss IS 'of the first model named [nats]';
COMMENT ON COLUMN compare_outliers.other_loss IS 'of the second [nats]';
COMMENT ON COLUMN compare_outliers.difference IS 'loss minus other_loss [nats]';

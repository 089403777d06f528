-- Components of each PCA: how much of the variance each explains.
CREATE OR REPLACE VIEW pca_components AS
SELECT finding, component, variance, ratio, zeros
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=pca/*/components.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW pca_components IS 'Components of each PCA (a finding): variance along each, its share of the whole, and the share of loadings that are zero.';
COMMENT ON COLUMN pca_components.finding IS 'name of the finding';
COMMENT ON COLUMN pca_components.component IS 'number of the component, from 1';
COMMENT ON COLUMN pca_components.variance IS 'variance of the scores along it [nats²]';
COMMENT ON COLUMN pca_components.ratio IS 'its share of the variance of all columns';
COMMENT ON COLUMN pca_components.zeros IS 'share of its loadings that are exactly zero';

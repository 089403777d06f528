-- How much each token counts in the components of each PCA.
CREATE OR REPLACE VIEW pca_loadings AS
SELECT finding, dataset, context, position, component, loading
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=pca/*/loadings.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW pca_loadings IS 'Loadings of each PCA (a finding): the weight of a token in a component, of which the squares add up to 1.';
COMMENT ON COLUMN pca_loadings.finding IS 'name of the finding';
COMMENT ON COLUMN pca_loadings.component IS 'number of the component, from 1';
COMMENT ON COLUMN pca_loadings.loading IS 'weight of the token in the component';

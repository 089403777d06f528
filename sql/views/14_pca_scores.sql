-- Where each checkpoint lies along the components of each PCA.
CREATE OR REPLACE VIEW pca_scores AS
SELECT finding, model, step, component, score
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=pca/*/scores.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW pca_scores IS 'Scores of each PCA (a finding): where a checkpoint lies along a component.';
COMMENT ON COLUMN pca_scores.finding IS 'name of the finding';
COMMENT ON COLUMN pca_scores.component IS 'number of the component, from 1';
COMMENT ON COLUMN pca_scores.score IS 'of the checkpoint along the component [nats]';

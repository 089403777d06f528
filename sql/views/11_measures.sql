-- Every measure: scalars of checkpoints, such as the noise of their losses.
CREATE OR REPLACE VIEW measures AS
SELECT model, step, dataset, name, layer, head, context, value, stderr, params::JSON AS params
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'measures/*/step=[0-9]*/*.parquet',
    hive_partitioning = true,
    hive_types = {'model': VARCHAR, 'step': BIGINT}
);
COMMENT ON VIEW measures IS 'Scalars of checkpoints: by model, step, dataset (null where it needs none), name, layer, head, context (null for a scalar), value, its standard error, and what it depends on (JSON).';
COMMENT ON COLUMN measures.dataset IS 'the dataset it was measured on; null where it needs none';
COMMENT ON COLUMN measures.name IS 'which measure';
COMMENT ON COLUMN measures.layer IS 'number of the layer, from 0; null where it belongs to none';
COMMENT ON COLUMN measures.head IS 'number of the head, from 0; null where it belongs to none';
COMMENT ON COLUMN measures.context IS 'the context it was measured on; null for a scalar of the checkpoint';
COMMENT ON COLUMN measures.value IS 'the measured value, in the unit of its measure';
COMMENT ON COLUMN measures.stderr IS 'standard error of the value; null where it has none';
COMMENT ON COLUMN measures.params IS 'what the value depends on (JSON)';

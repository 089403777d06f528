-- Measures of two checkpoints beside each other.
CREATE OR REPLACE VIEW compare_measures AS
SELECT finding, measure, layer, head, params::JSON AS params, dataset, model, step, minus_model, minus_step,
    value, minus_value, difference, low, high, contexts, unit, units, interval
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=compare_measures/*/values.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW compare_measures IS 'Measures of two checkpoints beside each other, by dataset, layer and head, with the difference of their values (a finding).';
COMMENT ON COLUMN compare_measures.finding IS 'name of the finding';
COMMENT ON COLUMN compare_measures.measure IS 'name of the measure';
COMMENT ON COLUMN compare_measures.layer IS 'number of the layer or block, from 0; null where the measure has none';
COMMENT ON COLUMN compare_measures.head IS 'number of the head in its block, from 0; null where the measure has none';
COMMENT ON COLUMN compare_measures.params IS 'parameters on which the values depend, JSON; null where there are none';
COMMENT ON COLUMN compare_measures.dataset IS 'null for a measure of weights alone';
COMMENT ON COLUMN compare_measures.minus_model IS 'model whose value is subtracted';
COMMENT ON COLUMN compare_measures.minus_step IS 'its step';
COMMENT ON COLUMN compare_measures.value IS 'of the model at its step, in the unit of the measure; over the contexts that both have, where there is a value for each';
COMMENT ON COLUMN compare_measures.minus_value IS 'the same of the checkpoint that is subtracted';
COMMENT ON COLUMN compare_measures.difference IS 'value minus minus_value';
COMMENT ON COLUMN compare_measures.low IS 'lower end of its interval; null where it has none';
COMMENT ON COLUMN compare_measures.high IS 'upper end';
COMMENT ON COLUMN compare_measures.contexts IS 'contexts that both have; null where a measure is one number a checkpoint';
COMMENT ON COLUMN compare_measures.unit IS 'what is resampled: context, document or category; null where nothing is';
COMMENT ON COLUMN compare_measures.units IS 'how many have any';
COMMENT ON COLUMN compare_measures.interval IS 'bootstrap, t, studentised, stderr or none';

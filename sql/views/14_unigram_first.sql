-- The three phases of «unigram first» in each model, and whether they are seen.
CREATE OR REPLACE VIEW unigram_first AS
SELECT finding, model, dataset, layer, direction, phase, course, answer, from_step, to_step, low, high, reason
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=unigram_first/*/phases.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW unigram_first IS 'The three phases of «unigram first» in each model: KL to unigrams low and energy high, KL rising and energy falling, energy rising and KL high (a finding).';
COMMENT ON COLUMN unigram_first.finding IS 'name of the finding';
COMMENT ON COLUMN unigram_first.layer IS 'layer of the interaction energy, before the final norm';
COMMENT ON COLUMN unigram_first.direction IS 'model||counts or counts||model: of the KL';
COMMENT ON COLUMN unigram_first.phase IS '1, 2 or 3';
COMMENT ON COLUMN unigram_first.course IS 'the phase in words';
COMMENT ON COLUMN unigram_first.answer IS 'seen, not seen, or cannot tell';
COMMENT ON COLUMN unigram_first.from_step IS 'first checkpoint of a phase that is seen';
COMMENT ON COLUMN unigram_first.to_step IS 'its last checkpoint';
COMMENT ON COLUMN unigram_first.low IS 'first step of the interval of its end, of phase 3 of its beginning';
COMMENT ON COLUMN unigram_first.high IS 'last step of that interval';
COMMENT ON COLUMN unigram_first.reason IS 'why the answer is so';

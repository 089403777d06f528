-- Spikes of each finding of spikes: where the mean loss rises and falls back.
CREATE OR REPLACE VIEW spikes AS
SELECT finding, model, before_step, at_step, after_step, height, low, high, chance
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=spikes/*/spikes.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW spikes IS 'Spikes of each finding of spikes: where the mean loss rises and falls back.';
COMMENT ON COLUMN spikes.finding IS 'name of the finding';
COMMENT ON COLUMN spikes.before_step IS 'step before it';
COMMENT ON COLUMN spikes.at_step IS 'step of the spike';
COMMENT ON COLUMN spikes.after_step IS 'step after it';
COMMENT ON COLUMN spikes.height IS 'mean loss at the step less the higher of those before and after it [nats]';
COMMENT ON COLUMN spikes.low IS 'lower end of its interval over the choice of text [nats]';
COMMENT ON COLUMN spikes.high IS 'upper end [nats]';
COMMENT ON COLUMN spikes.chance IS 'how often noise alone makes one as high anywhere in such a curve; NULL where the window was given';

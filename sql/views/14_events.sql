-- Events of training that each finding of phases has: when curves change, turn, fall and rise fastest, and induction forms.
CREATE OR REPLACE VIEW events AS
SELECT finding, model, dataset, series, event AS kind, step, low, high, value
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=phases/*/events.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW events IS 'Events of training that each finding of phases has: when curves change, turn, fall and rise fastest, and induction forms.';
COMMENT ON COLUMN events.finding IS 'name of the finding';
COMMENT ON COLUMN events.dataset IS 'name of the dataset, or how many; NULL for a measure of none';
COMMENT ON COLUMN events.series IS 'the curve: a group, a difference of two, or a measure with its layer and head';
COMMENT ON COLUMN events.kind IS 'change, minimum, maximum, fastest_fall, fastest_rise or induction';
COMMENT ON COLUMN events.step IS 'checkpoint at which it is, or the first after it';
COMMENT ON COLUMN events.low IS 'first step of its interval';
COMMENT ON COLUMN events.high IS 'last step of its interval';
COMMENT ON COLUMN events.value IS 'of the curve at the step: nats a token, or as the measure has it';

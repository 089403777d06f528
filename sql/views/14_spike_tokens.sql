-- Class of each token in each spike: it follows, it is inverse, or it stays flat.
CREATE OR REPLACE VIEW spike_tokens AS
SELECT finding, model, spike, dataset, context, position, token_class, change, tau
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=spikes/*/tokens.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW spike_tokens IS 'Class of each token in each spike: it follows, it is inverse, or it stays flat.';
COMMENT ON COLUMN spike_tokens.finding IS 'name of the finding';
COMMENT ON COLUMN spike_tokens.spike IS 'step of the spike';
COMMENT ON COLUMN spike_tokens.token_class IS 'follow: its loss rises by more than τ above both; inverse: it falls by more than τ below both; flat: neither';
COMMENT ON COLUMN spike_tokens.change IS 'how far its loss at the spike lies above (below: negative) those before and after; 0 between them [nats]';
COMMENT ON COLUMN spike_tokens.tau IS 'what its change must exceed to count [nats]';

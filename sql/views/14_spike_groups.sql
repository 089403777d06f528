-- How much more often tokens of each group follow a spike, or go against it, than other tokens.
CREATE OR REPLACE VIEW spike_groups AS
SELECT finding, model, spike, token_class, group_name, tokens, marked, share, rest, ratio, low, high, p, p_adjusted
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=spikes/*/groups.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW spike_groups IS 'How much more often tokens of each group follow a spike, or go against it, than other tokens.';
COMMENT ON COLUMN spike_groups.finding IS 'name of the finding';
COMMENT ON COLUMN spike_groups.spike IS 'step of the spike';
COMMENT ON COLUMN spike_groups.token_class IS 'follow: its loss rises by more than τ above both; inverse: it falls by more than τ below both; flat: neither';
COMMENT ON COLUMN spike_groups.group_name IS 'name of the group';
COMMENT ON COLUMN spike_groups.tokens IS 'tokens of the group that have a class [tokens]';
COMMENT ON COLUMN spike_groups.marked IS 'of this class among them [tokens]';
COMMENT ON COLUMN spike_groups.share IS 'of this class in the group';
COMMENT ON COLUMN spike_groups.rest IS 'of this class among all other tokens';
COMMENT ON COLUMN spike_groups.ratio IS 'share divided by rest; NULL where that cannot be';
COMMENT ON COLUMN spike_groups.low IS 'lower end of its interval';
COMMENT ON COLUMN spike_groups.high IS 'upper end';
COMMENT ON COLUMN spike_groups.p IS 'of the test that the two shares are the same, two-sided, contexts as units';
COMMENT ON COLUMN spike_groups.p_adjusted IS 'p after Holm, for as many groups as there are';

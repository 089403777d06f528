-- Shares of tokens that follow each spike, or go against it, beside the same shares in placebo windows.
CREATE OR REPLACE VIEW spike_shares AS
SELECT finding, model, spike, window_kind, token_class, before_step, at_step, after_step, share, low, high
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=spikes/*/shares.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW spike_shares IS 'Shares of tokens that follow each spike, or go against it, beside the same shares in placebo windows.';
COMMENT ON COLUMN spike_shares.finding IS 'name of the finding';
COMMENT ON COLUMN spike_shares.spike IS 'step of the spike';
COMMENT ON COLUMN spike_shares.window_kind IS 'spike; placebo: a window of the same length elsewhere; difference: of the spike from the mean of the placebos; recall: estimated share found of the tokens that moved by 2.5 times their noise or more; corrected: the difference divided by the recall, none where that is below 0.2';
COMMENT ON COLUMN spike_shares.token_class IS 'follow: its loss rises by more than τ above both; inverse: it falls by more than τ below both; flat: neither';
COMMENT ON COLUMN spike_shares.before_step IS 'step at which the window begins';
COMMENT ON COLUMN spike_shares.at_step IS 'step of its middle';
COMMENT ON COLUMN spike_shares.after_step IS 'step at which the window ends';
COMMENT ON COLUMN spike_shares.share IS 'of all tokens, found beyond τ: a lower bound; or a difference of such shares, a recall, or a corrected share';
COMMENT ON COLUMN spike_shares.low IS 'lower end of its interval';
COMMENT ON COLUMN spike_shares.high IS 'upper end';

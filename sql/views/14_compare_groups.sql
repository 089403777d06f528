-- How much more often tokens of each group are outliers that a model wins than other tokens.
CREATE OR REPLACE VIEW compare_groups AS
SELECT finding, winner, group_name, tokens, marked, share, rest, ratio, low, high, p, p_adjusted
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=compare/*/groups.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW compare_groups IS 'How much more often tokens of each group are outliers that a model wins than other tokens, in each comparison of two models.';
COMMENT ON COLUMN compare_groups.finding IS 'name of the finding';
COMMENT ON COLUMN compare_groups.winner IS 'the model with the lower loss';
COMMENT ON COLUMN compare_groups.group_name IS 'name of the group';
COMMENT ON COLUMN compare_groups.tokens IS 'of the group [tokens]';
COMMENT ON COLUMN compare_groups.marked IS 'of them among the outliers that it wins [tokens]';
COMMENT ON COLUMN compare_groups.share IS 'marked of the group''s tokens';
COMMENT ON COLUMN compare_groups.rest IS 'the same of all other tokens';
COMMENT ON COLUMN compare_groups.ratio IS 'share divided by rest; NULL where that cannot be';
COMMENT ON COLUMN compare_groups.low IS 'lower end of its interval';
COMMENT ON COLUMN compare_groups.high IS 'upper end';
COMMENT ON COLUMN compare_groups.p IS 'of the test that the two shares are the same, two-sided, contexts as units';
COMMENT ON COLUMN compare_groups.p_adjusted IS 'p after Holm, for as many tests as there are of both winners';

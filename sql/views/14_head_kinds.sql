-- The kind of each attention head, and the cluster of heads whose measures took the same course.
CREATE OR REPLACE VIEW head_kinds AS
SELECT finding, model, layer, head, head_kind AS kind, cluster, distance, nearest, since
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=head_kinds/*/heads.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW head_kinds IS 'The kind of each attention head, and the cluster of heads whose measures took the same course over training (a finding). A kind is told by one measure of what a head attends to, which is not what it causes.';
COMMENT ON COLUMN head_kinds.finding IS 'name of the finding';
COMMENT ON COLUMN head_kinds.layer IS 'number of the block, from 0';
COMMENT ON COLUMN head_kinds.head IS 'number of the head in its block, from 0';
COMMENT ON COLUMN head_kinds.kind IS 'prefix_matching, previous_token, duplicate_token, bos_attractor or none: the ideal that is nearest to the mean of the cluster at the last step. The ideal of a kind has 1 of its measure and 0 of the others, that of none 0 of all';
COMMENT ON COLUMN head_kinds.cluster IS 'number of the cluster, from 1, the largest first';
COMMENT ON COLUMN head_kinds.distance IS 'distance of the mean of the cluster at the last step from that ideal';
COMMENT ON COLUMN head_kinds.nearest IS 'the ideal that is nearest to the head itself at the last step';
COMMENT ON COLUMN head_kinds.since IS 'first step from which on that ideal is the nearest to the head at every step';

-- Pairs of attention heads of two models, matched by the course of their measures over training.
CREATE OR REPLACE VIEW head_matches AS
SELECT finding, model, layer, head, head_kind AS kind, other, other_layer, other_head, other_kind,
    distance, next_distance, random_distance, ambiguous
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=head_matches/*/pairs.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW head_matches IS 'Pairs of attention heads of two models, matched one to one by the course of their measures over training with the least sum of distances (a finding).';
COMMENT ON COLUMN head_matches.finding IS 'name of the finding';
COMMENT ON COLUMN head_matches.layer IS 'number of the block, from 0';
COMMENT ON COLUMN head_matches.head IS 'number of the head in its block, from 0';
COMMENT ON COLUMN head_matches.kind IS 'prefix_matching, previous_token, duplicate_token, bos_attractor or none: the ideal that is nearest to the head at the last step';
COMMENT ON COLUMN head_matches.other IS 'the other model';
COMMENT ON COLUMN head_matches.other_layer IS 'block of the matched head of the other model, from 0';
COMMENT ON COLUMN head_matches.other_head IS 'its number in its block, from 0';
COMMENT ON COLUMN head_matches.other_kind IS 'the ideal that is nearest to it at the last step';
COMMENT ON COLUMN head_matches.distance IS 'distance of the two over the measures, as root mean square over the checkpoints';
COMMENT ON COLUMN head_matches.next_distance IS 'the least distance of either from another head of the other model; null where it has no other';
COMMENT ON COLUMN head_matches.random_distance IS 'the mean distance of either from all other heads of the other model; null where it has no other';
COMMENT ON COLUMN head_matches.ambiguous IS 'whether the distance is more than the ratio asked for (0.8) times next_distance, so that another match would be about as good';

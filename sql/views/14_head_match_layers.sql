-- Whether heads of two models that took the same course are in like layers.
CREATE OR REPLACE VIEW head_match_layers AS
SELECT finding, model, other, pairs, ambiguous, same_layer, same_layer_expected, layers_apart, layers_apart_expected,
    p_heads, p_layers, least_p, answer
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=head_matches/*/layers.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW head_match_layers IS 'Whether matched heads of two models are in like layers, which the matching does not know (a finding).';
COMMENT ON COLUMN head_match_layers.finding IS 'name of the finding';
COMMENT ON COLUMN head_match_layers.other IS 'the other model';
COMMENT ON COLUMN head_match_layers.pairs IS 'matched pairs of heads';
COMMENT ON COLUMN head_match_layers.ambiguous IS 'pairs for which another match would be about as good';
COMMENT ON COLUMN head_match_layers.same_layer IS 'pairs in one layer';
COMMENT ON COLUMN head_match_layers.same_layer_expected IS 'their mean number where the layers of one model are permuted over its heads';
COMMENT ON COLUMN head_match_layers.layers_apart IS 'mean difference of the layers of a pair';
COMMENT ON COLUMN head_match_layers.layers_apart_expected IS 'its mean where the layers of one model are permuted over its heads';
COMMENT ON COLUMN head_match_layers.p_heads IS 'share of permutations of one model''s layers over its heads with such a mean or a smaller one';
COMMENT ON COLUMN head_match_layers.p_layers IS 'the same of permutations of whole layers, which holds also where the heads of a layer are alike';
COMMENT ON COLUMN head_match_layers.least_p IS 'the larger of the two p that the best agreement would have';
COMMENT ON COLUMN head_match_layers.answer IS 'agree, not seen, or cannot tell where least_p is above the chance asked for (0.05)';

-- Every checkpoint that has a slice. A (model, step) in two rows was scored from two different weights.
CREATE OR REPLACE VIEW checkpoints AS
SELECT DISTINCT
    model,
    step,
    facts ->> '$.revision' AS revision,
    facts ->> '$.commit' AS "commit",
    (facts ->> '$.tokens_seen')::BIGINT AS tokens_seen,
    (facts ->> '$.tokens_exact')::BOOLEAN AS tokens_exact,
    facts ->> '$.weights' AS weights
FROM slice_footers;
COMMENT ON VIEW checkpoints IS 'Every scored checkpoint: revision, resolved commit, tokens seen in training (and whether that number is exact), fingerprint of the weights.';
COMMENT ON COLUMN checkpoints.revision IS 'Hub ref or folder that held the weights';
COMMENT ON COLUMN checkpoints."commit" IS 'the commit that the ref stood for';
COMMENT ON COLUMN checkpoints.tokens_seen IS 'tokens seen in training [tokens]';
COMMENT ON COLUMN checkpoints.tokens_exact IS 'whether that number is exact';
COMMENT ON COLUMN checkpoints.weights IS 'fingerprint of the weights';

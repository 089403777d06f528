-- Losses with the columns that some slices keep beside them; NULL where a slice does not.
-- Whatever it asks, a query here opens every slice of the store: losses is the quicker way to a loss.
CREATE OR REPLACE VIEW scores AS
SELECT model, dataset, step, context, position, token, loss, rank, entropy
FROM (
    SELECT * FROM read_parquet(
        coalesce(getvariable('store') || '/', '') || 'losses/*/*/step=[0-9]*/slice.parquet',
        hive_partitioning = true,
        hive_types = {'model': VARCHAR, 'dataset': VARCHAR, 'step': BIGINT},
        union_by_name = true
    )
    UNION ALL BY NAME
    SELECT NULL::INTEGER AS rank, NULL::FLOAT AS entropy WHERE false
)
JOIN tokens USING (dataset, context, position);
COMMENT ON VIEW scores IS 'Losses with what some slices keep beside them, else NULL: rank of the token among all (0 is the likeliest) and entropy of the prediction in nats.';
COMMENT ON COLUMN scores.rank IS 'of the token among all in the prediction; 0 is the likeliest';
COMMENT ON COLUMN scores.entropy IS 'of the prediction [nats]';

-- Every slice has one loss for each token but the first of every context of its dataset (a partial slice: of every context it has), and none besides.
WITH by_context AS (
    SELECT model, dataset, step, context, count(*) AS found, count(token) AS known
    FROM raw_losses
    LEFT JOIN (SELECT dataset, context, position, token FROM tokens WHERE position > 0) USING (dataset, context, position)
    GROUP BY ALL
),
by_slice AS (
    SELECT model, dataset, step, sum(found - known + abs(known - coalesce(n_tokens - 1, 0))) AS wrong,
        sum(coalesce(n_tokens - 1, 0)) AS wanted
    FROM by_context
    LEFT JOIN contexts USING (dataset, context)
    GROUP BY ALL
),
counted AS (
    SELECT model, dataset, step,
        (wrong + CASE WHEN (facts ->> '$.partial')::BOOLEAN THEN 0 ELSE losses - wanted END)::BIGINT AS bad
    FROM by_slice
    LEFT JOIN datasets USING (dataset)
    LEFT JOIN slice_footers USING (model, dataset, step)
)
SELECT model, dataset, step, bad
FROM counted
WHERE bad IS NULL OR bad > 0;

-- No slice has two losses for one site.
WITH blocks AS (
    -- A bit for each of 64 positions: to count distinct ones takes ten times as long, and memory without end.
    SELECT model, dataset, step, context, position >> 6 AS block,
        count(*) - bit_count(bit_or(1::UBIGINT << (position & 63)::UBIGINT)) AS surplus
    FROM raw_losses
    GROUP BY ALL
)
SELECT model, dataset, step, sum(surplus)::BIGINT AS bad
FROM blocks
GROUP BY ALL
HAVING bad > 0;

-- Mean loss of a group by model, dataset and step: FROM trajectory('digits').
-- $group_name group: the group
-- -> model, dataset, step
-- -> tokens [tokens]: losses that the mean is of
-- -> mean [nats]: mean loss
CREATE OR REPLACE MACRO trajectory(group_name) AS TABLE
SELECT model, dataset, step, count(*) AS tokens, avg(loss::DOUBLE) AS mean
FROM (SELECT model, dataset, step, context, position >> 4 AS block, position & 15 AS place, loss FROM raw_losses)
JOIN (
    -- A bit for each of sixteen positions: a smaller table to look up losses in, which stays in the processor's cache.
    SELECT dataset, context, position >> 4 AS block, bit_or(1::INTEGER << (position & 15)::INTEGER) AS members
    FROM query_table('groups.' || group_name)
    GROUP BY ALL
) USING (dataset, context, block)
WHERE (members >> place) & 1 = 1
GROUP BY ALL
ORDER BY model, dataset, step;

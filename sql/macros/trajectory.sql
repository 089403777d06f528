-- Mean loss of a group by model, dataset and step: FROM trajectory('digits').
-- $group_name group: the group
-- $align align = predict: predict for the loss of the group's tokens, after for that of the tokens that follow them
-- -> model, dataset, step
-- -> tokens [tokens]: losses that the mean is of
-- -> mean [nats]: mean loss
CREATE OR REPLACE MACRO trajectory(group_name, align := 'predict') AS TABLE
SELECT model, dataset, step, count(*) AS tokens, avg(loss::DOUBLE) AS mean
FROM (SELECT model, dataset, step, context, position >> 4 AS block, position & 15 AS place, loss FROM raw_losses)
JOIN (
    -- A bit for each of sixteen positions: a smaller table to look up losses in, which stays in the processor's cache.
    SELECT dataset, context, position >> 4 AS block, bit_or(1::INTEGER << (position & 15)::INTEGER) AS members
    FROM aligned(group_name, align := align)
    GROUP BY ALL
) USING (dataset, context, block)
WHERE (members >> place) & 1 = 1
GROUP BY ALL
ORDER BY model, dataset, step;

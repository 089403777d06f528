-- Every slice has one loss for each token of its dataset but the first of a context, and none besides.
SELECT model, dataset, step, count(*) - count(token) + abs(count(token) - any_value(losses)) AS bad
FROM raw_losses
LEFT JOIN (SELECT dataset, context, position, token FROM tokens WHERE position > 0) USING (dataset, context, position)
LEFT JOIN datasets USING (dataset)
GROUP BY ALL
HAVING bad IS NULL OR bad > 0;

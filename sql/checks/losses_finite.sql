-- Every loss is a finite number of nats.
SELECT model, dataset, step, count(*) AS bad
FROM raw_losses
WHERE loss IS NULL OR NOT isfinite(loss)
GROUP BY ALL;

-- The mean loss at each position of the contexts, at one step.
-- $step step = last: the step
-- $models models = *: models to look at
-- $datasets datasets = *: datasets to look at
-- -> model, dataset, position
-- -> contexts: number of contexts long enough to have a loss there
-- -> mean [nats]: mean loss
-- e.g. trajstore query loss_by_position -p step=512 -p datasets=code
SELECT model, dataset, position, count(*) AS contexts, avg(loss::DOUBLE) AS mean
FROM raw_losses
WHERE step = $step AND model IN $models AND dataset IN $datasets
GROUP BY ALL
ORDER BY model, dataset, position;

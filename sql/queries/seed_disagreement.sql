-- How much the losses of the same token differ between models, such as seeds of one size, by step.
-- Only tokens and steps that each of the models has.
-- $models models: the models, two at least
-- $datasets datasets = *: datasets to look at
-- $group group = every_token: take only this group's tokens
-- -> dataset, step
-- -> models: number of models
-- -> tokens [tokens]: tokens compared
-- -> mean [nats]: mean loss
-- -> mean_sd, median_sd, p95_sd [nats]: mean, median and 95th percentile over tokens of the standard deviation between models (n − 1)
-- e.g. trajstore query seed_disagreement -p 'models=tiny-2l-*' -p datasets=repeats
WITH sites AS (
    SELECT dataset, step, count(*) AS models, avg(loss::DOUBLE) AS mean, stddev_samp(loss::DOUBLE) AS sd
    FROM raw_losses
    SEMI JOIN (FROM query_table('groups.' || $group)) USING (dataset, context, position)
    WHERE model IN $models AND dataset IN $datasets
    GROUP BY dataset, step, context, position
)
SELECT
    dataset, step, any_value(models) AS models, count(*) AS tokens, avg(mean) AS mean,
    avg(sd) AS mean_sd, median(sd) AS median_sd, quantile_cont(sd, 0.95) AS p95_sd
FROM sites
WHERE models = len($models) AND models > 1
GROUP BY dataset, step
ORDER BY dataset, step;

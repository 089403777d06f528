-- How much the losses of the same token differ between models, such as seeds of one size, by step.
-- Only tokens and steps that each of the models has.
-- $models models: the models, two at least
-- $datasets datasets = *: datasets to look at
-- $group group = every_token: take only this group's tokens
-- $align align = predict: predict for the losses of the group's tokens, after for those of the tokens that follow them
-- -> dataset, step
-- -> models: number of models
-- -> tokens [tokens]: tokens compared
-- -> mean [nats]: mean loss
-- -> mean_sd, median_sd, p95_sd [nats]: mean, median and 95th percentile over tokens of the standard deviation between models (n − 1)
-- e.g. trajstore query seed_disagreement -p 'models=tiny-2l-*' -p datasets=repeats
WITH RECURSIVE members AS MATERIALIZED (
    SELECT dataset, context, position FROM aligned($group, align := $align) WHERE dataset IN $datasets
),
steps AS MATERIALIZED (
    SELECT step, row_number() OVER (ORDER BY step) AS number
    FROM (
        SELECT DISTINCT regexp_extract(file, '/step=([^/]*)/', 1)::BIGINT AS step
        FROM glob(coalesce(getvariable('store') || '/', '') || 'losses/*/*/step=[0-9]*/slice.parquet')
        WHERE regexp_extract(file, 'losses/model=([^/]*)/', 1) IN $models
    )
),
-- One step at a time, so that memory holds a step's tokens: all steps at once are a hundred bytes each.
by_step AS (
    -- The first row needs steps and members, since DuckDB 1.5 may else begin before they are all there.
    SELECT
        (SELECT min(number) - 1 FROM steps) AS number, NULL::BIGINT AS step, NULL::VARCHAR AS dataset,
        NULL::BIGINT AS models, (SELECT count(*) FROM members) AS tokens, NULL::DOUBLE AS mean,
        NULL::DOUBLE AS mean_sd, NULL::DOUBLE AS median_sd, NULL::DOUBLE AS p95_sd
    UNION ALL
    SELECT this.number, this.step, found.*
    FROM (FROM steps WHERE number = (SELECT max(number) + 1 FROM by_step)) AS this
    LEFT JOIN LATERAL (
        SELECT
            dataset, any_value(models), count(*), avg(mean), avg(sd), median(sd), quantile_cont(sd, 0.95)
        FROM (
            SELECT dataset, count(*) AS models, avg(loss::DOUBLE) AS mean, stddev_samp(loss::DOUBLE) AS sd
            FROM raw_losses
            JOIN members USING (dataset, context, position)
            WHERE raw_losses.step = this.step AND model IN $models AND dataset IN $datasets
            GROUP BY dataset, context, position
        )
        WHERE models = len($models) AND models > 1
        GROUP BY dataset
    ) AS found ON true
)
SELECT dataset, step, models, tokens, mean, mean_sd, median_sd, p95_sd
FROM by_step
WHERE number > 0 AND tokens > 0
ORDER BY dataset, step;

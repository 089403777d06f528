-- The types of tokens whose mean loss changed most between two steps, down and up, with their trajectories.
-- $from_step step: the earlier step
-- $to_step step = last: the later step
-- $models models = *: models to look at
-- $datasets datasets = *: datasets to look at
-- $least integer [tokens] = 10: leave out types with fewer losses at a step
-- $top integer [types] = 10: how many to show at either end
-- -> model, dataset, token, text
-- -> tokens [tokens]: losses of the type at a step
-- -> change [nats]: mean loss at the later step minus mean loss at the earlier
-- -> step
-- -> mean [nats]: mean loss of the type at this step
-- e.g. trajstore query changed_token_types -p from_step=0 -p datasets=code
WITH types AS (
    SELECT
        model, dataset, token, min(text) AS text,
        avg(loss::DOUBLE) FILTER (step = $to_step) - avg(loss::DOUBLE) FILTER (step = $from_step) AS change
    FROM raw_losses
    JOIN tokens USING (dataset, context, position)
    WHERE step IN ($from_step, $to_step) AND model IN $models AND dataset IN $datasets
    GROUP BY model, dataset, token
    HAVING least(count(*) FILTER (step = $to_step), count(*) FILTER (step = $from_step)) >= $least
),
chosen AS (
    FROM types
    QUALIFY row_number() OVER (PARTITION BY model, dataset ORDER BY change, token) <= $top
        OR row_number() OVER (PARTITION BY model, dataset ORDER BY change DESC, token) <= $top
)
SELECT model, dataset, token, any_value(text) AS text, count(*) AS tokens, any_value(change) AS change,
    step, avg(loss::DOUBLE) AS mean
FROM losses
JOIN chosen USING (model, dataset, token)
WHERE model IN $models AND dataset IN $datasets
GROUP BY model, dataset, token, step
ORDER BY model, dataset, change, token, step;

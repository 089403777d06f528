-- The contexts with the highest mean loss at one step, of each model on each dataset.
-- $step step = last: the step
-- $models models = *: models to look at
-- $datasets datasets = *: datasets to look at
-- $top integer [contexts] = 20: how many to show
-- -> model, dataset, context, category, document
-- -> tokens [tokens]: losses of the context
-- -> mean [nats]: mean loss
-- -> text: how the context begins
-- e.g. trajstore query loss_by_context -p datasets=docs -p top=5
WITH means AS (
    SELECT model, dataset, context, count(*) AS tokens, avg(loss::DOUBLE) AS mean
    FROM raw_losses
    WHERE step = $step AND model IN $models AND dataset IN $datasets
    GROUP BY model, dataset, context
    QUALIFY row_number() OVER (PARTITION BY model, dataset ORDER BY mean DESC, context) <= $top
)
SELECT
    model, dataset, context, category, document, means.tokens, mean,
    text_before(dataset, context, 12, 12) AS text
FROM means
JOIN contexts USING (dataset, context)
ORDER BY model, dataset, mean DESC, context;

-- What is there of each model on each dataset, and at how many steps it has another dataset but not this one.
-- $models models = *: models to look at
-- $datasets datasets = *: datasets to look at
-- -> model, dataset
-- -> steps: number of checkpoints with a slice
-- -> first_step, last_step: first and last of them
-- -> missing: number of steps at which the model has a slice on another dataset only
-- -> partial: number of slices that lack contexts
-- -> losses: number of losses in all slices
-- e.g. trajstore query coverage -p 'models=pythia-*'
WITH there AS (
    SELECT model, dataset, step, "rows" FROM coverage WHERE model IN $models
),
every AS (
    SELECT model, count(DISTINCT step) AS steps FROM there GROUP BY model
)
SELECT
    model,
    dataset,
    count(there.step) AS steps,
    min(there.step) AS first_step,
    max(there.step) AS last_step,
    any_value(every.steps) - count(there.step) AS missing,
    count(*) FILTER (there."rows" < datasets.losses) AS partial,
    coalesce(sum(there."rows"), 0)::BIGINT AS losses
FROM every
CROSS JOIN datasets
LEFT JOIN there USING (model, dataset)
WHERE dataset IN $datasets
GROUP BY model, dataset
ORDER BY model, dataset;

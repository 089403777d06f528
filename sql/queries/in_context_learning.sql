-- The in-context-learning score by step: mean loss at a late position minus mean loss at an early one, over the
-- contexts that have both. Negative is good. Positions count from 0, and a context's first token has no loss: an array
-- of its losses has that of position 500 at [499]. For a study whose code takes loss[500] and loss[50], give 501 and 51.
-- $late integer [position] = 500: the late position, of the 501st token
-- $early integer [position] = 50: the early position, of the 51st token
-- $models models = *: models to look at
-- $datasets datasets = *: datasets to look at
-- -> model, dataset, step
-- -> contexts: number of contexts that have both positions
-- -> early_loss, late_loss [nats]: mean loss at the two positions
-- -> score [nats]: late minus early
-- e.g. trajstore query in_context_learning -p late=100 -p early=20 -p datasets=docs
WITH pairs AS (
    SELECT
        model, dataset, step,
        max(loss::DOUBLE) FILTER (position = $early) AS early_loss,
        max(loss::DOUBLE) FILTER (position = $late) AS late_loss
    FROM raw_losses
    WHERE position IN ($early, $late) AND model IN $models AND dataset IN $datasets
    GROUP BY model, dataset, step, context
    HAVING early_loss IS NOT NULL AND late_loss IS NOT NULL
)
SELECT
    model, dataset, step, count(*) AS contexts, avg(early_loss) AS early_loss, avg(late_loss) AS late_loss,
    avg(late_loss - early_loss) AS score
FROM pairs
GROUP BY model, dataset, step
ORDER BY model, dataset, step;

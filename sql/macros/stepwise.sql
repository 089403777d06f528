-- What changed between two steps: loss at the later minus loss at the earlier, nats: FROM stepwise(512, 1000).
CREATE OR REPLACE MACRO stepwise(from_step, to_step) AS TABLE
SELECT model, dataset, context, position, token, later.loss - earlier.loss AS difference
FROM (SELECT model, dataset, context, position, loss FROM raw_losses WHERE step = from_step) AS earlier
JOIN (SELECT model, dataset, context, position, loss FROM raw_losses WHERE step = to_step) AS later
    USING (model, dataset, context, position)
JOIN tokens USING (dataset, context, position);

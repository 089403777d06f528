-- What changed between two steps, beside the noise_floor of the two: FROM stepwise(512, 1000).
-- $from_step step: the earlier step
-- $to_step step: the later step
-- -> model, dataset, context, position, token
-- -> difference [nats]: loss at the later step minus loss at the earlier
-- -> noise [nats]: the larger noise of the two steps; null where it was not measured
CREATE OR REPLACE MACRO stepwise(from_step, to_step) AS TABLE
SELECT model, dataset, context, position, token, later.loss - earlier.loss AS difference, noise
FROM (SELECT model, dataset, context, position, loss FROM raw_losses WHERE step = from_step) AS earlier
JOIN (SELECT model, dataset, context, position, loss FROM raw_losses WHERE step = to_step) AS later
    USING (model, dataset, context, position)
JOIN tokens USING (dataset, context, position)
LEFT JOIN noise_floor(from_step, to_step) USING (model, dataset);

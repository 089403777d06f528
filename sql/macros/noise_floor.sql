-- What a difference between two steps may drown in: the larger noise_p99 of the two, where trajstore score --repeat-noise has measured it: FROM noise_floor(512, 1000).
-- $one_step step: a step
-- $other_step step: another
-- -> model, dataset
-- -> noise [nats]: 99th percentile of what repeating changes in a loss
CREATE OR REPLACE MACRO noise_floor(one_step, other_step) AS TABLE
SELECT model, dataset, max(value) AS noise
FROM measures
WHERE name = 'noise_p99' AND step IN (one_step, other_step)
GROUP BY ALL;

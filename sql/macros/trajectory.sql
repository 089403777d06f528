-- Mean loss of a group by model, dataset and step: FROM trajectory('digits').
-- $group_name group: the group
-- -> model, dataset, step
-- -> tokens [tokens]: losses that the mean is of
-- -> mean [nats]: mean loss
CREATE OR REPLACE MACRO trajectory(group_name) AS TABLE
SELECT model, dataset, step, count(*) AS tokens, avg(loss::DOUBLE) AS mean
FROM raw_losses
SEMI JOIN (FROM query_table('groups.' || group_name)) USING (dataset, context, position)
GROUP BY ALL
ORDER BY model, dataset, step;

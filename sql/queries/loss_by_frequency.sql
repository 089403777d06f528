-- The mean loss at one step by how often a type of token occurs in the dataset: from bin 1, the rarest types, on, each
-- bin holds about the same share of all tokens. A type lies in one bin, whole.
-- $step step = last: the step
-- $bins integer [bins] = 10: number of bins
-- $models models = *: models to look at
-- $datasets datasets = *: datasets to look at
-- -> model, dataset
-- -> bin: number of the bin
-- -> rarest, commonest [tokens]: how often its rarest and its commonest type occur in the dataset
-- -> types: number of types
-- -> tokens [tokens]: losses that the mean is of
-- -> mean [nats]: mean loss
-- e.g. trajstore query loss_by_frequency -p step=512 -p bins=5
SELECT
    model, dataset, bin, min(occurrences) AS rarest, max(occurrences) AS commonest,
    count(DISTINCT token) AS types, count(*) AS tokens, avg(loss::DOUBLE) AS mean
FROM losses
JOIN binned_types($bins) USING (dataset, token)
WHERE step = $step AND model IN $models AND dataset IN $datasets
GROUP BY model, dataset, bin
ORDER BY model, dataset, bin;

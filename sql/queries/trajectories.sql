-- The mean loss of a group's tokens by step; trajstore trajectory draws it with intervals.
-- $group group = every_token: the group
-- $align align = predict: predict for the losses of the group's tokens, after for those of the tokens that follow them
-- $models models = *: models to look at
-- $datasets datasets = *: datasets to look at
-- -> model, dataset, step
-- -> tokens [tokens]: losses that the mean is of
-- -> mean [nats]: mean loss
-- e.g. trajstore query trajectories -p group=digits -p datasets=code
SELECT model, dataset, step, tokens, mean
FROM trajectory($group, align := $align)
WHERE model IN $models AND dataset IN $datasets
ORDER BY model, dataset, step;

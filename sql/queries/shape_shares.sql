-- Which shapes a group's tokens have, by model, and medians of when and by how much their losses change.
-- $finding finding: a finding of trajstore shapes
-- $group group = every_token: take only this group's tokens
-- $align align = predict: predict for the group's tokens, after for the tokens that follow them
-- $datasets datasets = *: datasets to look at
-- -> model
-- -> tokens [tokens]: tokens of the group in the finding
-- -> s_shaped: share of them that are S-shaped, sigmoid or step
-- -> constant, line, power_law, late_drop, sigmoid, step, rise_and_fall, fall_and_rise, other: share of each shape
-- -> undecided: share of them of which no shape is said; the other shares are of all tokens, so that each may be higher by up to this
-- -> midpoint: median over S-shaped tokens of the step half-way
-- -> width: median over sigmoids of the doublings of the step that 10 to 90 % of the way take
-- -> fall [nats]: median over S-shaped tokens of the drop from plateau to plateau
-- -> acquired: median age of acquisition, a step, over tokens whose curve falls
-- -> final, forgetting, variability [nats]: medians over all of them, see the view shapes
-- e.g. trajstore query shape_shares -p finding=first -p group=stopword
SELECT
    model,
    count(*) AS tokens,
    avg((shape IN ('sigmoid', 'step'))::INT) AS s_shaped,
    avg((shape = 'constant')::INT) AS constant,
    avg((shape = 'line')::INT) AS line,
    avg((shape = 'power_law')::INT) AS power_law,
    avg((shape = 'late_drop')::INT) AS late_drop,
    avg((shape = 'sigmoid')::INT) AS sigmoid,
    avg((shape = 'step')::INT) AS step,
    avg((shape = 'rise_and_fall')::INT) AS rise_and_fall,
    avg((shape = 'fall_and_rise')::INT) AS fall_and_rise,
    avg((shape = 'other')::INT) AS other,
    avg((shape = 'undecided')::INT) AS undecided,
    median(midpoint) FILTER (shape IN ('sigmoid', 'step')) AS midpoint,
    median(width) FILTER (shape = 'sigmoid') AS width,
    median("drop") FILTER (shape IN ('sigmoid', 'step')) AS fall,
    median(acquired) AS acquired,
    median(final) AS final,
    median(forgetting) AS forgetting,
    median(variability) AS variability
FROM shapes
SEMI JOIN aligned($group, align := $align) USING (dataset, context, position)
WHERE finding = $finding AND dataset IN $datasets
GROUP BY model
ORDER BY model;

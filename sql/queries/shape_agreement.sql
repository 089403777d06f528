-- Do two models, such as seeds of one size, agree on the shapes of the same tokens, and on when they learn them?
-- $finding finding: a finding of trajstore shapes that has them
-- $models models = *: the models, compared pair by pair
-- $group group = every_token: take only this group's tokens
-- $align align = predict: predict for the group's tokens, after for the tokens that follow them
-- -> a, b: names of the models
-- -> tokens [tokens]: tokens compared
-- -> agreement: share of them with the same shape in both
-- -> kappa: Cohen's kappa: the agreement beyond that of two models with these shares of shapes by chance, 1 at most; NULL where all have one shape
-- -> s_agreement: share of them that are S-shaped in both or in neither
-- -> s_shaped [tokens]: tokens that are S-shaped in both
-- -> correlation: Pearson's, of the logarithms of their midpoints
-- -> distance: median over them of how far the midpoints are apart, in doublings of the step
-- e.g. trajstore query shape_agreement -p finding=first -p 'models=tiny-2l-*'
WITH chosen AS (
    SELECT model, dataset, context, position, shape, shape IN ('sigmoid', 'step') AS s, log2(midpoint) AS place
    FROM shapes
    SEMI JOIN aligned($group, align := $align) USING (dataset, context, position)
    WHERE finding = $finding AND model IN $models
),
pairs AS (
    SELECT
        one.model AS a, other.model AS b, one.shape AS shape_a, other.shape AS shape_b, one.s AS s_a, other.s AS s_b,
        one.place AS place_a, other.place AS place_b
    FROM chosen AS one
    JOIN chosen AS other USING (dataset, context, position)
    WHERE one.model < other.model
),
-- How many tokens have a shape in the one model, and in the other.
in_a AS (SELECT a, b, shape_a AS shape, count(*) AS of_a FROM pairs GROUP BY a, b, shape_a),
in_b AS (SELECT a, b, shape_b AS shape, count(*) AS of_b FROM pairs GROUP BY a, b, shape_b),
by_chance AS (SELECT a, b, sum(of_a * of_b) AS met FROM in_a JOIN in_b USING (a, b, shape) GROUP BY a, b),
found AS (
    SELECT
        a, b,
        count(*) AS tokens,
        coalesce(any_value(met), 0) / count(*) ^ 2 AS chance,
        avg((shape_a = shape_b)::INT) AS agreement,
        avg((s_a = s_b)::INT) AS s_agreement,
        count(*) FILTER (s_a AND s_b) AS s_shaped,
        corr(place_a, place_b) FILTER (s_a AND s_b) AS correlation,
        median(abs(place_a - place_b)) FILTER (s_a AND s_b) AS distance
    FROM pairs
    LEFT JOIN by_chance USING (a, b)
    GROUP BY a, b
)
SELECT
    a, b, tokens, agreement,
    CASE WHEN chance < 1 THEN (agreement - chance) / (1 - chance) END AS kappa,
    s_agreement, s_shaped,
    CASE WHEN isfinite(correlation) THEN correlation END AS correlation,
    distance
FROM found
ORDER BY a, b;

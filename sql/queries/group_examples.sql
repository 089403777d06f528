-- Tokens of a group drawn at random, from as many datasets and contexts as can be; trajstore group examples shows them in
-- their context.
-- $group group: the group
-- $align align = predict: predict for the group's tokens, after for the tokens that follow them
-- $datasets datasets = *: datasets to look at
-- $n integer [tokens] = 10: how many to draw
-- $seed integer = 0: another seed draws others
-- -> dataset
-- -> tokens [tokens]: tokens of the group in the dataset, or that follow one
-- -> context, position: one that was drawn; null for a dataset of which none was
-- e.g. trajstore query group_examples -p group=digits -p seed=1
WITH places AS (
    SELECT
        dataset, context, count(*) AS tokens,
        arg_min(position, hash($seed, context, position), $n) AS drawn
    FROM aligned($group, align := $align)
    LEFT JOIN contexts USING (dataset, context)
    WHERE dataset IN $datasets AND ($align = 'predict' OR position < n_tokens)
    GROUP BY dataset, context
),
-- Each context gives one token before any gives a second, and each dataset likewise.
turns AS (
    SELECT
        dataset, context, unnest(drawn) AS position,
        generate_subscripts(drawn, 1) AS turn, hash($seed, dataset, context) AS chance
    FROM places
),
chosen AS (
    SELECT dataset, context, position
    FROM turns
    ORDER BY row_number() OVER (PARTITION BY dataset ORDER BY turn, chance), hash($seed, dataset)
    LIMIT $n
)
SELECT dataset, totals.tokens, context, position
FROM (SELECT dataset, sum(tokens)::BIGINT AS tokens FROM places GROUP BY dataset) AS totals
LEFT JOIN chosen USING (dataset)
ORDER BY dataset, context, position;

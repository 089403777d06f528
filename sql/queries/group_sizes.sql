-- How many tokens a group has in each dataset; trajstore group list has the sizes of all groups.
-- $group group: the group
-- $align align = predict: predict for the group's tokens, after for the tokens that follow them
-- $datasets datasets = *: datasets to look at
-- -> dataset
-- -> tokens [tokens]: tokens of the group, or that follow one
-- -> share: of the dataset's tokens
-- -> losses [tokens]: those that have a loss, which tokens at position 0 have not
-- -> contexts: number of contexts with such a token
-- e.g. trajstore query group_sizes -p group=digits
WITH members AS (
    SELECT dataset, context, position
    FROM aligned($group, align := $align)
    LEFT JOIN contexts USING (dataset, context)
    WHERE $align = 'predict' OR position < n_tokens
)
SELECT
    dataset,
    count(members.position) AS tokens,
    count(members.position) / any_value(datasets.tokens) AS share,
    count(*) FILTER (members.position > 0) AS losses,
    count(DISTINCT members.context) AS contexts
FROM datasets
LEFT JOIN members USING (dataset)
WHERE dataset IN $datasets
GROUP BY dataset
ORDER BY dataset;

-- How many tokens a group has in each dataset; trajstore group list has the sizes of all groups.
-- $group group: the group
-- $datasets datasets = *: datasets to look at
-- -> dataset
-- -> tokens [tokens]: tokens of the group
-- -> share: of the dataset's tokens
-- -> losses [tokens]: tokens of the group that have a loss, which those at position 0 have not
-- -> contexts: number of contexts with a token of the group
-- e.g. trajstore query group_sizes -p group=digits
SELECT
    dataset,
    count(members.position) AS tokens,
    count(members.position) / any_value(datasets.tokens) AS share,
    count(*) FILTER (members.position > 0) AS losses,
    count(DISTINCT members.context) AS contexts
FROM datasets
LEFT JOIN (FROM query_table('groups.' || $group)) AS members USING (dataset)
WHERE dataset IN $datasets
GROUP BY dataset
ORDER BY dataset;

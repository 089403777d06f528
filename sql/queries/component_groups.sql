-- What part a group has in each component of a PCA; trajstore finding groups asks it of all groups.
-- $finding finding: name of the PCA
-- $group group: the group
-- $align align = predict: predict for the group's tokens, after for the tokens that follow them
-- $component integer = null: number of one component; without it all
-- -> component: number of the component, from 1
-- -> tokens [tokens]: tokens of the group among the PCA's columns
-- -> mean: their mean loading; null without any
-- -> share: of the squared loadings, which add up to 1 over all tokens
-- -> expected: that share if the component were spread evenly over all tokens
-- e.g. trajstore query component_groups -p finding=first -p group=digits
WITH members AS (
    SELECT DISTINCT dataset, context, position, true AS inside
    FROM aligned($group, align := $align)
)
SELECT
    component,
    count(inside) AS tokens,
    avg(loading::DOUBLE) FILTER (inside) AS mean,
    coalesce(sum(loading::DOUBLE ** 2) FILTER (inside), 0) / sum(loading::DOUBLE ** 2) AS share,
    count(inside) / count(*) AS expected
FROM pca_loadings
LEFT JOIN members USING (dataset, context, position)
WHERE finding = $finding AND component = coalesce($component, component)
GROUP BY component
ORDER BY component;

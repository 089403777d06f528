-- The local learning coefficient of a group's own losses, from estimates of llc: nβ times the mean loss that drawn weights add to its tokens.
-- $group group: the group
-- $models models = *: models to look at
-- $datasets datasets = *: datasets to look at
-- -> model, dataset, step
-- -> layer: block whose weights were drawn; null for all weights
-- -> head: head whose weights were drawn; null for all of the block
-- -> tokens [tokens]: tokens of the group in the contexts that were drawn
-- -> llc: the group's coefficient
-- -> llc_all: that of all tokens of these contexts
-- e.g. trajstore query group_llc -p group=digits
WITH members AS (SELECT dataset, context, position FROM aligned($group, align := 'predict'))
SELECT
    model, dataset, step, layer, head,
    count(members.position) AS tokens,
    avg((params ->> 'nbeta')::DOUBLE * added) FILTER (members.position IS NOT NULL) AS llc,
    avg((params ->> 'nbeta')::DOUBLE * added) AS llc_all
FROM llc_tokens
LEFT JOIN members USING (dataset, context, position)
WHERE model IN $models AND dataset IN $datasets
GROUP BY model, dataset, step, layer, head
ORDER BY model, dataset, step, layer NULLS FIRST, head NULLS FIRST;

-- Tokens inside a span that occurs in several contexts of the dataset, each time that it occurs, the first included: phrases that a model may know by heart. FROM in_shared_span(50, 2).
-- $length integer [tokens]: tokens of the shortest span that counts
-- $least integer [contexts]: how many contexts it occurs in at least
-- -> dataset, context, position
CREATE OR REPLACE MACRO in_shared_span(length, least) AS TABLE
SELECT dataset, context, unnest(range(
    position,
    least(position + length, lead(position, 1, position + length) OVER (PARTITION BY dataset, context ORDER BY position))
))::INTEGER AS position
FROM all_spans(length)
JOIN (
    SELECT dataset, span
    FROM all_spans(length)
    GROUP BY dataset, span
    HAVING count(DISTINCT context) >= least
) USING (dataset, span);

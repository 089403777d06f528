-- Tokens inside a span that occurred earlier in the same context: FROM in_repeated_span(8). All tokens of the later occurrences are in it, the first ones too, which nothing could tell yet; none of the first occurrence, unless the two overlap, as in a run of one token.
-- $length integer [tokens]: tokens of the shortest span that counts
-- -> dataset, context, position
CREATE OR REPLACE MACRO in_repeated_span(length) AS TABLE
SELECT dataset, context, unnest(range(
    position,
    least(position + length, lead(position, 1, position + length) OVER (PARTITION BY dataset, context ORDER BY position))
))::INTEGER AS position
FROM (
    SELECT dataset, context, position
    FROM all_spans(length)
    QUALIFY row_number() OVER (PARTITION BY dataset, context, span ORDER BY position) > 1
);

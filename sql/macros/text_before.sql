-- The text of the n tokens before a position: SELECT text_before('docs', 0, 17, 5).
-- $in_dataset dataset: the dataset
-- $in_context integer [context]: the context
-- $at_position integer [position]: the position
-- $n integer [tokens]: how many tokens before it
CREATE OR REPLACE MACRO text_before(in_dataset, in_context, at_position, n) AS (
    SELECT string_agg(text, '' ORDER BY position)
    FROM tokens
    WHERE dataset = in_dataset AND context = in_context AND position < at_position AND position >= at_position - n
);

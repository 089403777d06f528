-- Tokens of what a regular expression (RE2) finds in the text of each context, be it one token or many: FROM matching('(?i)chapter [0-9]+').
-- $pattern text: what to look for in the text of each context
-- $part text = null: where only a part of each match is meant, a pattern of the match from its start with two groups: what stands before that part, and the part; matches that it does not fit are passed over
-- -> dataset, context, position
CREATE OR REPLACE MACRO matching(pattern, part := NULL) AS TABLE
SELECT dataset, context, unnest(found_tokens(mask, holders, byte_holders, widths)) AS position
FROM match_masks(pattern, part := part);

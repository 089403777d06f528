-- Tokens at one position of each context: FROM position_is(499) is the 500th token of each.
-- $at integer [position]: the position, counted from 0
-- -> dataset, context, position
CREATE OR REPLACE MACRO position_is(at) AS TABLE
SELECT dataset, context, position
FROM tokens
WHERE position = "at";

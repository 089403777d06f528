-- Tokens at one position of each context: FROM position_is(499) is the 500th token of each. Positions count from 0, and an array of a context's losses, which lacks that of the first token, has position 500 at [499].
-- $at integer [position]: the position, counted from 0
-- -> dataset, context, position
CREATE OR REPLACE MACRO position_is(at) AS TABLE
SELECT dataset, context, position
FROM tokens
WHERE position = "at";

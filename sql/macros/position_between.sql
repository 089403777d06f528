-- Tokens from one position to another of each context: FROM position_between(100, 199).
-- $low integer [position]: the first position, counted from 0
-- $high integer [position]: the last position
-- -> dataset, context, position
CREATE OR REPLACE MACRO position_between(low, high) AS TABLE
SELECT dataset, context, position
FROM tokens
WHERE position BETWEEN low AND high;

-- Tokens that copying would predict: the token that followed the previous occurrence of the previous token, and it is this one.
WITH pairs AS (
    SELECT dataset, context, position, token,
        lag(token) OVER (PARTITION BY dataset, context ORDER BY position) AS previous
    FROM tokens
)
SELECT dataset, context, position
FROM pairs
WHERE previous IS NOT NULL
QUALIFY token = lag(token) OVER (PARTITION BY dataset, context, previous ORDER BY position);

-- Tokens that occur once in their dataset.
SELECT dataset, any_value(context) AS context, any_value(position) AS position
FROM tokens
GROUP BY dataset, token
HAVING count(*) = 1;

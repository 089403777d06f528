-- Tokens that did not occur earlier in the same context.
SELECT dataset, context, min(position) AS position
FROM tokens
GROUP BY dataset, context, token;

-- The first half of each context: positions below half of its number of tokens.
SELECT dataset, context, position
FROM tokens
JOIN contexts USING (dataset, context)
WHERE 2 * position < n_tokens;

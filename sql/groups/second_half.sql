-- The second half of each context: positions from half of its number of tokens on.
SELECT dataset, context, position
FROM tokens
JOIN contexts USING (dataset, context)
WHERE 2 * position >= n_tokens;

-- Tokens that occurred earlier in the same context.
SELECT dataset, context, position
FROM tokens
QUALIFY row_number() OVER (PARTITION BY dataset, context, token ORDER BY position) > 1;

-- Every token of every context.
SELECT dataset, context, position
FROM tokens;

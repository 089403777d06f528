-- Tokens that copying predicts wrongly: the token before occurred earlier in the context, and the token that followed it the last time is another one.
SELECT dataset, context, position
FROM copying(1)
WHERE token <> predicted;

-- Tokens that copying from two tokens predicts: the two tokens before occurred together earlier in the context, and the token that followed them the last time is this one.
SELECT dataset, context, position
FROM copying(2)
WHERE token = predicted;

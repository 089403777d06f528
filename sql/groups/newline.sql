-- Tokens that hold a line break.
SELECT dataset, context, position
FROM tokens
WHERE contains(text, chr(10));

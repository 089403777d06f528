-- Tokens made of digits alone (0 to 9), with or without whitespace before them.
SELECT dataset, context, position
FROM tokens
WHERE regexp_full_match(text, '\s*[0-9]+');

-- Tokens whose first letter is a capital, where nothing but whitespace stands before it.
SELECT dataset, context, position
FROM tokens
WHERE regexp_matches(text, '^\s*\p{Lu}');

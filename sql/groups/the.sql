-- The word "the" as one token, in any case of letters, with or without a space before it.
SELECT dataset, context, position
FROM tokens
WHERE regexp_full_match(text, '\s*the', 'i');
